"""Publishing a model folder for a running server."""
