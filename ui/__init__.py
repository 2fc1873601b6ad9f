"""The page: the server's app with a form in front of it."""
