"""Drift of rows against a bundle's reference, ranked by what it does to the score."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.drift.importance import importance
from monitoring.drift.rows import SCORE, Column, Rows, reference_of, rows_of_csv, rows_of_log
from monitoring.logs.table import LogTable, open_log
from server.metrics.drift import MIN_ROWS, Shift, independent_share, missing_shift, reference_counts, shift
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.reference import Distribution


@dataclass(frozen=True)
class ColumnDrift:
    """One feature, or the score: how its values, and its gaps, shifted.

    `unseen_rate` is the share of the values present that training never saw;
    `importance` the mean change of the margin when the feature's values are
    shuffled, as a share of that of all features.
    """

    name: str
    label: str
    distribution: Distribution
    counts: npt.NDArray[np.int64]
    values: Shift
    missing: Shift
    missing_rate: float
    unseen_rate: float
    unseen: Shift
    importance: float
    bins: tuple[str, ...]

    @property
    def drifted(self) -> bool:
        """Whether the values, their absence or unseen ones lie beyond their limit."""
        return self.values.drifted or self.missing.drifted or self.unseen.drifted

    @property
    def why(self) -> str:
        """The reasons in words, empty without drift."""
        reasons = []
        if self.values.drifted:
            reasons.append(f"PSI {self.values.psi:.3f}, limit {self.values.limit:.3f}")
        if self.missing.drifted:
            reasons.append(
                f"missing in {self.missing_rate:.1%}, {self.distribution.missing_rate:.1%} in training"
            )
        if self.unseen.drifted:
            reasons.append(f"{self.unseen_rate:.1%} of values never seen in training")
        return "; ".join(reasons)


@dataclass(frozen=True)
class DriftReport:
    """The drift of every column, drifted and important ones first.

    `n` rows were looked at, as good as `independent` ones: rows sent again and again tell little.
    """

    n: int
    independent: int
    columns: list[ColumnDrift]
    hidden: list[str]

    @property
    def too_few(self) -> bool:
        """Whether no judgement is possible."""
        return self.independent < MIN_ROWS

    @property
    def drifted(self) -> list[ColumnDrift]:
        """The columns that drifted."""
        return [column for column in self.columns if column.drifted]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "n": self.n,
            "independent": self.independent,
            "drifted": [column.name for column in self.drifted],
            "hidden": self.hidden,
            "columns": [
                {
                    "name": column.name,
                    "psi": column.values.psi,
                    "chance": column.values.chance,
                    "limit": column.values.limit,
                    "missing_rate": column.missing_rate,
                    "missing_psi": column.missing.psi,
                    "unseen_rate": column.unseen_rate,
                    "importance": column.importance,
                    "drifted": column.drifted,
                    "why": column.why,
                }
                for column in self.columns
            ],
        }


def drift_of_files(paths: Sequence[Path], bundle: Bundle) -> DriftReport:
    """The drift of logs, or of CSV files with a column for each feature; raises `LogError`."""
    if all(path.suffix == ".csv" for path in paths):
        return drift(bundle, rows_of_csv(paths, bundle))
    with open_log(paths, bundle.schema) as log:
        return drift_of_log(log, bundle)


def drift_of_log(log: LogTable, bundle: Bundle) -> DriftReport:
    """The drift of the rows of a log; masked features are told by their buckets, or left out."""
    return drift(bundle, rows_of_log(log, bundle))


def drift(bundle: Bundle, rows: Rows) -> DriftReport:
    """The drift of each column, the score among them as `SCORE`; raises `LogError` without a reference."""
    reference = reference_of(bundle)
    weights = importance(Predictor(bundle), rows.sample)
    independent = independent_share(reference, rows.looked_at, rows.distinct)
    tests = 3 * len(rows.columns)
    found = []
    for name, column in rows.columns.items():
        if name == SCORE:
            distribution, label, bins = reference.score, "Score", _ranges(reference.score)
        else:
            feature = bundle.schema[name]
            distribution, label = reference.features[name], feature.label or name
            bins = feature.categories if feature.kind == "category" else _ranges(distribution)
            bins = ("0", "1") if feature.form_kind == "flag" else bins
        found.append(
            _column_drift(name, label, distribution, column, weights.get(name, 1.0), bins, tests, independent)
        )
    found.sort(key=lambda c: (not c.drifted, c.name != SCORE, -c.importance))
    n = rows.columns[SCORE].rows
    return DriftReport(n, round(n * independent), found, rows.hidden)


def _column_drift(
    name: str,
    label: str,
    distribution: Distribution,
    column: Column,
    weight: float,
    bins: tuple[str, ...],
    tests: int,
    independent: float,
) -> ColumnDrift:
    counts, n = column.counts, column.rows
    present = int(counts.sum()) + column.unknown
    unseen = int(counts[np.asarray(distribution.shares) == 0.0].sum()) + column.unknown
    seen_before = int(reference_counts(distribution).sum())
    return ColumnDrift(
        name=name,
        label=label,
        distribution=distribution,
        counts=counts,
        values=shift(reference_counts(distribution), counts, tests, independent),
        missing=missing_shift(distribution, present, column.missing, tests, independent),
        missing_rate=column.missing / n if n else 0.0,
        unseen_rate=unseen / max(1, present),
        unseen=shift((0, seen_before), (unseen, present - unseen), tests, independent),
        importance=weight,
        bins=bins,
    )


def _ranges(distribution: Distribution) -> tuple[str, ...]:
    edges = [f"{edge:,.4g}" if abs(edge) < 1e5 else f"{edge:,.0f}" for edge in distribution.edges]
    if not edges:
        return ("all",)
    middle = [f"{low} – {high}" for low, high in pairwise(edges)]
    return (f"≤ {edges[0]}", *middle, f"> {edges[-1]}")
