"""Groups of people where no decision is the favourable one: mean values, shares of each class.

What groups should be is nobody's rule here, so none is called adverse.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from monitoring.outcomes import measures
from monitoring.outcomes.groups import GroupOutcomes
from monitoring.outcomes.measures import UNKNOWN, Interval


@dataclass(frozen=True)
class ValueGroup:
    """One group's `n` predictions in the mean; of those with an outcome how far they are from it.

    `bias` is how much too high they are in the mean.
    """

    name: str
    n: int
    mean: Interval
    outcomes: int = 0
    mean_outcome: Interval = UNKNOWN
    mae: Interval = UNKNOWN
    bias: Interval = UNKNOWN
    adverse: ClassVar = False
    verdict: ClassVar = ""

    @property
    def columns(self) -> Sequence[str]:
        """What `cells` are called."""
        return ("group", "n", "prediction", "outcomes", "outcome", "MAE", "bias")

    def cells(self) -> Iterator[str]:
        """The figures in words."""
        yield from (self.name, f"{self.n:,}", self.mean.significant(), f"{self.outcomes:,}")
        yield from (self.mean_outcome.significant(), self.mae.significant(), self.bias.significant())

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, None for what cannot be told."""
        figures = {name: getattr(self, name) for name in ("mean", "mean_outcome", "mae", "bias")}
        return {"name": self.name, "n": self.n, "outcomes": self.outcomes} | {
            name: figure.to_dict() for name, figure in figures.items()
        }

    def with_outcomes(self, told: GroupOutcomes) -> "ValueGroup":
        """The same with what became of some rows, of which there is one at least."""
        predicted, outcome = told.score, told.outcome
        return replace(
            self,
            outcomes=len(outcome),
            mean_outcome=measures.mean(outcome),
            mae=measures.mean(np.abs(predicted - outcome)),
            bias=measures.mean(predicted - outcome),
        )


@dataclass(frozen=True)
class ClassGroup:
    """One group's `n` predictions: the share of each class, and of those with an outcome how many are right.

    `found` is the share predicted as such of those of whom each class came.
    """

    name: str
    n: int
    shares: dict[str, Interval]
    outcomes: int = 0
    accuracy: Interval = UNKNOWN
    found: dict[str, Interval] | None = None
    adverse: ClassVar = False
    verdict: ClassVar = ""

    @property
    def columns(self) -> Sequence[str]:
        """What `cells` are called."""
        return ("group", "n", *self.shares, "outcomes", "accuracy")

    def cells(self) -> Iterator[str]:
        """The figures in words."""
        yield from (self.name, f"{self.n:,}", *(share.words(3) for share in self.shares.values()))
        yield from (f"{self.outcomes:,}", self.accuracy.words(3))

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, None for what cannot be told."""
        found = self.found or {}
        return {
            "name": self.name,
            "n": self.n,
            "shares": {name: share.to_dict() for name, share in self.shares.items()},
            "outcomes": self.outcomes,
            "accuracy": self.accuracy.to_dict(),
            "found": {name: share.to_dict() for name, share in found.items()},
        }

    def with_outcomes(self, told: GroupOutcomes) -> "ClassGroup":
        """The same with what became of some rows, of which there is one at least."""
        outcome, right = told.outcome, told.score.argmax(axis=1) == told.outcome
        came = {name: right[outcome == place] for place, name in enumerate(self.shares)}
        return replace(
            self,
            outcomes=len(outcome),
            accuracy=measures.rate(float(right.sum()), len(right)),
            found={name: measures.rate(float(part.sum()), len(part)) for name, part in came.items()},
        )


#: What `value_groups` is given of each value of the field, in SQL.
VALUE_FIGURES = "count(*), avg(score), var_pop(score)"


def value_groups(found: Mapping[str, Sequence[tuple[Any, ...]]]) -> list[ValueGroup]:
    """The groups of predicted values, each of rows of `VALUE_FIGURES`."""
    return [_value_group(name, np.array(rows, dtype=np.float64)) for name, rows in sorted(found.items())]


def _value_group(name: str, parts: npt.NDArray[np.float64]) -> ValueGroup:
    """A group of parts, float64 [parts, 3] of rows, mean and variance."""
    rows, means, variances = parts.T
    n, mean = float(rows.sum()), float(np.average(means, weights=rows))
    variance = float(np.average(variances + (means - mean) ** 2, weights=rows))
    return ValueGroup(name, int(n), Interval.around(mean, math.sqrt(variance / n)))


def class_groups(found: Mapping[str, Sequence[tuple[Any, ...]]], classes: Sequence[str]) -> list[ClassGroup]:
    """The groups of predicted classes, each of rows of how many there are, and how many of each class."""
    groups = []
    for name, rows in sorted(found.items()):
        n, *chosen = np.sum(rows, axis=0).tolist()
        shares = {each: measures.rate(part, n) for each, part in zip(classes, chosen, strict=True)}
        groups.append(ClassGroup(name, n, shares))
    return groups
