"""How much each feature moves a model's score, and how much of its present shift does."""

from collections.abc import Iterable

import numpy as np

from server.model.bundle import Bundle
from server.model.link import Margins
from server.model.predictor import Predictor
from server.model.schema import Matrix


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


def effects(predictor: Predictor, rows: Matrix, reference: Matrix, names: Iterable[str]) -> dict[str, float]:
    """How far the margins of rows, float64 [n, F], come when one feature is put back to reference values.

    Values are drawn from the reference rows, float64 [k, F]; the distance is that of
    the two distributions of the margin (Wasserstein's, in log-odds of a binary
    model): a shift that the score does not feel has none.
    """
    random = np.random.default_rng(0)
    before, found = _sorted(predictor.margins(rows)), {}
    for name in names:
        i = predictor.bundle.schema.names.index(name)
        back = rows.copy()
        back[:, i] = random.choice(reference[:, i], len(rows))
        found[name] = float(np.abs(_sorted(predictor.margins(back)) - before).mean())
    return found


def _sorted(margins: Margins) -> Margins:
    ordered: Margins = np.sort(margins, axis=0)
    return ordered
