"""Counters in shared memory, and what is shown of them."""
