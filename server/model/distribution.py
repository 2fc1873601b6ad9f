"""The training distribution of each feature and of the score: what drift is measured against."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

#: Shares are counts over n: more digits would tell nothing.
_DECIMALS = 9


@dataclass(frozen=True, slots=True)
class Distribution:
    """How the n values of one column fell into bins.

    Of a number, bin i holds `edges[i - 1] < x <= edges[i]`; the outer bins are
    open. Of a category or flag, bin i holds the code i, and `edges` lie between
    the codes. `shares` are of the values present and add up to 1 (all 0 if none
    is present); `missing_rate` is of all n. `low` and `high` are the least and the
    largest number that was seen, None of a category or flag, or where nobody wrote
    them down; two distributions are the same if their bins are. `tolerance` is the PSI that its
    feature's description calls no drift yet, None without one.
    """

    n: int
    missing_rate: float
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    low: float | None = field(default=None, compare=False)
    high: float | None = field(default=None, compare=False)
    tolerance: float | None = field(default=None, compare=False)

    @property
    def range(self) -> tuple[float, float]:
        """What was seen lies within, both included; infinite where it is not known."""
        if self.low is None or self.high is None:
            return -math.inf, math.inf
        return self.low, self.high

    @property
    def has_codes(self) -> bool:
        """Whether each bin holds one code: of a category or flag."""
        return bool(self.edges) and self.edges == tuple(code + 0.5 for code in range(len(self.edges)))

    def counts(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """How many of `values`, float64 [n] with NaN for missing, fall into each bin, int64 [bins]."""
        present = values[~np.isnan(values)]
        bins = np.searchsorted(self.edges, present, side="left")
        return np.bincount(bins, minlength=len(self.shares)).astype(np.int64)

    @classmethod
    def from_values(cls, values: npt.NDArray[np.float64], edges: tuple[float, ...]) -> "Distribution":
        """The distribution of float64 [n] values, NaN for missing, over ascending edges."""
        n, present = len(values), int(np.sum(~np.isnan(values)))
        empty = cls(n, round(1 - present / n, _DECIMALS) if n else 0.0, edges, (0.0,) * (len(edges) + 1))
        shares = empty.counts(values) / max(1, present)
        return cls(n, empty.missing_rate, edges, tuple(round(float(s), _DECIMALS) for s in shares))


@dataclass(frozen=True)
class Reference:
    """The distributions of every feature, by name, and of the probability.

    `joint` is what is written beside them of features together (`joint.py`); a server reads none of it.
    `when` are the words for what they are of.
    """

    features: dict[str, Distribution]
    score: Distribution
    joint: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    when: str = field(default="in training", compare=False)

    def to_dict(self) -> dict[str, Any]:
        features = {name: _counted(distribution) for name, distribution in self.features.items()}
        joint = {"joint": self.joint} if self.joint else {}
        return {"features": features, "score": _counted(self.score), **joint}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Reference":
        """The reference written by `to_dict`, also after a round trip through JSON.

        Raises `KeyError` or `ValueError` if it is none; a bundle's hash was checked before.
        """
        features = msgspec.convert(content["features"], dict[str, Distribution])
        return cls(features, msgspec.convert(content["score"], Distribution))


def _counted(distribution: Distribution) -> dict[str, Any]:
    """What was counted: the tolerance stands in `bundle.json`, with its feature."""
    return {name: value for name, value in asdict(distribution).items() if name != "tolerance"}
