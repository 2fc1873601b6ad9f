"""What decisions cost, and the threshold at which they cost least."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Vector: TypeAlias = npt.NDArray[np.float64]

#: Thresholds tried: quantiles of the scores, this many of them.
CANDIDATES = 1000
#: Six decimals are finer than any score is known, and short enough to be read.
THRESHOLD_DECIMALS = 6


@dataclass(frozen=True)
class Costs:
    """Relative costs: one missed default, one good client refused."""

    missed_default: float = 10.0
    refused_good: float = 1.0

    @property
    def analytic_threshold(self) -> float:
        """`C_FP / (C_FP + C_FN)`: the cheapest threshold if scores are true probabilities.

        Source: C. Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001.
        """
        return self.refused_good / (self.refused_good + self.missed_default)


def cost_per_client(target: npt.ArrayLike, scores: npt.ArrayLike, thresholds: Vector, costs: Costs) -> Vector:
    """The mean cost of a client at each threshold, float64 [len(thresholds)].

    A client is refused when the score is at or above the threshold, as
    `Predictor.predict` decides. `target` holds 0 and 1, `scores` probabilities.
    """
    target, scores = np.asarray(target), np.asarray(scores)
    bad, good = np.sort(scores[target == 1]), np.sort(scores[target == 0])
    missed = np.searchsorted(bad, thresholds, side="left")
    refused = len(good) - np.searchsorted(good, thresholds, side="left")
    total: Vector = costs.missed_default * missed + costs.refused_good * refused
    return total / len(target)


def candidate_thresholds(scores: Vector) -> Vector:
    """Ascending thresholds worth trying, from "refuse all" (0) to "accept all" (1)."""
    inner = np.round(np.quantile(scores, np.linspace(0, 1, CANDIDATES + 1)), THRESHOLD_DECIMALS)
    return np.unique(np.concatenate([[0.0], inner, [1.0]]))


def cheapest(target: Vector, scores: Vector, costs: Costs) -> tuple[float, float]:
    """The threshold of least cost, and that cost a client.

    `scores` is [repeats, n]: scores of the same n clients from repeated
    cross-validation. The costs of the repeats are averaged before the minimum is
    taken, because one repeat's curve is jagged and its lowest point is luck.
    """
    thresholds = candidate_thresholds(scores)
    curve = np.mean([cost_per_client(target, repeat, thresholds, costs) for repeat in scores], axis=0)
    # Equal minima are neighbours; their middle is farthest from the next client.
    lowest = np.flatnonzero(curve == curve.min())
    index = int(lowest[len(lowest) // 2])
    return float(thresholds[index]), float(curve[index])


def cost_curve(target: Vector, scores: Vector, costs: Costs, points: int) -> list[dict[str, Any]]:
    """About `points` points of cost by threshold, for a plot."""
    thresholds = candidate_thresholds(scores)
    chosen = thresholds[np.unique(np.linspace(0, len(thresholds) - 1, points).astype(int))]
    curve = cost_per_client(target, scores, chosen, costs)
    return [
        {"threshold": round(t, 6), "cost": round(c, 6)}
        for t, c in zip(chosen.tolist(), curve.tolist(), strict=True)
    ]
