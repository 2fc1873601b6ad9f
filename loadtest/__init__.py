"""The optimisation loop: load, record, measure, compare."""
