"""Drift as it happens: integer counts per bin, of every row that is answered.

The observer counts each worker's rows into slots of the shared metrics that are that
worker's, so a scrape sums them as it sums everything else. Two windows of rows are
kept, the one that fills and the one before it: a shift that began an hour ago is not
diluted by last month.
"""

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric

from server.metrics.drift import Shift, independent_share, missing_shift, reference_counts, shift
from server.metrics.row_counter import MARKS
from server.model.reference import Distribution, Reference

SCORE = ""  # no feature is named so


class _Column(NamedTuple):
    """Where one column's counts lie in a window: the bins, the missing, those beyond the range."""

    distribution: Distribution
    first: int

    @property
    def missing(self) -> int:
        return self.first + len(self.distribution.shares)

    @property
    def beyond(self) -> int:
        return self.missing + 1

    @property
    def end(self) -> int:
        return self.beyond + 1


class DriftSlots:
    """The slots of one model: two windows, each of rows, then columns, then marks."""

    def __init__(self, reference: Reference, take: Callable[[int], int]) -> None:
        self.reference = reference
        self.columns: dict[str, _Column] = {}
        size = 1
        for name, distribution in {**reference.features, SCORE: reference.score}.items():
            self.columns[name] = _Column(distribution, size)
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
            "columns": [
                [places[name], c.first, c.missing, c.distribution.edges, *c.distribution.range]
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


_FEATURE, _MODEL = ("model", "feature"), ("model",)
_GAUGES = {
    "feature_psi": ("Population stability index of a feature's values.", _FEATURE),
    "feature_psi_limit": (
        "PSI above which a feature has drifted, for these rows.",
        _FEATURE,
    ),
    "feature_missing_psi": ("PSI of a feature being missing or present.", _FEATURE),
    "feature_missing_psi_limit": (
        "PSI of missing or present above which it has drifted, for these rows.",
        _FEATURE,
    ),
    "feature_missing_ratio": ("Share of the rows that lack a feature.", _FEATURE),
    "feature_unseen_ratio": ("Share of a feature's values that training never saw.", _FEATURE),
    "score_psi": ("Population stability index of the score.", _MODEL),
    "score_psi_limit": ("PSI above which the score has drifted, for these rows.", _MODEL),
    "drift_rows": ("Rows the drift figures are taken from.", _MODEL),
    "drift_independent_rows": ("As many of them as tell something new.", _MODEL),
}


def drift_families(drift: Mapping[str, DriftSlots], totals: Any) -> Iterator[Metric]:
    """The PSI of every feature and score over both windows, and what it is judged against.

    Of fewer than `MIN_ROWS` independent rows there is no PSI.
    """
    families = {
        name: GaugeMetricFamily(f"hotrow_{name}", meaning, labels=labels)
        for name, (meaning, labels) in _GAUGES.items()
    }
    for label, slots in drift.items():
        for name, labels, value in _figures(label, slots, slots.both_windows(totals)):
            families[name].add_metric(labels, value)
    if drift:
        yield from families.values()


def _figures(label: str, slots: DriftSlots, counts: Any) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Every figure that can be told: a PSI of too few rows is large by chance, and is left out."""
    tests, share = 2 * len(slots.columns), slots.independent_share(counts)
    yield "drift_rows", (label,), counts[0]
    yield "drift_independent_rows", (label,), counts[0] * share
    for name, column in slots.columns.items():
        present, missing = counts[column.first : column.missing], counts[column.missing]
        found = shift(reference_counts(column.distribution), present, tests, share)
        if name == SCORE:
            yield from _judged("score_psi", (label,), found)
        elif present.any() or missing:
            labels = (label, name)
            absence = missing_shift(column.distribution, int(present.sum()), int(missing), tests, share)
            yield from _judged("feature_psi", labels, found)
            yield from _judged("feature_missing_psi", labels, absence)
            yield "feature_missing_ratio", labels, missing / (present.sum() + missing)
            yield "feature_unseen_ratio", labels, _unseen_share(column, counts)


def _judged(name: str, labels: tuple[str, ...], found: Shift) -> Iterator[tuple[str, tuple[str, ...], float]]:
    if found.is_judged:
        yield name, labels, found.psi
        yield f"{name}_limit", labels, found.limit


def _unseen_share(column: _Column, counts: Any) -> float:
    """The share of words, or of numbers beyond the range, that training never saw."""
    present = counts[column.first : column.missing]
    unseen = present[np.asarray(column.distribution.shares) == 0.0].sum() + counts[column.beyond]
    return float(unseen / max(1.0, present.sum()))
