"""Drift as it happens: integer counts per bin, filled from a sample of the log's lines.

Each worker counts into its own slots of the shared metrics, so a scrape sums them
as it sums everything else. Two windows of rows are kept, the one that fills and
the one before it: a shift that began an hour ago is not diluted by last month.
"""

import math
import zlib
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson
from prometheus_client.core import GaugeMetricFamily, Metric

from server.metrics.drift import Shift, independent_share, missing_shift, reference_counts, shift
from server.model.logged_rows import logged_rows
from server.model.reference import Distribution, Reference

SCORE = ""  # no feature is named so
_CURRENT, _BEFORE = 0, 1
#: Rows are told apart by the slot they mark; how many differ is read off how many are
#: marked (Whang et al., A linear-time probabilistic counting algorithm, 1990).
_MARKS = 1024


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
        self.size = size + _MARKS
        self.windows = (take(self.size), take(self.size))

    def both_windows(self, totals: Any) -> Any:
        """The counts of the two windows together, float64 [size]."""
        first, second = (totals[start : start + self.size] for start in self.windows)
        return first + second

    def independent_share(self, counts: Any) -> float:
        """The share of the rows in these counts that tell something new."""
        rows = int(counts[0])
        unmarked = 1.0 - np.count_nonzero(counts[self.marks :]) / _MARKS
        distinct = round(-_MARKS * math.log(unmarked)) if unmarked else rows
        return independent_share(self.reference, rows, min(rows, distinct)) if rows else 1.0


class ModelCounts:
    """Counts one model's rows in one worker; for the log's thread alone.

    `codes` maps a feature's words (categories, buckets) to bins; a feature
    without words is a number, one of `unwatched` is left out.
    """

    def __init__(
        self,
        slots: DriftSlots,
        values: "memoryview[float]",
        codes: Mapping[str, Mapping[Any, int]],
        unwatched: Container[str],
        window_rows: int,
    ) -> None:
        self._slots, self._values, self._window_rows = slots, values, window_rows
        first = slots.windows[_CURRENT]
        self._rows, self._marks = first, first + slots.marks
        self._features = [
            (name, first + c.first, first + c.missing, c.distribution, codes.get(name), *c.distribution.range)
            for name, c in slots.columns.items()
            if name != SCORE and name not in unwatched
        ]
        score = slots.columns[SCORE]
        self._score, self._score_edges = first + score.first, score.distribution.edges

    def count(self, fields: Mapping[str, Any], score: float) -> None:
        """Count one row: a JSON object as it was sent, or as the log shows it, and its score."""
        values = self._values
        for name, first, missing, distribution, codes, low, high in self._features:
            value = fields.get(name)
            if value is None:
                values[missing] += 1.0
            elif codes is None:
                values[first + bisect_left(distribution.edges, value)] += 1.0
                if not low <= value <= high:
                    values[missing + 1] += 1.0
            elif value in codes:
                values[first + codes[value]] += 1.0
        values[self._score + bisect_left(self._score_edges, score)] += 1.0
        values[self._rows] += 1.0
        values[self._marks + zlib.crc32(orjson.dumps(fields)) % _MARKS] = 1.0
        if values[self._rows] >= self._window_rows:
            self._turn()

    def _turn(self) -> None:
        current, before = self._slots.windows
        size = self._slots.size
        self._values[before : before + size] = self._values[current : current + size]
        for slot in range(current, current + size):
            self._values[slot] = 0.0


class DriftCounts:
    """Counts the rows of every model of one worker, from lines of its log."""

    def __init__(self) -> None:
        self._models: dict[str, ModelCounts] = {}

    def add(self, label: str, counts: ModelCounts) -> None:
        """Count the lines of this model too."""
        self._models[label] = counts

    def count_line(self, line: bytes) -> None:
        """Count the row, or the rows, of one line of the log."""
        record = orjson.loads(line)
        counts = self._models.get(record["model"])
        if counts is None:
            return
        for row in logged_rows(record):
            counts.count(row.fields, row.score)


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
