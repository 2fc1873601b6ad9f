"""How far rows have moved from those of the training."""
