"""Drift by hour, day, week or month: since when, or from when to when, which the whole of a log dilutes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from monitoring.change_point import change_point
from monitoring.drift.comparison import DriftReport, drift
from monitoring.drift.rows import SAMPLE_ROWS, places_by_hour, rows_of_log
from monitoring.errors import LogError
from monitoring.logs.table import LogTable
from server.model.bundle import Bundle

#: The longest that each lasts.
PERIODS = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=31),
}
#: Each is a comparison of its own: more are asked for with a longer period, or for less time.
MAX_PERIODS = 400


@dataclass(frozen=True)
class Period:
    """The drift of the rows of one period (UTC)."""

    start: datetime
    drift: DriftReport


@dataclass(frozen=True)
class Since:
    """One column that drifted in the last period: the first of the unbroken run of periods up to it."""

    name: str
    start: datetime


@dataclass(frozen=True)
class Passed:
    """One column that drifted for a while: the first period of the run, and the first behind it."""

    name: str
    start: datetime
    end: datetime


def timeline(log: LogTable, bundle: Bundle, by: str) -> list[Period]:
    """The drift of every period that has rows, in order; raises `LogError` for too many of them."""
    (first, last) = log.row("select min(ts), max(ts) from scored")
    if first is None:
        raise LogError("expected rows with a time, got none")
    starts = list(_starts(log, first, last, by))
    return [_period(log, bundle, start, by, len(starts)) for start in starts]


def since(periods: Sequence[Period]) -> list[Since]:
    """What drifts at the end of the time, and since when; a period of too few rows breaks no run."""
    judged = [period for period in periods if not period.drift.too_few]
    found: dict[str, Since] = {}
    running = {column.name for column in judged[-1].drift.drifted} if judged else set()
    for period in reversed(judged):
        running &= {column.name for column in period.drift.drifted}
        found |= {name: Since(name, period.start) for name in running}
    return sorted(found.values(), key=lambda one: (one.start, one.name))


def passed(periods: Sequence[Period]) -> list[Passed]:
    """What drifted and no longer does; a period of too few rows neither ends a run nor begins one."""
    found: list[Passed] = []
    running: dict[str, datetime] = {}
    for period in periods:
        if period.drift.too_few:
            continue
        drifted = {column.name for column in period.drift.drifted}
        over = sorted(running.keys() - drifted)
        found += [Passed(name, running.pop(name), period.start) for name in over]
        running |= dict.fromkeys(drifted - running.keys(), period.start)
    return found


def to_the_hour(log: LogTable, bundle: Bundle, found: Sequence[Since], by: str) -> list[Since]:
    """The same, each dated by the hours (UTC) of the period it began in and of the one before."""
    length = PERIODS[by]
    if length <= timedelta(hours=1):
        return list(found)
    return [_dated(log, bundle, one, length) for one in found]


def to_dicts(periods: Sequence[Period]) -> list[dict[str, Any]]:
    """The figures as plain values, for JSON."""
    return [
        {
            "start": period.start.isoformat() + "Z",
            "n": period.drift.n,
            "verdict": period.drift.verdict,
            "drifted": [column.name for column in period.drift.drifted],
        }
        for period in periods
    ]


def _starts(log: LogTable, first: datetime, last: datetime, by: str) -> Iterator[datetime]:
    if (last - first) / PERIODS[by] > MAX_PERIODS:
        raise LogError(
            f"expected at most {MAX_PERIODS} {by}s, got those from {first:%Y-%m-%d} to {last:%Y-%m-%d}: "
            "look at a part with --since and --until, or by longer periods"
        )
    yield from (
        start
        for (start,) in log.rows(
            f"select distinct date_trunc('{by}', ts)::timestamp from scored where ts is not null order by 1"
        )
    )


def _period(log: LogTable, bundle: Bundle, start: datetime, by: str, looks: int) -> Period:
    end = start + PERIODS[by]
    with log.looking_at(start, end.replace(day=1) if by == "month" else end):
        return Period(start, drift(bundle, rows_of_log(log, bundle, SAMPLE_ROWS), looks))


def _dated(log: LogTable, bundle: Bundle, one: Since, length: timedelta) -> Since:
    with log.looking_at(one.start - length, one.start + length):
        hours, counts = places_by_hour(log, bundle, one.name)
    at = change_point(counts)
    return replace(one, start=hours[at]) if at else one
