"""The lines of the log: what time they tell, when they are made, and in what order."""

import time

import orjson
import pytest

from server.log.line import MAX_HELD_BYTES, TOGETHER, LineMaker

BODY = b'{"income":1}'
#: 2026-03-01T08:00:00.9Z, and the other clock at that moment.
WALL_NS, CLOCK_NS = 1_772_352_000_900_000_000, 5_000_000_000


def _maker() -> tuple[LineMaker, list[tuple[bytes, int]]]:
    appended: list[tuple[bytes, int]] = []
    return LineMaker(lambda lines, count: appended.append((lines, count))), appended


def _answered(
    number: int, body: bytes = BODY, began_ns: int = CLOCK_NS
) -> tuple[int, int, bytes, int, bytes]:
    return began_ns, began_ns + 31_200 + number, b'{"id":"boot-%d"}' % number, number, body


def test_a_line_tells_when_its_request_began_though_it_is_made_in_another_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker, _ = _maker()
    later_ns = 250_000_000
    monkeypatch.setattr(time, "time_ns", lambda: WALL_NS + later_ns)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: CLOCK_NS + later_ns)
    began = (0, 99_999_000, 100_000_000, 240_000_000, 1_000)
    block = maker.lines([_answered(i, began_ns=CLOCK_NS + after) for i, after in enumerate(began)])
    assert [orjson.loads(line)["ts"] for line in block.splitlines()] == [
        "2026-03-01T08:00:00.900000Z",
        "2026-03-01T08:00:00.999999Z",
        "2026-03-01T08:00:01.000000Z",
        "2026-03-01T08:00:01.140000Z",
        "2026-03-01T08:00:00.900001Z",
    ]


def test_durations_have_nanoseconds_below_and_above_a_millisecond() -> None:
    maker, _ = _maker()
    block = maker.lines([(0, took, b'{"id":"a"}', 1, BODY) for took in (7, 31_205, 999_999, 12_345_678)])
    assert [orjson.loads(line)["duration_us"] for line in block.splitlines()] == [
        0.007,
        31.205,
        999.999,
        12345.678,
    ]


def test_answers_are_held_until_some_have_come_together_or_one_is_long() -> None:
    maker, appended = _maker()
    for number in range(1, TOGETHER):
        maker.hold(_answered(number))
    assert appended == []
    maker.hold(_answered(TOGETHER))
    maker.hold(_answered(TOGETHER + 1))
    maker.hold(_answered(TOGETHER + 2, b'{"income":' + b" " * MAX_HELD_BYTES + b"1}"))
    assert [count for _, count in appended] == [TOGETHER, 2]
    assert all(lines.count(b"\n") == count for lines, count in appended)


def test_what_is_written_at_once_comes_after_what_is_held() -> None:
    maker, appended = _maker()
    maker.hold(_answered(1))
    maker.write([_answered(2), _answered(3)])
    maker.flush()
    lines = b"".join(lines for lines, _ in appended).splitlines()
    assert [orjson.loads(line)["seq"] for line in lines] == [1, 2, 3]


def test_a_body_with_line_breaks_is_one_line() -> None:
    maker, _ = _maker()
    (line,) = maker.lines([_answered(1, b'{\r\n"income":\n1}')]).splitlines()
    assert orjson.loads(line)["input"] == {"income": 1}
