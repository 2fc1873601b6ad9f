"""The fault plan: what is done to a running server, and what must hold meanwhile."""
