"""The lines of the log: what time they tell, when they are made, and in what order."""

import os
import time

import orjson
import pytest

from server.log.line import LineMaker
from server.metrics.process_usage import ProcessUsage

BODY = b'{"income":1}'
#: 2026-03-01T08:00:00.9Z, and the other clock at that moment.
WALL_NS, CLOCK_NS = 1_772_352_000_900_000_000, 5_000_000_000


def _maker() -> LineMaker:
    return LineMaker(ProcessUsage(os.getpid()))


def _answered(
    number: int, body: bytes = BODY, began_ns: int = CLOCK_NS
) -> tuple[int, int, bytes, int, bytes]:
    return began_ns, began_ns + 31_200 + number, b'{"id":"instance-%d"}' % number, number, body


def test_a_line_tells_when_its_request_began_though_it_is_made_in_another_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker = _maker()
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
    maker = _maker()
    block = maker.lines([(0, took, b'{"id":"a"}', 1, BODY) for took in (7, 31_205, 999_999, 12_345_678)])
    assert [orjson.loads(line)["duration_us"] for line in block.splitlines()] == [
        0.007,
        31.205,
        999.999,
        12345.678,
    ]


def test_a_body_with_line_breaks_is_one_line() -> None:
    maker = _maker()
    (line,) = maker.lines([_answered(1, b'{\r\n"income":\n1}')]).splitlines()
    assert orjson.loads(line)["input"] == {"income": 1}
