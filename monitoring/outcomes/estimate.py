"""What outcomes are to be expected before any came, from scores that mean what they say.

Confidence-based performance estimation (CBPE; NannyML's term): if a score of 0.2
is a default in one of five, the scores alone tell the default rate, Brier score and
AUC to come. It cannot see that the scores have come to mean something else.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import poisson  # type: ignore[import-untyped]  # SciPy ships no types

from monitoring.outcomes.measures import UNKNOWN, Interval, Vector

#: Scores are told apart to this.
STEP = 1e-4
#: Outcomes are drawn so often, to see how far chance moves the AUC.
DRAWS = 200
CONFIDENCE = 0.99


@dataclass(frozen=True)
class Expected:
    """What `rows` scores promise, each figure with where chance alone leaves it with `CONFIDENCE`."""

    rows: int
    rate: Interval
    brier: Interval
    auc: Interval
    cost: Interval

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        figures = {"rate": self.rate, "brier": self.brier, "auc": self.auc, "cost": self.cost}
        return {"rows": self.rows} | {name: figure.to_dict() for name, figure in figures.items()}


def expected(score: Vector, count: Vector, accepted: Vector, costs: tuple[float, float]) -> Expected:
    """What to expect of `count` rows of each `score`, ascending, of which so many were `accepted`.

    `costs` are those of a missed outcome and of a false alarm; all arrays float64 [k].
    """
    n = float(count.sum())
    if not n:
        return Expected(0, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    chance = score * (1 - score)
    missed, alarmed = costs
    rejected = count - accepted
    cost = (missed * accepted * score + alarmed * rejected * (1 - score)).sum() / n
    spread = ((missed**2 * accepted + alarmed**2 * rejected) * chance).sum()
    squares = (count * chance * (1 - 2 * score) ** 2).sum()
    return Expected(
        rows=int(n),
        rate=_rate(score, count),
        brier=_around(float((count * chance).sum()) / n, math.sqrt(squares) / n),
        auc=_auc(score, count),
        cost=_around(float(cost), math.sqrt(spread) / n, math.inf),
    )


def _rate(score: Vector, count: Vector) -> Interval:
    """The share of ones, between the quantiles of a Poisson distribution moved to the mean.

    It has their variance, is skewed as a count of few is, and stays within none and all. Wilson's
    interval is of another question: around a promised 1 in 20 it leaves out that none of 20 comes.
    Source: A. Röllin, Translated Poisson approximation, Annals of Applied Probability 17 (2007).
    """
    n, mean = float(count.sum()), float((count * score).sum())
    if mean > n / 2:
        rest = _rate(1 - score, count)
        return Interval(1 - rest.value, 1 - rest.high, 1 - rest.low)
    variance, tail = float((count * score * (1 - score)).sum()), (1 - CONFIDENCE) / 2
    low, high = (mean - variance + poisson.ppf([tail, 1 - tail], variance)).tolist()
    # Of a whole number of ones, so the ends are whole, too.
    return Interval(mean / n, max(0, math.floor(low)) / n, min(n, math.ceil(high)) / n)


def _auc(score: Vector, count: Vector) -> Interval:
    drawn = np.random.default_rng(0).binomial(count.astype(np.int64), score, (DRAWS, len(score)))
    found = [_area(positive, count - positive) for positive in drawn.astype(np.float64)]
    told = [value for value in found if not math.isnan(value)]
    if len(told) < DRAWS // 2:
        return UNKNOWN
    return _around(_area(count * score, count * (1 - score)), float(np.std(told)))


def _area(positive: Vector, negative: Vector) -> float:
    """The AUC of rows in ascending order of their score, equal scores together."""
    pairs = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / pairs) if pairs else math.nan


def _around(value: float, deviation: float, most: float = 1.0) -> Interval:
    """Cut off at 0 and `most`, beyond which no figure lies."""
    found = Interval.around(value, deviation, CONFIDENCE)
    return Interval(value, max(0.0, found.low), min(most, found.high))
