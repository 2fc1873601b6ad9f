"""The rows a parity report is made of: where two implementations of a tree could disagree."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.forest.extremes import EXTREMES
from export.forest.trees import Forest, Tree
from server.model.bounds import limits
from server.model.schema import Feature, Matrix, Schema

#: Values of a categorical split: the schema demands integers there, LightGBM truncates.
EXTREME_CODES = (0.0, -0.0, -1.0, -2.0, 31.0, 32.0, 33.0, 1024.0, 2.0**31 - 1, -(2.0**31), 2.0**53)
MISSING_SHARE = 0.1
#: Time and memory stay linear in the model: of more splits than these, some are drawn by lot, of more
#: columns not each is tried alone, and a block of rows holds so many values (32 MB).
MAX_SPLITS = 10_000
MAX_ALONE = 1_000
MAX_VALUES = 50_000_000
BLOCK_VALUES = 4_000_000
_BLOCK_ROWS = 4096
#: Rows times splits, which a library's time to score them grows with, and the rows of any model.
_MAX_WORK = 500_000_000
_LEAST_ROWS = 5_000
_LEAST_SPLITS = 2_000
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
        # Where nothing looks at a column, its values need no chance; the extreme and missing ones are tried.
        every = range(len(schema))
        self._used = [i for i in every if knots[i] or i in members] if forest else list(every)
        self._splits = sum(1 for _ in forest.splits()) if forest else 0
        by_work = max(_LEAST_SPLITS, _MAX_WORK // 3 // max(1, self._splits))  # three rows a split
        self._tried = min(self._splits, MAX_SPLITS, by_work)
        alone = min(MAX_ALONE, max(1, MAX_VALUES // (len(extremes) * max(1, len(schema)))))
        self._alone = sorted(self._random.permutation(self._used)[:alone].tolist())
        self.block_rows = max(16, min(_BLOCK_ROWS, BLOCK_VALUES // max(1, len(schema))))

    def ordinary_rows(self, wanted: int) -> int:
        """How many ordinary rows to draw: fewer than wanted where columns or splits make each dear."""
        by_splits = max(_LEAST_ROWS, _MAX_WORK // max(1, self._splits))
        return min(wanted, max(self.block_rows, MAX_VALUES // max(1, self.width)), by_splits)

    @property
    def width(self) -> int:
        return len(self._schema)

    @property
    def coverage(self) -> dict[str, int]:
        """How much of the model is looked at: its splits and columns, and those tried one by one."""
        return {
            "splits": self._splits,
            "splits_tried": self._tried,
            "columns": len(self._schema),
            "columns_tried_alone": len(self._alone),
        }

    def ordinary(self, count: int) -> Matrix:
        """Rows between the thresholds, a tenth of the values missing; zero where no split looks."""
        return self._drawn(count, self._used)

    def _drawn(self, count: int, columns: Sequence[int]) -> Matrix:
        rows = np.zeros((count, len(self._schema)))
        for i in columns:
            values = self._values[i]
            if i in self._codes:
                rows[:, i] = self._random.choice(self._codes[i], count)
            else:
                # One chance for both: which interval, and where in it.
                place = self._random.random(count) * (len(values) - 1)
                left = place.astype(np.intp)
                share = place - left  # each end by itself: their difference may be no number
                rows[:, i] = values[left] * (1.0 - share) + values[left + 1] * share
                if self._schema.features[i].kind in ("integer", "flag"):
                    rows[:, i] = np.rint(rows[:, i])
            if self._missing:
                rows[self._random.random(count) < MISSING_SHARE, i] = np.nan
        return rows

    def sent(self, count: int) -> list[dict[str, Any]]:
        """Ordinary rows as clients write them, within what training saw: whole numbers, none beyond its ends.

        Missing values are null or left out, flags 0 and 1 or booleans.
        """
        wide = self.width > MAX_ALONE
        matrix = self._drawn(count, self._used if wide else range(self.width))
        if wide and self._missing:  # objects of thousands of members would fill the memory, and tell nothing
            unused = np.ones(self.width, dtype=np.bool_)
            unused[self._used] = False
            matrix[:, unused] = np.nan
        for i, feature in enumerate(self._schema.features):
            if i not in self._codes:
                low, high = feature.form_range
                matrix[:, i] = np.clip(matrix[:, i], low, high)
                if feature.form_kind != "number":
                    matrix[:, i] = np.rint(matrix[:, i]) + 0.0  # no sign before a zero
        matrix = let_through(self._schema, matrix)
        return [_written(self._schema.fields(row.tolist()), self._schema, n) for n, row in enumerate(matrix)]

    def boundary(self) -> Iterator[Matrix]:
        """For every split (of `MAX_SPLITS`) a row on its threshold, one value below and one above.

        Each row is led to its split: the features tested above it are given
        values that take the path there. The neighbours are those of the forest's
        precision. Of a model that is no forest the rows are not led anywhere.
        """
        pool = self.ordinary(_POOL_ROWS)
        rows: list[Matrix] = []
        count = -1
        tried = self._lot()
        for tree in self._forest.trees if self._forest else ():
            for path in tree.paths():
                count += 1
                if not tried[count]:
                    continue
                rows.append(self._rows_at(tree, path, pool[count % _POOL_ROWS].copy()))
                if len(rows) * 3 >= self.block_rows:
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

    def _lot(self) -> npt.NDArray[np.bool_]:
        tried = np.zeros(self._splits, dtype=np.bool_)
        tried[self._random.permutation(self._splits)[: self._tried]] = True
        return tried

    def _rows_at(self, tree: Tree, path: list[tuple[int, bool]], row: Matrix) -> Matrix:
        assert self._forest is not None
        bounds: dict[int, tuple[float, float]] = {}
        for index, goes_left in path[:-1]:
            split = tree.splits[index]
            if split.members:
                row[split.feature] = split.members[0] if goes_left else _other(split.members)
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

    def missing(self) -> Iterator[Matrix]:
        """All values missing; features missing alone; features present alone; all zero."""
        width = len(self._schema)
        pool = np.nan_to_num(self.ordinary(_POOL_ROWS))
        gap = math.nan if self._missing else 0.0
        yield np.array([[gap] * width, [0.0] * width])
        for start in range(0, len(self._alone), self.block_rows):
            columns = self._alone[start : start + self.block_rows]
            at = np.arange(len(columns))
            lacking = pool[at % _POOL_ROWS]
            only = np.full(lacking.shape, gap)
            only[at, columns] = lacking[at, columns]
            lacking[at, columns] = gap
            yield lacking
            yield only

    def extreme(self) -> Iterator[Matrix]:
        """Every extreme value in all features at once and in features alone."""
        width = len(self._schema)
        everywhere = self.ordinary(len(self._extremes))
        numbers = [i for i in range(width) if i not in self._codes]
        for n, value in enumerate(self._extremes):
            everywhere[n, numbers] = value
        yield everywhere
        pool = self.ordinary(_POOL_ROWS)
        for n, i in enumerate(self._alone):
            values = EXTREME_CODES if i in self._codes else self._extremes
            alone = np.tile(pool[n % _POOL_ROWS], (len(values), 1))
            alone[:, i] = values
            yield alone

    def categories(self) -> Iterator[Matrix]:
        """Every category of every feature, every code of a split, unseen ones and negative ones."""
        pool = self.ordinary(_POOL_ROWS)
        for i, codes in self._codes.items():
            values = np.array([*codes, *EXTREME_CODES, math.nan if self._missing else 0.0])
            for start in range(0, len(values), self.block_rows):
                some = values[start : start + self.block_rows]
                rows = pool[np.arange(len(some)) % _POOL_ROWS]
                rows[:, i] = some
                yield rows


def let_through(schema: Schema, rows: Matrix) -> Matrix:
    """The rows with values that the schema refuses replaced by ones it takes; changed in place.

    The server never scores another row, and a library may have no answer to one.
    """
    low, high = np.array([limits(feature) for feature in schema.features]).T
    np.clip(rows, low, high, out=rows)
    for i, feature in enumerate(schema.features):
        if feature.kind != "number":
            np.trunc(rows[:, i], out=rows[:, i])
    required = np.array([not f.nullable and not f.unknown for f in schema.features])
    if required.any():
        least = np.minimum(np.maximum(0.0, np.ceil(low)), high)
        np.copyto(rows, least, where=required & np.isnan(rows))
    return rows


#: A text that is no category of anybody's.
_UNSEEN = "\N{NO-BREAK SPACE}unseen"


def _written(fields: dict[str, Any], schema: Schema, number: int) -> dict[str, Any]:
    """A row written in one of the ways that mean the same."""
    for f in schema.features:  # what is missing of a required category was a text that is none
        if f.unknown and (number % 8 > 5 or (not f.nullable and fields.get(f.name) is None)):
            fields = {**fields, f.name: _UNSEEN}
    if number % 2:
        fields = {name: fields.get(name) for name in schema.names}
    if number % 4 > 1:
        flags = {f.name for f in schema.features if f.kind == "flag"}
        return {n: bool(v) if n in flags and v is not None else v for n, v in fields.items()}
    return fields


def _next32(value: float, towards: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.nextafter(np.float32(value), np.float32(towards)))


def _other(members: Sequence[int]) -> float:
    """The least code that is none of a set."""
    inside = set(members)
    return float(next(code for code in range(len(inside) + 1) if code not in inside))


def _codes(feature: Feature, members: Sequence[int]) -> Matrix:
    known = {*range(len(feature.categories)), *members}
    return np.array(sorted(known | {max(known, default=0) + 1}), dtype=np.float64)


def _interesting(feature: Feature, knots: Sequence[float]) -> Matrix:
    ends = {end for end in feature.form_range if end is not None}
    points = np.array(sorted(set(knots) | ends or {0.0, 1.0}), dtype=np.float64)
    points = points[np.isfinite(points)] if np.isfinite(points).any() else np.array([0.0, 1.0])
    with np.errstate(over="ignore"):  # between the ends of what a double holds, and beyond them
        width = min(float(points[-1] - points[0]), 1e307) or 1.0
        around: Matrix = np.array([points[0] - 0.1 * width, *points, points[-1] + 0.1 * width])
    return np.clip(around, -1e307, 1e307)
