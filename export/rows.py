"""The rows a certificate is made of: where two implementations of a tree could disagree."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from export.graph import ZERO_BAND
from export.trees import Forest, Tree
from server.model.bounds import limits
from server.model.schema import Feature, Matrix, Schema

#: Values at which float64 code goes wrong: zeros, the band LightGBM takes for
#: zero and its edges, denormals, the largest numbers, infinities.
EXTREMES = (
    0.0, -0.0, ZERO_BAND, -ZERO_BAND,
    math.nextafter(ZERO_BAND, 1.0), math.nextafter(-ZERO_BAND, -1.0), 1e-36, -1e-36,
    5e-324, -5e-324, 2.2250738585072014e-308, 1e-300, -1e-300,
    2.0**53, 2.0**63, 3.5e38, -3.5e38, 1.7976931348623157e308, -1.7976931348623157e308,
    math.inf, -math.inf,
)  # fmt: skip
#: The same for models that compute in float32, whose libraries refuse infinities.
EXTREMES_32 = (
    0.0, -0.0, 1e-35, -1e-35, 1.401298464324817e-45, -1.401298464324817e-45, 1.1754943508222875e-38,
    1e-300, -1e-300, 2.0**24, 2.0**63, 3.4028234663852886e38, -3.4028234663852886e38,
)  # fmt: skip
#: Values of a categorical split: the schema demands integers there, LightGBM truncates.
EXTREME_CODES = (0.0, -0.0, -1.0, -2.0, 31.0, 32.0, 33.0, 1024.0, 2.0**31 - 1, -(2.0**31), 2.0**53)
MISSING_SHARE = 0.1
_POOL_ROWS = 256
_LARGEST_32 = 3.4028234663852886e38


class RowMaker:
    """Draws rows of a model's features, in blocks of float64 [n, F].

    Values are drawn between and around the model's own thresholds, because
    there alone does a value matter; categories are drawn from the schema and
    from the model's categorical splits. `knots` stand in for the thresholds of a
    model that is no forest. Without `missing` no value is ever NaN: the model's
    own library would refuse the row.
    """

    def __init__(
        self,
        forest: Forest | None,
        schema: Schema,
        seed: int = 0,
        *,
        knots: Sequence[Sequence[float]] = (),
        extremes: Sequence[float] = EXTREMES,
        missing: bool = True,
    ) -> None:
        self._forest = forest
        self._schema = schema
        self._extremes = extremes
        self._finite = math.inf not in extremes
        self._missing = missing
        self._random = np.random.default_rng(seed)
        members = forest.members() if forest else {}
        knots = forest.thresholds() if forest else knots or [[] for _ in schema.names]
        self._knots = knots
        self._codes = {
            i: _codes(feature, members.get(i, ()))
            for i, feature in enumerate(schema.features)
            if feature.kind == "category" or i in members
        }
        self._values = [
            _interesting(feature, points) for feature, points in zip(schema.features, knots, strict=True)
        ]

    def ordinary(self, count: int) -> Matrix:
        """Rows between the thresholds, a tenth of the values missing."""
        rows = np.empty((count, len(self._schema)))
        for i, values in enumerate(self._values):
            if i in self._codes:
                rows[:, i] = self._random.choice(self._codes[i], count)
                continue
            right = self._random.integers(1, len(values), count)
            share = self._random.random(count)
            rows[:, i] = values[right - 1] + share * (values[right] - values[right - 1])
            if self._schema.features[i].kind in ("integer", "flag"):
                rows[:, i] = np.rint(rows[:, i])
        if self._missing:
            rows[self._random.random(rows.shape) < MISSING_SHARE] = np.nan
        return rows

    def sent(self, count: int) -> list[dict[str, Any]]:
        """Ordinary rows as clients write them: missing as null or left out, flags as 0 and 1 or booleans."""
        matrix = let_through(self._schema, self.ordinary(count))
        return [_written(self._schema.fields(row.tolist()), self._schema, n) for n, row in enumerate(matrix)]

    def boundary(self, block: int = 4096) -> Iterator[Matrix]:
        """For every split a row on its threshold, one value below and one above.

        Each row is led to its split: the features tested above it are given
        values that take the path there. The neighbours are those of the forest's
        precision. Of a model that is no forest the rows are not led anywhere.
        """
        pool = self.ordinary(_POOL_ROWS)
        rows: list[Matrix] = []
        count = 0
        for tree in self._forest.trees if self._forest else ():
            for path in tree.paths():
                count += 1
                rows.append(self._rows_at(tree, path, pool[count % _POOL_ROWS].copy()))
                if len(rows) * 3 >= block:
                    yield np.concatenate(rows)
                    rows = []
        if rows:
            yield np.concatenate(rows)
        for i, knots in enumerate(self._knots if self._forest is None else ()):
            around = [v for k in knots for v in (k, _next32(k, -math.inf), _next32(k, math.inf))]
            if around:
                at = self.ordinary(len(around))
                at[:, i] = around
                yield at

    def _rows_at(self, tree: Tree, path: list[tuple[int, bool]], row: Matrix) -> Matrix:
        assert self._forest is not None
        bounds: dict[int, tuple[float, float]] = {}
        for index, goes_left in path[:-1]:
            split = tree.splits[index]
            if split.members:
                row[split.feature] = split.members[0] if goes_left else -1.0
                continue
            low, high = bounds.get(split.feature, (-math.inf, math.inf))
            low, high = (low, min(high, split.threshold)) if goes_left else (max(low, split.threshold), high)
            bounds[split.feature] = (low, high)
        for feature, (low, high) in bounds.items():
            if not low < row[feature] <= high:
                row[feature] = high if math.isfinite(high) else self._forest.next(low, math.inf)
        last = tree.splits[path[-1][0]]
        rows = np.tile(row, (3, 1))
        if last.members:
            rows[:, last.feature] = (last.members[0], last.members[-1], last.members[-1] + 1.0)
        else:
            rows[:, last.feature] = (
                last.threshold,
                self._forest.next(last.threshold, -math.inf),
                self._forest.next(last.threshold, math.inf),
            )
        return np.clip(rows, -_LARGEST_32, _LARGEST_32) if self._finite else rows

    def missing(self) -> Matrix:
        """All values missing; each feature missing alone; each feature present alone; all zero."""
        width = len(self._schema)
        present = self.ordinary(2 * width + 2)
        present[np.isnan(present)] = 0.0
        present[-1] = 0.0
        absent = np.zeros(present.shape, dtype=bool)
        absent[0] = True
        for i in range(width):
            absent[1 + i, i] = True
            absent[1 + width + i] = np.arange(width) != i
        if self._missing:
            present[absent] = np.nan
        return present

    def extreme(self) -> Iterator[Matrix]:
        """Every extreme value in all features at once and in each feature alone."""
        width = len(self._schema)
        everywhere = self.ordinary(len(self._extremes))
        for n, value in enumerate(self._extremes):
            everywhere[n, [i for i in range(width) if i not in self._codes]] = value
        yield everywhere
        for i in range(width):
            values = EXTREME_CODES if i in self._codes else self._extremes
            alone = self.ordinary(len(values))
            alone[:, i] = values
            yield alone

    def categories(self) -> Iterator[Matrix]:
        """Every category of every feature, every code of a split, unseen ones and negative ones."""
        for i, codes in self._codes.items():
            rows = self.ordinary(len(codes) + len(EXTREME_CODES) + 1)
            rows[:, i] = [*codes, *EXTREME_CODES, math.nan if self._missing else 0.0]
            yield rows


def let_through(schema: Schema, rows: Matrix) -> Matrix:
    """The rows with values that the schema refuses replaced by ones it takes; changed in place.

    The server never scores another row, and a library may have no answer to one.
    """
    for i, feature in enumerate(schema.features):
        column = rows[:, i]
        low, high = limits(feature)
        np.clip(column, low, high, out=column)
        if feature.kind != "number":
            np.trunc(column, out=column)
        if not feature.nullable:
            column[np.isnan(column)] = min(max(0.0, math.ceil(low)), high)
    return rows


def _written(fields: dict[str, Any], schema: Schema, number: int) -> dict[str, Any]:
    """A row written in one of the ways that mean the same."""
    if number % 2:
        fields = {name: fields.get(name) for name in schema.names}
    if number % 4 > 1:
        flags = {f.name for f in schema.features if f.kind == "flag"}
        return {n: bool(v) if n in flags and v is not None else v for n, v in fields.items()}
    return fields


def _next32(value: float, towards: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(towards)))


def _codes(feature: Feature, members: Sequence[int]) -> Matrix:
    known = {*range(len(feature.categories)), *members}
    return np.array(sorted(known | {max(known, default=0) + 1}), dtype=np.float64)


def _interesting(feature: Feature, knots: Sequence[float]) -> Matrix:
    ends = {end for end in feature.form_range if end is not None}
    points = np.array(sorted(set(knots) | ends or {0.0, 1.0}), dtype=np.float64)
    points = points[np.isfinite(points)] if np.isfinite(points).any() else np.array([0.0, 1.0])
    width = float(points[-1] - points[0]) or 1.0
    around: Matrix = np.array([points[0] - 0.1 * width, *points, points[-1] + 0.1 * width])
    return np.clip(around, -1e307, 1e307)
