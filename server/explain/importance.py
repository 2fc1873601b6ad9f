"""How much each feature moves a model's score: which fields of a form come first, which drift matters."""

import numpy as np

from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.schema import Matrix

#: Golden rows that the order is told by; more would only say the same more slowly.
ROWS = 100


def reference_rows(bundle: Bundle) -> Matrix:
    """The golden rows, float64 [k, F]: what rows looked like when nothing was wrong."""
    return np.array([np.frombuffer(bundle.schema.encode(row.fields)) for row in bundle.golden_rows()])


def importance(predictor: Predictor, rows: Matrix) -> dict[str, float]:
    """The share of each feature in how far the margin moves when values are shuffled.

    For rows float64 [n, F], one feature at a time is permuted among them
    (Breiman, Random Forests, 2001, here without a target: what moves the score is
    what matters for its drift). The shares add up to 1. Of rows in which a feature is
    stuck or missing it would be 0 for that one, so they should be reference rows.
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


def ranked(predictor: Predictor) -> dict[str, float]:
    """The features' shares among reference rows (`importance`), the one that moves the score most first."""
    found = importance(predictor, reference_rows(predictor.bundle)[:ROWS])
    return dict(sorted(found.items(), key=lambda item: -item[1]))
