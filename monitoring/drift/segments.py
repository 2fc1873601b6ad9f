"""Drift within the rows of each value of a field, such as a branch: few rows that all others dilute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from monitoring.drift.comparison import DriftReport, drift
from monitoring.drift.earlier import reference_of_period
from monitoring.drift.rows import rows_of_log
from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.logs.table import LogTable
from server.metrics.drift import MIN_ROWS
from server.model.bundle import Bundle
from server.model.distribution import Reference

#: So many are looked at, those of most rows.
MOST_SEGMENTS = 24


@dataclass(frozen=True)
class SegmentDrift:
    """What the rows with this value of the field are beside its own rows before."""

    value: str
    drift: DriftReport

    @property
    def found(self) -> list[str]:
        """What drifted in it."""
        return [column.name for column in self.drift.drifted]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        columns = [column.to_dict() for column in self.drift.drifted]
        return {"value": self.value, "n": self.drift.n, "drifted": self.found, "columns": columns}


def references_of_segments(
    log: LogTable, bundle: Bundle, since: datetime, until: datetime
) -> dict[str, Reference]:
    """The rows of each segment from `since` on and before `until`, of those that have enough.

    Raises `LogError` if none has.
    """
    with log.looking_at(since, until):
        names = _names(log)
    if not names:
        raise LogError(
            f"expected a field with {MIN_ROWS} rows or more of a value from {since:%Y-%m-%d %H:%M} until "
            f"{until:%Y-%m-%d %H:%M} for --segment, got none"
        )
    found = {}
    for name in names:
        with log.only(_has(log, name)):
            found[name] = reference_of_period(log, bundle, since, until)
    return found


def drift_of_segments(
    log: LogTable, bundle: Bundle, before: Mapping[str, Reference]
) -> Sequence[SegmentDrift]:
    """The drift within each segment, those first in which most is felt.

    Of all segments chance is allowed as often as of one look.
    """
    found = []
    for name in _names(log):
        if name in before:
            with log.only(_has(log, name)):
                rows = rows_of_log(log, bundle)
                found.append(SegmentDrift(name, drift(bundle, rows, len(before) + 1, before[name])))
    return sorted(found, key=lambda one: (not one.found, -_felt(one)))


def with_segments(whole: DriftReport, segments: Sequence[SegmentDrift], field: str) -> DriftReport:
    """The drift of all rows, and what drifted in a segment alone."""
    return replace(whole, segments=[(f"{field} {one.value}", one.to_dict()) for one in segments])


def _felt(one: SegmentDrift) -> float:
    """How far the drifted columns of a segment move margins, of all its rows."""
    return one.drift.n * max((column.effect for column in one.drift.drifted), default=0.0)


def _names(log: LogTable) -> list[str]:
    """The values that enough rows have, the most frequent first."""
    query = (
        f"select {log.segment}, count(*) from scored where {log.segment} is not null group by 1 "
        f"having count(*) >= {MIN_ROWS} order by 2 desc, 1 limit {MOST_SEGMENTS}"
    )
    return [str(name) for name, _ in log.rows(query)]


def _has(log: LogTable, name: str) -> str:
    return f"{log.segment} = {literal(name)}"
