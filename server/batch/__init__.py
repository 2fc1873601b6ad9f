"""`python -m server.batch`: files scored row by row, here or on a Ray cluster."""
