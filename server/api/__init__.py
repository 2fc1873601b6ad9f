"""The ASGI app: its routes, bodies, documents and error responses."""
