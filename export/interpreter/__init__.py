"""A model read by the interpreter of its own environment, where the versions are that it was saved with."""
