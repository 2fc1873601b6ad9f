"""The rows a certificate is made of: where two implementations of a tree could disagree."""

import math
from collections.abc import Iterator

import numpy as np

from export.booster import Booster, Tree
from export.graph import ZERO_BAND
from server.schema import Matrix, Schema

#: Values at which float64 code goes wrong: zeros, the band LightGBM takes for
#: zero and its edges, denormals, the largest numbers, infinities.
EXTREMES = (
    0.0, -0.0, ZERO_BAND, -ZERO_BAND,
    math.nextafter(ZERO_BAND, 1.0), math.nextafter(-ZERO_BAND, -1.0), 1e-36, -1e-36,
    5e-324, -5e-324, 2.2250738585072014e-308, 1e-300, -1e-300,
    2.0**53, 2.0**63, 3.5e38, -3.5e38, 1.7976931348623157e308, -1.7976931348623157e308,
    math.inf, -math.inf,
)  # fmt: skip
MISSING_SHARE = 0.1


class RowMaker:
    """Draws rows of a booster's features, in blocks of float64 [n, F].

    Values are drawn between and around the booster's own thresholds, because
    there alone does a value matter; categories are drawn from the schema.
    """

    def __init__(self, booster: Booster, schema: Schema, seed: int = 0) -> None:
        self._booster = booster
        self._schema = schema
        self._random = np.random.default_rng(seed)
        self._values = [self._interesting_values(i) for i in range(len(schema))]

    def _interesting_values(self, feature: int) -> Matrix:
        described = self._schema.features[feature]
        if described.kind == "category":
            return np.arange(len(described.categories), dtype=np.float64)
        splits = {s.threshold for t in self._booster.trees for s in t.splits if s.feature == feature}
        low, high = described.minimum, described.maximum
        ends = {end for end in (low, high) if end is not None}
        points = np.array(sorted(splits | ends or {0.0, 1.0}), dtype=np.float64)
        width = float(points[-1] - points[0]) or 1.0
        around = np.array([points[0] - 0.1 * width, *points, points[-1] + 0.1 * width])
        finite: Matrix = around[np.isfinite(around)]
        return finite

    def ordinary(self, count: int) -> Matrix:
        """Rows between the thresholds, a tenth of the values missing."""
        rows = np.empty((count, len(self._schema)))
        for i, values in enumerate(self._values):
            if self._schema.features[i].kind == "category":
                rows[:, i] = self._random.choice(values, count)
                continue
            right = self._random.integers(1, len(values), count)
            share = self._random.random(count)
            rows[:, i] = values[right - 1] + share * (values[right] - values[right - 1])
        rows[self._random.random(rows.shape) < MISSING_SHARE] = np.nan
        return rows

    def boundary(self, block: int = 4096) -> Iterator[Matrix]:
        """For every split a row on its threshold, one float64 below and one above.

        Each row is led to its split: the features tested above it are given
        values that take the path there.
        """
        rows: list[Matrix] = []
        for tree in self._booster.trees:
            for path in _paths(tree):
                rows.append(self._rows_at(tree, path))
                if len(rows) * 3 >= block:
                    yield np.concatenate(rows)
                    rows = []
        if rows:
            yield np.concatenate(rows)

    def _rows_at(self, tree: Tree, path: list[tuple[int, bool]]) -> Matrix:
        row = self.ordinary(1)[0]
        bounds: dict[int, tuple[float, float]] = {}
        for index, goes_left in path[:-1]:
            split = tree.splits[index]
            low, high = bounds.get(split.feature, (-math.inf, math.inf))
            low, high = (low, min(high, split.threshold)) if goes_left else (max(low, split.threshold), high)
            bounds[split.feature] = (low, high)
        for feature, (low, high) in bounds.items():
            if not low < row[feature] <= high:
                row[feature] = high if math.isfinite(high) else math.nextafter(low, math.inf)
        last = tree.splits[path[-1][0]]
        rows = np.tile(row, (3, 1))
        rows[:, last.feature] = (
            last.threshold,
            math.nextafter(last.threshold, -math.inf),
            math.nextafter(last.threshold, math.inf),
        )
        return rows

    def missing(self) -> Matrix:
        """All values missing; each feature missing alone; each feature present alone."""
        width = len(self._schema)
        present = self.ordinary(2 * width + 1)
        present[np.isnan(present)] = 0.0
        absent = np.zeros(present.shape, dtype=bool)
        absent[0] = True
        for i in range(width):
            absent[1 + i, i] = True
            absent[1 + width + i] = np.arange(width) != i
        present[absent] = np.nan
        return present

    def extreme(self) -> Matrix:
        """Every extreme value in all features at once and in each feature alone."""
        width = len(self._schema)
        everywhere = [np.full((1, width), value) for value in EXTREMES]
        alone = self.ordinary(width * len(EXTREMES))
        for n, value in enumerate(EXTREMES):
            for i in range(width):
                alone[n * width + i, i] = value
        return np.concatenate([*everywhere, alone])

    def categories(self) -> Matrix:
        """Every category of every feature, an unseen one, a negative and a fractional one."""
        blocks = [np.empty((0, len(self._schema)))]
        for i, feature in enumerate(self._schema.features):
            if feature.kind == "category":
                codes = [*map(float, range(len(feature.categories) + 1)), -1.0, 0.5, 2.7]
                rows = self.ordinary(len(codes))
                rows[:, i] = codes
                blocks.append(rows)
        return np.concatenate(blocks)


def _paths(tree: Tree) -> Iterator[list[tuple[int, bool]]]:
    """For every split the way there: (split, goes left) from the root, itself last."""
    stack: list[list[tuple[int, bool]]] = [[(0, True)]] if tree.splits else []
    while stack:
        path = stack.pop()
        yield path
        index = path[-1][0]
        for child, goes_left in ((tree.splits[index].left, True), (tree.splits[index].right, False)):
            if child >= 0:
                stack.append([*path[:-1], (index, goes_left), (child, True)])
