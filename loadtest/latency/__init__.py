"""Requests on a schedule of their own."""
