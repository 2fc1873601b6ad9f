"""Load, record, compare."""
