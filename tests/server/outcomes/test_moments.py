"""Times as people and programs write them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.outcomes.moments import UnreadableMoment, read_moments

NOON = datetime(2026, 3, 30, 14, 5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-30T14:05", NOON),
        ("2026-03-30T14:05:00.000Z", NOON),
        ("2026-03-30 16:05:00+02:00", NOON),
        ("2026-03-30 16:05 +0200", NOON),
        ("2026/3/30 14:05", NOON),
        ("20260330T140500", NOON),
        ("30.03.2026 14:05", NOON),
        ("30.3.26, 14:05:00", NOON),
        ("30/03/2026 2:05 PM", NOON),
        ("3/30/26 2:05 p.m.", NOON),
        ("30-MAR-26 14:05", NOON),
        ("30 March 2026 14:05", NOON),
        ("Mar 30, 2026 14:05:00", NOON),
        (" 2026-03-30 ", datetime(2026, 3, 30)),
        ("3/30/2026 12:00 AM", datetime(2026, 3, 30)),
        ("2026-03-30 14:05:00.123456789", NOON + timedelta(microseconds=123456)),
    ],
)
def test_moment_is_read(text: str, expected: datetime) -> None:
    assert read_moments([None, text, ""]) == [None, expected, None]


@pytest.mark.parametrize("text", ["yesterday", "46111", "2026-02-30", "31.02.2026", "3/30/2026 13:00 PM"])
def test_other_text_is_none(text: str) -> None:
    with pytest.raises(UnreadableMoment) as refused:
        read_moments(["2026-03-30", text])
    assert (refused.value.row, refused.value.why) == (1, "")


def test_column_tells_day_from_month() -> None:
    assert read_moments(["3/4/2026", "13/4/2026"]) == [datetime(2026, 4, 3), datetime(2026, 4, 13)]
    assert read_moments(["3/4/2026", "4-13-2026"]) == [datetime(2026, 3, 4), datetime(2026, 4, 13)]
    for column, why in ((["3/4/2026"], "not told apart"), (["13/4/2026", "4/13/2026"], "change places")):
        with pytest.raises(UnreadableMoment, match=why):
            read_moments(column)


@given(st.datetimes(timezones=st.just(UTC)))
def test_moment_survives_writing(moment: datetime) -> None:
    assert read_moments([moment.isoformat()]) == [moment.replace(tzinfo=None)]
