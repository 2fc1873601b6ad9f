"""How good scores were, by the outcomes that came: discrimination, calibration, cost, with intervals.

`outcome` is 0 or 1, `score` the probability of 1, both float64 [n], where nothing else is said.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata  # type: ignore[import-untyped]  # SciPy ships no types

Vector = npt.NDArray[np.float64]
CONFIDENCE = 0.95
#: Outcomes of a challenge at which its bounds are tightest.
TIGHTEST_AT = 1000


@dataclass(frozen=True)
class Interval:
    """A figure, and between what it lies with `CONFIDENCE`; NaN where it cannot be told."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def around(cls, value: float, deviation: float, confidence: float = CONFIDENCE) -> "Interval":
        """Of a figure with this standard deviation, taken for normal."""
        reach = float(norm.ppf((1 + confidence) / 2)) * deviation
        return cls(value, value - reach, value + reach)

    @property
    def deviation(self) -> float:
        """The standard deviation that `around` was given, with `CONFIDENCE`."""
        return (self.high - self.low) / 2 / float(norm.ppf((1 + CONFIDENCE) / 2))

    def words(self, digits: int) -> str:
        """With so many digits behind the point, and the ends in brackets."""
        return self._words(lambda value: f"{value:.{digits}f}")

    def significant(self) -> str:
        """The same with four digits, of figures of any size."""
        return self._words(lambda value: f"{value:.4g}")

    def _words(self, form: Callable[[float], str]) -> str:
        if math.isnan(self.value):
            return "–"
        between = "" if math.isnan(self.low) else f" ({form(self.low)}–{form(self.high)})"
        return form(self.value) + between

    def to_dict(self) -> dict[str, float | None]:
        """As plain values; None for what cannot be told."""
        return known({"value": self.value, "low": self.low, "high": self.high})


def known(figures: Mapping[str, float]) -> dict[str, float | None]:
    """The figures for JSON: None for what cannot be told."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def marked(value: float, digits: int) -> str:
    """A figure without ends in words, a dash for what cannot be told."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


UNKNOWN = Interval(math.nan)


def mean(values: Vector) -> Interval:
    """The mean of values, float64 [n]; without ends of one alone."""
    if len(values) < 2:
        return Interval(float(values.mean())) if len(values) else UNKNOWN
    return Interval.around(float(values.mean()), float(values.std()) / math.sqrt(len(values)))


def auc(score: Vector, outcome: Vector) -> Interval:
    """The area under the ROC curve, ties counted half; NaN unless both outcomes came.

    Source of the interval: E. DeLong, D. DeLong, D. Clarke-Pearson, Biometrics 44 (1988),
    with the midranks of X. Sun, W. Xu, IEEE Signal Processing Letters 21 (2014).
    """
    fewest = _fewest(outcome)
    if not fewest:
        return UNKNOWN
    above, below = _placements(score, outcome)
    value = float(above.mean())
    if fewest < 2:
        return Interval(value)
    found = Interval.around(value, _deviation(above, below))
    return Interval(value, max(0.0, found.low), min(1.0, found.high))


def _fewest(outcome: Vector) -> int:
    """The rows of the rarer outcome."""
    return min(int((outcome == 1).sum()), int((outcome == 0).sum()))


def _placements(score: Vector, outcome: Vector) -> tuple[Vector, Vector]:
    """Of each bad row the share of good ones below it, of each good row that of bad ones above it.

    Ties count half; the mean of either is the area.
    """
    bad, good = score[outcome == 1], score[outcome == 0]
    ranks = rankdata(np.concatenate([bad, good]))
    above = (ranks[: len(bad)] - rankdata(bad)) / len(good)
    below = 1 - (ranks[len(bad) :] - rankdata(good)) / len(bad)
    return above, below


def _deviation(above: Vector, below: Vector) -> float:
    return math.sqrt(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below))


def macro_auc(score: Vector, came: npt.NDArray[np.bool_]) -> Interval:
    """The mean of the classes' areas against the rest; NaN unless each class came, and none alone.

    `score` and `came` are [n, classes]. One row counts in the area of every class, so
    the deviation is that of the sum of its placements.
    """
    n, classes = score.shape
    if not all(0 < rows < n for rows in came.sum(axis=0)):
        return UNKNOWN
    areas, influence = np.empty(classes), np.zeros(n)
    for k in range(classes):
        above, below = _placements(score[:, k], came[:, k].astype(np.float64))
        areas[k] = above.mean()
        influence[came[:, k]] += (above - above.mean()) / len(above)
        influence[~came[:, k]] += (below - below.mean()) / len(below)
    found = Interval.around(float(areas.mean()), float(np.sqrt((influence**2).sum())) / classes)
    return Interval(found.value, max(0.0, found.low), min(1.0, found.high))


def auc_below(curve: Vector, bad: int, good: int, at: tuple[float, float]) -> Interval:
    """The area of the rows below a threshold alone, of which so many are bad and good.

    `curve` is the ROC curve of all rows, float64 [points, 2] of false and true positive rates, and
    `at` its point at the threshold: what lies beyond is the curve of the rows below, stretched.
    Source of the deviation: J. Hanley, B. McNeil, Radiology 143 (1982), formula 1.
    """
    beyond = np.vstack([at, curve[(curve >= at).all(axis=1)], (1.0, 1.0)])
    false, true = (beyond - at).T / np.subtract(1.0, at)[:, None]
    area = float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))
    of_bad, of_good = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (bad - 1) * (of_bad - area**2) + (good - 1) * (of_good - area**2)
    return Interval.around(area, math.sqrt(spread / (bad * good)))


def auc_difference(score: Vector, other: Vector, outcome: Vector) -> Interval:
    """The area of `score` less that of `other` on the same rows, with DeLong's interval for the pair."""
    if _fewest(outcome) < 2:
        return UNKNOWN
    pairs = zip(_placements(score, outcome), _placements(other, outcome), strict=True)
    above, below = (mine - theirs for mine, theirs in pairs)
    return Interval.around(float(above.mean()), _deviation(above, below))


def at_every_look(values: Vector) -> Interval:
    """The mean, and bounds that hold at every look at a growing sample at once, with `CONFIDENCE`.

    So whoever looks each day and stops when 0 is outside is wrong no more often than promised.
    Source: I. Waudby-Smith et al., Time-uniform central limit theory and asymptotic confidence
    sequences (2021), theorem 2.2, tightest at `TIGHTEST_AT` values.
    """
    n, alpha = len(values), 1 - CONFIDENCE
    squared = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / TIGHTEST_AT
    grown = n * squared + 1
    reach = math.sqrt(2 * grown / (n * n * squared) * math.log(math.sqrt(grown) / alpha))
    mean, deviation = float(values.mean()), float(values.std())
    return Interval(mean, mean - reach * deviation, mean + reach * deviation)


def ks(score: Vector, outcome: Vector) -> float:
    """The largest distance between the cumulative scores of the two outcomes; NaN unless both came."""
    bad, good = np.sort(score[outcome == 1]), np.sort(score[outcome == 0])
    if not len(bad) or not len(good):
        return math.nan
    at = np.unique(score)
    reached = [np.searchsorted(part, at, side="right") / len(part) for part in (bad, good)]
    return float(np.abs(reached[0] - reached[1]).max())


def brier(score: Vector, outcome: Vector) -> Interval:
    """The mean squared distance of the score from the outcome."""
    return mean((score - outcome) ** 2)


def rate(count: float, n: int) -> Interval:
    """A share of n, with Wilson's interval (E. Wilson, JASA 22, 1927)."""
    if not n:
        return UNKNOWN
    z, p = float(norm.ppf((1 + CONFIDENCE) / 2)), count / n
    middle, scale = (p + z * z / (2 * n)), 1 + z * z / n
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale))


def calibration_bins(score: Vector, outcome: Vector) -> list[dict[str, float]]:
    """Mean score and share of outcomes of tenths of the rows, from the lowest scores on."""
    order = np.argsort(score, kind="stable")
    parts = [part for part in np.array_split(order, 10) if len(part)]
    return [
        {"n": len(part), "score": float(score[part].mean()), "rate": float(outcome[part].mean())}
        for part in parts
    ]


def surprise(score: Vector, outcome: Vector) -> float:
    """How many standard deviations more outcomes came than the scores promised.

    Source: D. Spiegelhalter, Statistics in Medicine 5 (1986), for the sum instead of the Brier score.
    """
    deviation = math.sqrt(float((score * (1 - score)).sum()))
    return float(outcome.sum() - score.sum()) / deviation if deviation else 0.0
