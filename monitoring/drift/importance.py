"""How much each feature moves a model's score."""

import numpy as np

from server.model.predictor import Predictor
from server.model.schema import Matrix


def importance(predictor: Predictor, rows: Matrix) -> dict[str, float]:
    """The share of each feature in how far the margin moves when values are shuffled.

    For rows float64 [n, F], one feature at a time is permuted among them
    (Breiman, Random Forests, 2001, here without a target: what moves the score is
    what matters for its drift). The shares add up to 1.
    """
    random = np.random.default_rng(0)
    margins = predictor.margins(rows)
    moved = []
    for i in range(rows.shape[1]):
        shuffled = rows.copy()
        shuffled[:, i] = random.permutation(rows[:, i])
        moved.append(float(np.abs(predictor.margins(shuffled) - margins).mean()))
    total = sum(moved) or 1.0
    return {name: value / total for name, value in zip(predictor.bundle.schema.names, moved, strict=True)}
