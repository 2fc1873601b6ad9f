"""The lines of the log: what time they tell, when they are made, and in what order."""

import os
import time
from array import array
from pathlib import Path

import orjson
import pytest

from server.log.line import LineMaker
from server.log.ring import NO_MARGIN, LoggedResponse, RowMargins
from server.metrics.process_usage import ProcessUsage

BODY = b'{"income":1}'
#: 2026-03-01T08:00:00.9Z, and the other clock at that moment.
WALL_NS, CLOCK_NS = 1_772_352_000_900_000_000, 5_000_000_000


def _maker() -> LineMaker:
    return LineMaker(ProcessUsage(os.getpid()))


def _answered(number: int, body: bytes = BODY, began_ns: int = CLOCK_NS) -> LoggedResponse:
    return began_ns, began_ns + 31_200 + number, b'{"id":"instance-%d"}' % number, number, -0.1, body


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
    block = maker.lines(
        [(0, took, b'{"id":"a"}', 1, NO_MARGIN, BODY) for took in (7, 31_205, 999_999, 12_345_678)]
    )
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


def test_a_line_has_the_margin_of_its_row_to_the_bit_or_those_of_several() -> None:
    maker = _maker()
    answered = _answered(1)
    several = array("d", [-0.1, 5e-324, 0.0, 1.5]).tobytes()
    block = maker.lines([answered, *((*answered[:4], RowMargins(several, width), BODY) for width in (1, 2))])
    one, flat, nested = map(orjson.loads, block.splitlines())
    digits = ["-0x1.999999999999ap-4", "0x0.0000000000001p-1022", "0x0.0p+0", "0x1.8000000000000p+0"]
    assert (one["margin"], flat.pop("margins")) == (digits[0], digits)
    assert nested.pop("margins") == [digits[:2], digits[2:]]
    assert flat.keys() == nested.keys() == one.keys() - {"margin"}


def test_a_line_is_as_the_documents_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: WALL_NS)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: CLOCK_NS)
    content = (
        b'{"id":"9f3c1ab20c44-42","probability":0.47502081252106,"decision":"accept","model":"credit@1"}'
    )
    line = _maker().lines([(CLOCK_NS, CLOCK_NS + 31_200, content, 42, -0.1, b'{"AMT_CREDIT":513000}')])
    golden = (
        b'{"ts":"2026-03-01T08:00:00.900000Z","id":"9f3c1ab20c44-42","probability":0.47502081252106,'
        b'"decision":"accept","model":"credit@1","seq":42,"margin":"-0x1.999999999999ap-4",'
        b'"input":{"AMT_CREDIT":513000},"duration_us":31.200,"cpu_percent":'
    )
    assert line.startswith(golden)
    assert golden + b"12.0," in Path("docs/log.md").read_bytes()
