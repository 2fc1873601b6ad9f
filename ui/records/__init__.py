"""One decision as people need it: found by its number, computed again, printed, and looked at by a person."""
