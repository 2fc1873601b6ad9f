"""Three applicants for the form: one safe, one borderline, one risky, and really so."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from export.evaluation.cost import Vector
from train.errors import TrainingRefused
from train.golden import encode, synthetic_rows
from train.tables.features import SCHEMA

Score: TypeAlias = Callable[[Any], Vector]

SEARCHED = 4000
#: Not the golden rows' seed: the examples should be people of their own.
SEED = 20_261
#: Features an example may lack: most applicants have no card at the lender.
_MAY_BE_MISSING = {"CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean"}
#: The safest of a hundred and the riskiest of fifty, not of thousands: applicants one meets,
#: whose decision something can turn.
SAFE_QUANTILE, RISKY_QUANTILE = 0.01, 0.98


def find_examples(probabilities: Score, threshold: float) -> list[dict[str, Any]]:
    """The examples of a bundle, each with `name`, `title` and the `row` a client would send.

    `probabilities` scores encoded rows, float64 [n, F] -> [n]. The safe applicant
    is accepted far below the threshold, the borderline one accepted closest to
    it, the risky one refused far above. Raises `TrainingRefused` when no
    applicant is accepted or none refused: such a threshold decides nothing.
    """
    rows = [row for row in synthetic_rows(SEARCHED, SEED) if set(SCHEMA.names) - set(row) <= _MAY_BE_MISSING]
    scores = probabilities(encode(rows))
    return choose(rows, scores, threshold)


def choose(rows: list[dict[str, Any]], scores: Vector, threshold: float) -> list[dict[str, Any]]:
    """Of rows with their scores the examples; see `find_examples`."""
    accepted = np.flatnonzero(scores < threshold)
    refused = np.flatnonzero(scores >= threshold)
    if not len(accepted) or not len(refused):
        raise TrainingRefused(
            f"expected a threshold that refuses some applicants and accepts others, got {threshold:g}: "
            "choose other costs with --fn-cost and --fp-cost"
        )
    chosen = {
        "safe": (
            "Far below the limit",
            _nearest(scores, accepted, float(np.quantile(scores, SAFE_QUANTILE))),
        ),
        "borderline": ("Just below the limit", _nearest(scores, accepted, threshold)),
        "risky": (
            "Far above the limit",
            _nearest(scores, refused, float(np.quantile(scores, RISKY_QUANTILE))),
        ),
    }
    return [{"name": name, "title": title, "row": rows[i]} for name, (title, i) in chosen.items()]


def _nearest(scores: Vector, among: Any, wanted: float) -> int:
    return int(among[np.argmin(np.abs(scores[among] - wanted))])
