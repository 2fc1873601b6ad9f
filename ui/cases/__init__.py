"""Cases to decide: examples, suppositions, and what would turn them."""
