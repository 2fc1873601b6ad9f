"""Servers, clients and requests for a load; what the tests use too."""
