"""How much each feature moves the score: which fields of a wide model come first."""

import numpy as np

from server.model.predictor import Predictor

#: Golden rows that are tried; more would only say the same more slowly.
_ROWS = 100
_SEED = 0


def importances(predictor: Predictor) -> dict[str, float]:
    """By feature, how far the margin moves on average when a golden row takes another's value.

    Permutation importance (Breiman, Random Forests, 2001) of the score itself: no
    outcome is known here.
    """
    schema = predictor.bundle.schema
    golden = [np.frombuffer(schema.encode(g.fields)) for g in predictor.bundle.golden_rows()]
    rows = np.array(golden[:_ROWS])
    order = np.random.default_rng(_SEED).permutation(len(rows))
    margins = predictor.margins(rows)
    found = {}
    for i, name in enumerate(schema.names):
        changed = rows.copy()
        changed[:, i] = rows[order, i]
        found[name] = float(np.abs(predictor.margins(changed) - margins).mean())
    return found


def ranked(predictor: Predictor) -> list[str]:
    """The features' names, the one that moves the score most first."""
    found = importances(predictor)
    return sorted(found, key=lambda name: -found[name])
