"""The last day of a log by itself, which the days before would dilute, and since when it drifts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monitoring.change_point import change_point
from monitoring.drift.comparison import ColumnDrift, DriftReport, drift
from monitoring.drift.rows import SAMPLE_ROWS, NoBin, places_by_hour, rows_of_log
from monitoring.logs.table import LogTable
from server.metrics.column_shifts import missing_shift
from server.metrics.drift import reference_counts, shift
from server.model.bundle import Bundle

DAY = timedelta(days=1)
#: A drift is dated as far back as this, by the hours (UTC).
DATED = timedelta(days=28)
#: Of shorter logs the whole tells as much.
SHORTEST = timedelta(days=2)


@dataclass(frozen=True)
class LastDay:
    """The drift of the rows of the last 24 hours; `since` when, by name, where there was none before."""

    drift: DriftReport
    since: dict[str, datetime]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "n": self.drift.n,
            "drifted": [column.name for column in self.drift.drifted],
            "since": {name: f"{start.isoformat()}Z" for name, start in self.since.items()},
        }


def last_day(log: LogTable, bundle: Bundle) -> LastDay | None:
    """The last 24 hours that a log has rows of; None of one of less than two days."""
    first, last = log.row("select min(ts), max(ts) from scored")
    if first is None or last - first < SHORTEST:
        return None
    end = last + timedelta(microseconds=1)
    with log.looking_at(end - DAY, end):
        found = drift(bundle, rows_of_log(log, bundle, SAMPLE_ROWS), looks=2)  # the whole is the other
    with log.looking_at(end - DATED, end):
        begun = {column.name: _began(log, bundle, column) for column in found.drifted}
    return LastDay(found, {name: start for name, start in begun.items() if start is not None})


def _began(log: LogTable, bundle: Bundle, column: ColumnDrift) -> datetime | None:
    """The hour in which a column changed; None if it was no different before, or had drifted already."""
    hours, counts = places_by_hour(log, bundle, column.name)
    at = change_point(counts)
    before, bins = counts[:at].sum(axis=0), len(column.distribution.shares)
    values = shift(reference_counts(column.distribution), before[:bins], tests=1)
    present = int(before.sum() - before[NoBin.MISSING] - before[NoBin.DROPPED])
    missing = missing_shift(column.distribution, present, int(before[NoBin.MISSING]), tests=1)
    return None if not at or values.drifted or missing.drifted else hours[at]
