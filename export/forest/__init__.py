"""Forests as every library means them, the graph they become, and the rows they are compared on."""
