"""Drift as it happens: integer counts per bin, of every row that is answered.

The observer counts each worker's rows into slots of the shared metrics that are that
worker's, so a scrape sums them as it sums everything else. Two windows of rows are
kept, the one that fills and the one before it: a shift that began an hour ago is not
diluted by last month.
"""

import math
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

import numpy as np

from server.metrics.drift import independent_share
from server.metrics.row_counter import MARKS, ColumnPlan
from server.model.distribution import Distribution, Reference

SCORE = ""  # no feature is named so


class ColumnSlots(NamedTuple):
    """Where one column's counts lie in a window: the bins, the missing, those beyond the range."""

    distribution: Distribution
    first: int

    @property
    def missing(self) -> int:
        """The slot of the values that are missing."""
        return self.first + len(self.distribution.shares)

    @property
    def beyond(self) -> int:
        """The slot of the numbers outside the range of training."""
        return self.missing + 1

    @property
    def end(self) -> int:
        """The first slot of the next column."""
        return self.beyond + 1

    def plan(self, place: int) -> ColumnPlan:
        """What the column, which has this place in a row, is counted by."""
        return ColumnPlan(place, self.first, self.missing, self.distribution.edges, *self.distribution.range)


class DriftSlots:
    """The slots of one model: two windows, each of rows, then columns, then marks."""

    def __init__(self, reference: Reference, take: Callable[[int], int]) -> None:
        self.reference = reference
        self.columns: dict[str, ColumnSlots] = {}
        size = 1
        for name, distribution in {**reference.features, SCORE: reference.score}.items():
            self.columns[name] = ColumnSlots(distribution, size)
            size = self.columns[name].end
        self.marks = size
        self.size = size + MARKS
        self.windows = (take(self.size), take(self.size))

    def plan(self, names: Sequence[str], unwatched: Container[str], window_rows: int) -> dict[str, Any]:
        """What `RowCounter` counts by, as JSON.

        `names` are the features in the order of a row; one of `unwatched` is left out.
        """
        places = {SCORE: 0, **{name: 1 + i for i, name in enumerate(names)}}
        return {
            "window_rows": window_rows,
            "windows": list(self.windows),
            "size": self.size,
            "marks": self.marks,
            "width": len(names),
            "names": [name for name in self.columns if name not in unwatched],
            "columns": [
                list(c.plan(places[name]))  # orjson writes no tuple that has names
                for name, c in self.columns.items()
                if name not in unwatched
            ],
        }

    def both_windows(self, totals: Any) -> Any:
        """The counts of the two windows together, float64 [size]."""
        first, second = (totals[start : start + self.size] for start in self.windows)
        return first + second

    def independent_share(self, counts: Any) -> float:
        """The share of the rows in these counts that tell something new."""
        rows = int(counts[0])
        unmarked = 1.0 - np.count_nonzero(counts[self.marks :]) / MARKS
        distinct = round(-MARKS * math.log(unmarked)) if unmarked else rows
        return independent_share(self.reference, rows, min(rows, distinct)) if rows else 1.0
