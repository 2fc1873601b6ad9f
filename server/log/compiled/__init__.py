"""Lines of the prediction log by machine code."""
