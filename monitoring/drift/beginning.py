"""The hour in which a column changed, for a drift that days alone date to a day."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from monitoring.change_point import change_point
from monitoring.drift.rows import places_by_hour
from monitoring.drift.timeline import PERIODS, Since
from monitoring.logs.table import LogTable
from server.model.bundle import Bundle


def to_the_hour(log: LogTable, bundle: Bundle, found: Sequence[Since], by: str) -> list[Since]:
    """The same, each dated by the hours (UTC) of the period it began in and of the one before."""
    length = PERIODS[by]
    if length <= timedelta(hours=1):
        return list(found)
    return [_dated(log, bundle, one, length) for one in found]


def _dated(log: LogTable, bundle: Bundle, one: Since, length: timedelta) -> Since:
    with log.looking_at(one.start - length, one.start + length):
        hours, counts = places_by_hour(log, bundle, one.name)
    at = change_point(counts)
    return replace(one, start=hours[at]) if at else one
