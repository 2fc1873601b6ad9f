"""Scoring the rows of requests with the models that are served."""
