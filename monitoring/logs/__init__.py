"""The prediction log, read: its files, its lines as a table, proof that none is lost, erasure and replay."""
