"""Tables that people bring: which column is which feature, and what a cell means."""
