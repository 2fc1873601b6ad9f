"""The processes of a server: one or many, their life and their models."""
