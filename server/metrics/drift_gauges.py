"""What `/metrics` says of drift, from the counts of all workers."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric

from server.metrics.drift import Shift, missing_shift, reference_counts, shift
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


def _unseen_share(column: ColumnSlots, counts: Any) -> float:
    """The share of words, or of numbers beyond the range, that training never saw."""
    present = counts[column.first : column.missing]
    unseen = present[np.asarray(column.distribution.shares) == 0.0].sum() + counts[column.beyond]
    return float(unseen / max(1.0, present.sum()))
