"""Monitoring: what the prediction log and the metrics tell."""
