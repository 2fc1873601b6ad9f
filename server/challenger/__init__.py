"""Scores what was answered once more, with the challenger of the model that answered."""
