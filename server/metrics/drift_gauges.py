"""What `/metrics` says of drift, from the counts of all workers."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric

from server.metrics.column_shifts import ColumnCounts, ColumnShifts, column_shifts, count_of_tests
from server.metrics.drift import Shift
from server.metrics.drift_slots import SCORE, ColumnSlots, DriftSlots

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
    "feature_unseen_psi": ("PSI of the values that training never saw, and the others.", _FEATURE),
    "feature_unseen_psi_limit": (
        "PSI of unseen values above which it has drifted, for these rows.",
        _FEATURE,
    ),
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
    tests = count_of_tests(c.distribution for c in slots.columns.values())
    share = slots.independent_share(counts)
    yield "drift_rows", (label,), counts[0]
    yield "drift_independent_rows", (label,), counts[0] * share
    if not counts[0]:  # nothing is judged
        return
    for name, column in slots.columns.items():
        counted = _counted(column, counts)
        found = column_shifts(column.distribution, counted, tests, share, name == SCORE)
        if name == SCORE:
            yield from _judged("score_psi", (label,), found.values)
        elif counted.counts.any() or counted.missing:
            yield from _of_feature((label, name), counted, found)


def _counted(column: ColumnSlots, counts: Any) -> ColumnCounts:
    present = counts[column.first : column.missing].astype(np.int64)
    return ColumnCounts(present, int(counts[column.missing]), beyond=int(counts[column.beyond]))


def _of_feature(
    labels: tuple[str, str], counted: ColumnCounts, found: ColumnShifts
) -> Iterator[tuple[str, tuple[str, ...], float]]:
    yield from _judged("feature_psi", labels, found.values)
    yield from _judged("feature_missing_psi", labels, found.missing)
    yield from _judged("feature_unseen_psi", labels, found.unseen)
    yield "feature_missing_ratio", labels, counted.missing / (counted.counts.sum() + counted.missing)
    yield "feature_unseen_ratio", labels, found.unseen_rate


def _judged(name: str, labels: tuple[str, ...], found: Shift) -> Iterator[tuple[str, tuple[str, ...], float]]:
    if found.is_judged:
        yield name, labels, found.psi
        yield f"{name}_limit", labels, found.limit
