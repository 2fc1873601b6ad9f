"""The trained model itself: the ground truth a graph is compared with."""

from typing import Protocol

from server.model.predictor import Margins
from server.model.schema import Matrix


class Source(Protocol):
    """Predicts with the library that trained the model, on encoded rows float64 [n, F]."""

    def margins(self, rows: Matrix) -> Margins:
        """Raw scores, float64 [n], or [n, K] of K classes."""

    def outputs(self, rows: Matrix) -> Margins:
        """Scores after the link, float64 [n], or [n, K] of K classes."""
