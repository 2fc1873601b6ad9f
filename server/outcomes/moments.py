"""Times in a column as people and programs write them: ISO 8601, spreadsheets, databases.

Of 3/4/2026 the rest of the column says whether the day or the month comes first; with
points the day does, wherever they are written.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
#: What may be repeated is bounded: no text takes more time than in proportion to its length.
_TIME = (
    r"(?:[ ,T]{1,3}(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
    r"(?:\s?(?P<half>[AaPp])\.?[Mm]\.?)?)?\s?(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
)
_YEAR = r"(?P<year>\d{4}|\d{2})"
_YEAR_FIRST = re.compile(r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})" + _TIME)
_DAY_FIRST = re.compile(rf"(?P<day>\d{{1,2}})\.(?P<month>\d{{1,2}})\.{_YEAR}{_TIME}")
_NAMED = re.compile(
    rf"(?P<day>\d{{1,2}})[- ](?P<month>[A-Za-z]{{3}})[a-z]{{0,6}}\.?[- ,]{{1,2}}{_YEAR}{_TIME}"
)
_NAME_FIRST = re.compile(
    rf"(?P<month>[A-Za-z]{{3}})[a-z]{{0,6}}\.? (?P<day>\d{{1,2}}),? (?P<year>\d{{4}}){_TIME}"
)
_EITHER = re.compile(rf"(?P<one>\d{{1,2}})(?P<sign>[/-])(?P<two>\d{{1,2}})(?P=sign){_YEAR}{_TIME}")
#: How far ahead of this clock another one may be, or its zone.
FUTURE = timedelta(days=1)
#: What `at` may look like, for errors.
EXPECTED = "a time such as 2026-03-01T14:00 or 01.03.2026"


class UnreadableMoment(ValueError):
    """A column of times that cannot be read: which row of it, from 0, and why."""

    def __init__(self, row: int, why: str = "") -> None:
        super().__init__(why)
        self.row, self.why = row, why


def read_moments(texts: Sequence[str | None]) -> list[datetime | None]:
    """The times of a column as UTC, without a zone as such; None where there is none.

    Raises `UnreadableMoment`, with a reason where day and month cannot be told apart in the column.
    """
    known: dict[str, datetime] = {}
    day_first: bool | None = None
    found: list[datetime | None] = []
    for row, text in enumerate(texts):
        if text is None or not (text := text.strip()):
            found.append(None)
            continue
        if text not in known:
            if day_first is None and _EITHER.fullmatch(text):
                day_first = _is_day_first(texts, row)
            try:
                known[text] = _moment(text, bool(day_first))
            except (ValueError, OverflowError):
                raise UnreadableMoment(row) from None
        found.append(known[text])
    return found


def _is_day_first(texts: Iterable[str | None], row: int) -> bool:
    told = [match for text in texts if text is not None and (match := _EITHER.fullmatch(text.strip()))]
    day, month = (any(int(match[part]) > 12 for match in told) for part in ("one", "two"))
    if day == month:
        why = "change places" if day else "are not told apart"
        raise UnreadableMoment(row, f"day and month {why}: write 2026-03-01")
    return day


def _moment(text: str, day_first: bool) -> datetime:
    try:
        return _in_utc(datetime.fromisoformat(text))
    except ValueError:
        return _written_otherwise(text, day_first)


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _written_otherwise(text: str, day_first: bool) -> datetime:
    patterns = (_YEAR_FIRST, _DAY_FIRST, _EITHER, _NAMED, _NAME_FIRST)
    found = next(filter(None, (pattern.fullmatch(text) for pattern in patterns)), None)
    if found is None:
        raise ValueError("no time")
    parts = found.groupdict()
    if "one" in parts:
        parts["day"], parts["month"] = (
            (parts["one"], parts["two"]) if day_first else (parts["two"], parts["one"])
        )
    month = parts["month"]
    hour = int(parts["hour"] or 0)
    if parts["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("no hour")
        hour = hour % 12 + 12 * (parts["half"] in "Pp")
    moment = datetime(
        int(parts["year"]) + 2000 * (len(parts["year"]) == 2),
        int(month) if month.isdigit() else _MONTHS.index(month.lower()) + 1,
        int(parts["day"]),
        hour,
        int(parts["minute"] or 0),
        int(parts["second"] or 0),
        int((parts["part"] or "0")[:6].ljust(6, "0")),
    )
    zone = parts["zone"] or ""
    if zone[:1] not in ("+", "-"):
        return moment
    ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    return moment - ahead if zone[0] == "+" else moment + ahead
