"""How the groups of held-out rows would be decided at other limits."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.evaluation.cost import Vector

#: The rows of each part of a group.
Masks: TypeAlias = Mapping[str, npt.NDArray[np.bool_]]
#: Limits that are counted at, and of very many groups how few, so that a manifest stays small.
LIMITS, LEAST_LIMITS, _MOST_COUNTS = 60, 5, 10_000
_DIGITS = 3


def counts_by_limit(
    target: Vector, scores: Vector, groups: Mapping[str, Masks], threshold: float
) -> dict[str, Any]:
    """Of each part of each group how many would be refused at each of `limits`, which rise.

    The counts are those of `decisions`: of the rows without the outcome and of those with it. One of the
    limits is `threshold`. A part without rows is left out.
    """
    limits = _limits(scores, threshold, sum(map(len, groups.values())))
    return {
        "limits": limits.tolist(),
        "groups": {
            name: {
                label: {
                    "rows": int(members.sum()),
                    "defaults": int(target[members].sum()),
                    "false_positive": _refused(scores[members & (target == 0)], limits),
                    "true_positive": _refused(scores[members & (target == 1)], limits),
                }
                for label, members in parts.items()
                if members.any()
            }
            for name, parts in groups.items()
        },
    }


def _limits(scores: Vector, threshold: float, parts: int) -> Vector:
    """Between two neighbours lie about equally many rows; in few digits, as no row's score need be told."""
    count = min(LIMITS, max(LEAST_LIMITS, _MOST_COUNTS // (2 * max(1, parts))))
    shares = [float(f"{score:.{_DIGITS}g}") for score in np.quantile(scores, np.linspace(0, 1, count))]
    return np.unique([*(share for share in shares if 0 < share < 1), threshold])


def _refused(scores: Vector, limits: Vector) -> list[int]:
    found: list[int] = (len(scores) - np.searchsorted(np.sort(scores), limits)).tolist()
    return found
