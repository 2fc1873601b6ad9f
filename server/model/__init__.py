"""A model folder, its schema, and the scoring of one row: what every other part builds on."""
