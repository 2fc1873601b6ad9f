"""What can be wrong with the training data and its options."""

from server.errors import HotrowError


class DataError(HotrowError):
    """A file of the training data is missing, damaged or not what was asked for."""


class TrainingRefused(HotrowError):
    """The data can be read, but no honest model can be trained on it."""
