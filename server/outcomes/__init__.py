"""What became of decisions, as programs and people tell it: read, and written down beside the log."""
