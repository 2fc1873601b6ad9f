"""The report on a log."""
