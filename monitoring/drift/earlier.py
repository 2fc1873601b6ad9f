"""Another period of a log in the place of training: what changed since, whatever training was like."""

from dataclasses import replace
from datetime import datetime

import numpy as np

from monitoring.drift.rows import reference_of, rows_of_log
from monitoring.errors import LogError
from monitoring.logs.table import LogTable
from server.errors import number_of
from server.metrics.column_shifts import ColumnCounts
from server.metrics.drift import MIN_ROWS
from server.model.bundle import Bundle
from server.model.distribution import Distribution, Reference
from server.model.joint import joint_of


def reference_of_period(log: LogTable, bundle: Bundle, since: datetime, until: datetime) -> Reference:
    """The rows from `since` on and before `until`, in the bins of the bundle's; raises `LogError`."""
    trained = reference_of(bundle)
    with log.looking_at(since, until):
        rows = rows_of_log(log, bundle)
        if rows.looked_at < MIN_ROWS:
            raise LogError(
                f"expected {MIN_ROWS} rows or more from {since:%Y-%m-%d %H:%M} until {until:%Y-%m-%d %H:%M} "
                f"to compare with, got {number_of(rows.looked_at, 'row')}"
            )
        features = {}
        for i, (name, distribution) in enumerate(trained.features.items()):
            ends = log.row(f"select min(n{i}), max(n{i}) from scored")
            features[name] = _distribution(distribution, rows.columns.get(name), *ends)
    joint = joint_of(bundle.schema, rows.sample, features).to_dict()
    return Reference(features, _distribution(trained.score, rows.score), joint, "before")


def _distribution(
    trained: Distribution, column: ColumnCounts | None, low: float | None = None, high: float | None = None
) -> Distribution:
    """What the counts of a column say; of one that is hidden nothing, and nothing is drift from it."""
    counts = column.counts if column else np.zeros(len(trained.shares), dtype=np.int64)
    missing, present = (column.missing, column.present) if column else (0, 0)
    shares = counts / max(1, int(counts.sum()))
    found = replace(
        trained,
        n=missing + present,
        missing_rate=missing / max(1, missing + present),
        shares=tuple(shares.tolist()),
    )
    return found if trained.low is None else replace(found, low=low, high=high)
