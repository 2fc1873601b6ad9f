"""Lines by machine code: to the byte those of `LineMaker`, whatever lies in the ring, or none."""

import math
import mmap
import os
import random
import struct
from pathlib import Path

import pytest

from server.compiled.forest import NotCompilable
from server.compiled.machine import machine_code
from server.log.compiled import compiler
from server.log.compiled.block import block_function
from server.log.compiled.code import LineCode, LineCodes, code_path
from server.log.compiled.compiler import line_code, makes_the_same
from server.log.line import LineMaker
from server.log.ring import CLOSED, ROWS, SPAN, Ring, ring_bytes
from server.metrics.process_usage import ProcessUsage
from tests.support.servers import eventually

BEGAN = 5_000_000_000


@pytest.fixture(scope="module")
def code() -> LineCode:
    return LineCode(line_code())


@pytest.fixture
def ring() -> Ring:
    return Ring(mmap.mmap(-1, ring_bytes(2**16)))


def _taken(code: LineCode, ring: Ring) -> int:
    """The lines that the code makes of what waits, which are those of Python."""
    maker = LineMaker(ProcessUsage(os.getpid()))
    waiting = ring.waiting(2**16)
    if waiting is None:
        return 0
    block = code.block(waiting, maker.frame(waiting.began))
    if block.made:
        taken = ring.take(block.read - waiting.position)
        assert block.lines == b"".join(maker.lines(group.responses) for group in taken.groups)
    return block.made


@pytest.mark.parametrize("seed", range(3))
def test_lines_and_rows_are_those_of_python(code: LineCode, seed: int) -> None:
    assert makes_the_same(code, random.Random(seed), 2000)


@pytest.mark.parametrize(
    "margin",
    [1.0, -1.0, 0.1, -math.pi, 5e-324 * 2**60, 2.0**-1022, 1.7976931348623157e308, -(2.0**1023)],
)
def test_a_margin_is_written_as_python_writes_it(code: LineCode, ring: Ring, margin: float) -> None:
    ring.writer()(1, BEGAN, BEGAN + 9, 1, margin, 0.5, b"", b"{}", b"{}")
    assert _taken(code, ring) == 1


@pytest.mark.parametrize("margin", [0.0, -0.0, 5e-324, math.inf, -math.inf, math.nan])
def test_a_margin_that_is_no_normal_number_is_left_to_python(
    code: LineCode, ring: Ring, margin: float
) -> None:
    put = ring.writer()
    put(1, BEGAN, BEGAN + 9, 1, 1.0, 0.5, b"", b"{}", b"{}")
    put(1, BEGAN, BEGAN + 9, 2, margin, 0.5, b"", b"{}", b"{}")
    assert _taken(code, ring) == 1


@pytest.mark.parametrize(
    ("instance", "began", "took", "kind"),
    [
        (2, BEGAN, 9, 0),
        (1, BEGAN + 2 * 10**9, 9, 0),
        (1, BEGAN - 2 * 10**9, 9, 0),
        (1, BEGAN, -1, 0),
        (1, BEGAN, 9, ROWS),
        (1, BEGAN, 9, SPAN),
        (1, BEGAN, 9, CLOSED),
        (1, BEGAN, 9, 2 | 1 << 31),
    ],
)
def test_it_stops_before_what_is_not_its_own(
    code: LineCode, ring: Ring, instance: int, began: int, took: int, kind: int
) -> None:
    put = ring.writer()
    put(1, BEGAN, BEGAN + 9, 1, 1.0, 0.5, b"", b"{}", b"{}")
    put(instance, began, began + took, 2, 1.0, 0.5, b"", b"{}", b"{}", kind)
    assert _taken(code, ring) == 1


def test_it_reads_nothing_behind_the_ring_and_writes_nothing_behind_its_own(
    code: LineCode, ring: Ring
) -> None:
    """The last record of a lap ends where the memory does; one of a megabyte has no room as a line."""
    put, empty = ring.writer(), struct.calcsize("=IIIQqqQdd") + 4
    put(1, BEGAN, BEGAN + 9, 1, 1.0, 0.5, b"", b"{}", b"{}")
    put(1, BEGAN, BEGAN + 9, 2, 1.0, 0.5, b"", b"{}", b"x" * (ring.capacity - 2 * empty) + b"{}"[:0])
    assert ring.unread_bytes > ring.capacity - empty
    assert _taken(code, ring) == 1
    large = Ring(mmap.mmap(-1, ring_bytes(2**22)))
    large.writer()(1, BEGAN, BEGAN + 9, 1, 1.0, 0.5, b"", b"{}", b"x" * 2**20)
    assert _taken(code, large) == 0


def test_code_that_makes_another_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = block_function().replace(str(int.from_bytes(b',"seq":', "little")), "0")
    monkeypatch.setattr(compiler, "block_function", lambda: other)
    with pytest.raises(NotCompilable, match="not equal to the byte"):
        line_code()


def test_code_that_needs_something_beside_it_is_refused() -> None:
    with pytest.raises(NotCompilable, match="not whole in itself"):
        machine_code("declare i64 @other()\ndefine i64 @one() {\n%a = call i64 @other()\nret i64 %a\n}")


def test_it_is_made_once_by_a_process_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caplog.set_level("INFO")

    def is_there(codes: LineCodes) -> bool:
        codes.look_after()
        return codes.code is not None

    first = LineCodes(is_wanted=True)
    assert first.code is None
    eventually(lambda: is_there(first))
    assert LineCodes(is_wanted=True).code is not None
    assert LineCodes(is_wanted=False).code is None
    code_path().write_bytes(b"half of it")
    second = LineCodes(is_wanted=True)
    assert second.code is None
    eventually(lambda: is_there(second))
    assert ["are made by compiled code" in record.message for record in caplog.records] == [True] * 3
