"""How features went together in training: what a distribution of each by itself cannot tell.

Two small tables over the bins of the reference: the correlations of the numbers, and the
distributions within each larger category. And how numbers were rounded, which no bin tells.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from server.model.distribution import Distribution
from server.model.schema import Matrix, Schema

#: Numbers that are looked at together, in the schema's order: the table grows with the square.
MOST_NUMBERS = 64
#: Categories whose distributions are kept, the largest first, and the rows that one must have.
MOST_SEGMENTS, MIN_SEGMENT_ROWS = 24, 100
#: Fewer bins have no order to speak of.
MIN_BINS = 3
#: What amounts are rounded to. Smaller parts are not told: float32 has them otherwise than a client.
STEPS = (1, 10, 100, 1000)
_DECIMALS = 4

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """The `n` rows whose feature has this code, and for each number its counts [bins + 1], missing last."""

    feature: str
    code: int
    n: int
    counts: Mapping[str, list[int]]


@dataclass(frozen=True)
class Joint:
    """The correlations of `names`, the upper triangle row by row, of `n` rows; and the segments.

    `rounded` has by name the shares of the values that are whole multiples of each of `STEPS`.
    """

    n: int
    names: list[str]
    correlations: list[float]
    segments: list[Segment]
    rounded: Mapping[str, list[float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Joint":
        """What `to_dict` wrote; raises `ValueError` if it is something else."""
        return msgspec.convert(content, cls)


def joint_of(schema: Schema, matrix: Matrix, features: Mapping[str, Distribution]) -> Joint:
    """How the numbers of n encoded rows, float64 [n, F], go together, in the bins of `features`."""
    names = numbers(schema, features)
    table = correlations(places(schema, matrix, features, names))
    upper = table[np.triu_indices(len(names), 1)]
    return Joint(
        len(matrix),
        names,
        np.round(upper, _DECIMALS).tolist(),
        list(_segments(schema, matrix, features)),
        {name: rounded_shares(matrix[:, schema.names.index(name)]) for name in names},
    )


def numbers(schema: Schema, features: Mapping[str, Distribution]) -> list[str]:
    """The features that are looked at together: numbers with some bins."""
    some = (
        feature.name
        for feature in schema.features
        if feature.kind in ("number", "integer") and len(features[feature.name].shares) >= MIN_BINS
    )
    return [name for name, _ in zip(some, range(MOST_NUMBERS), strict=False)]


def places(schema: Schema, matrix: Matrix, features: Mapping[str, Distribution], names: list[str]) -> Matrix:
    """The bin of every number, float64 [n, len(names)], NaN where it is missing."""
    found = np.full((len(matrix), len(names)), np.nan)
    for i, name in enumerate(names):
        values = matrix[:, schema.names.index(name)]
        there = ~np.isnan(values)
        found[there, i] = np.searchsorted(features[name].edges, values[there], side="left")
    return found


def correlations(columns: Matrix) -> Matrix:
    """Pearson's of each two columns, float64 [k, k], over the rows that have both; 0 where there is none."""
    there = (~np.isnan(columns)).astype(np.float64)
    values = np.nan_to_num(columns)
    n = np.maximum(there.T @ there, 1.0)
    mean = values.T @ there / n  # of the column of this row, over the rows that have both
    spread = np.maximum((values**2).T @ there / n - mean**2, 0.0)
    covariance = values.T @ values / n - mean * mean.T
    scale = np.sqrt(spread * spread.T)
    found: Matrix = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    return found


def rounded_shares(values: npt.NDArray[np.float64]) -> list[float]:
    """The shares of values, float64 [n], that are whole multiples of each of `STEPS`, 0 and gaps left out."""
    told = values[np.isfinite(values) & (values != 0)]
    return [round(float((told % step == 0).mean()), _DECIMALS) if len(told) else 0.0 for step in STEPS]


def segment_counts(
    schema: Schema, rows: Matrix, features: Mapping[str, Distribution], names: list[str]
) -> dict[str, Counts]:
    """The counts [bins + 1] of each number among some rows, missing last."""
    found = {}
    for name in names:
        values = rows[:, schema.names.index(name)]
        found[name] = np.append(features[name].counts(values), int(np.isnan(values).sum()))
    return found


def _segments(schema: Schema, matrix: Matrix, features: Mapping[str, Distribution]) -> Iterator[Segment]:
    sizes = [
        (int(n), feature.name, code)
        for i, feature in enumerate(schema.features)
        if feature.kind == "category"
        for code, n in enumerate(features[feature.name].counts(matrix[:, i]))
        if n >= MIN_SEGMENT_ROWS
    ]
    names = numbers(schema, features)
    for n, feature, code in sorted(sizes, reverse=True)[:MOST_SEGMENTS]:
        rows = matrix[matrix[:, schema.names.index(feature)] == code]
        counts = {
            name: found.tolist() for name, found in segment_counts(schema, rows, features, names).items()
        }
        yield Segment(feature, code, n, counts)
