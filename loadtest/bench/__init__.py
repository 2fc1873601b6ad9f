"""What a response costs, beside others."""
