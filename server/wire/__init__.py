"""From a connection's bytes to a request, on the fast path or for the ASGI app."""
