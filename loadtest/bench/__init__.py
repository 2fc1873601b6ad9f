"""What an answer costs, beside others."""
