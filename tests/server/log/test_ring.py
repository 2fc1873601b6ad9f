"""The ring between a worker and the observer: whole records, in order, once, whoever is killed when."""

import math
import mmap
import os
import random
import signal
import struct
import time
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from server.log.ring import (
    ADMITTED,
    CLOSED,
    OPENED,
    PAGE_BYTES,
    ROWS,
    Event,
    LoggedResponse,
    Put,
    RecordGroup,
    Ring,
    RowMargins,
    Taken,
    put_margins,
    ring_bytes,
)

CAPACITY = 2 * PAGE_BYTES


def memory(capacity: int = CAPACITY) -> mmap.mmap:
    return mmap.mmap(-1, ring_bytes(capacity))


ROW = struct.pack("2d", 1.5, math.nan)


def answer(number: int, size: int = 10) -> tuple[int, int, int, int, float, float, bytes, bytes, bytes]:
    """What is put: an answer to one row of two values."""
    return (
        0xABC,
        100 * number,
        100 * number + 7,
        number,
        -number / 3,
        number / 8,
        ROW,
        b"{%d}" % number,
        b"x" * size,
    )


def taken_of(number: int, size: int = 10) -> LoggedResponse:
    """What comes out of it."""
    return 100 * number, 100 * number + 7, b"{%d}" % number, number, -number / 3, b"x" * size


def say(put: Put, kind: int, instance: int, lines: int = 0, dropped: int = 0) -> bool:
    return Event(kind, instance, 77, lines, dropped).put(put)


def read_all(ring: Ring, max_bytes: int = 1000) -> list[LoggedResponse]:
    found: list[LoggedResponse] = []
    while True:
        taken = ring.take(max_bytes)
        responses = answers_of(taken)
        ring.done(taken.read, len(found))
        if not responses:
            return found
        found += responses


def answers_of(taken: Taken) -> list[LoggedResponse]:
    groups = [group for group in taken.groups if group.instance == 0xABC]
    for group in groups:
        assert group.rows == [struct.pack("d", number / 8) + ROW for number in numbers(group.responses)]
    return [answer for group in groups for answer in group.responses]


def numbers(responses: list[LoggedResponse]) -> list[int]:
    return [number for _, _, _, number, *_ in responses]


def test_records_come_out_as_they_went_in_however_often_the_ring_is_gone_round() -> None:
    choose, ring = random.Random(5), Ring(memory())
    put = ring.writer()
    for number in range(5000):
        size = choose.randrange(2000)
        assert put(*answer(number, size))
        assert read_all(ring) == [taken_of(number, size)]


def test_several_margins_come_out_beside_those_of_one() -> None:
    ring = Ring(memory())
    put = ring.writer()
    for number in range(300):
        margins = RowMargins(struct.pack("d", number) * (number % 7), 1 + number % 3)
        told, (instance, began, ended, _, _, score, row, response, body) = taken_of(number), answer(number)
        assert put_margins(put, instance, began, ended, number, margins, score, row, response, body)
        assert put(*answer(number))
        assert read_all(ring) == [(*told[:4], margins, told[5]), told]


def test_full_ring_takes_no_more_and_goes_on_when_it_was_read() -> None:
    ring = Ring(memory())
    put = ring.writer()
    taken = 0
    while put(*answer(taken, 300)):
        taken += 1
    assert taken * 371 <= CAPACITY < (taken + 2) * 373
    assert numbers(read_all(ring)) == list(range(taken))
    assert put(*answer(taken, 300))
    assert not put(*answer(0, CAPACITY))
    assert numbers(read_all(ring)) == [taken]


def test_what_is_said_of_instances_comes_alone_and_in_its_place() -> None:
    ring = Ring(memory())
    put = ring.writer()
    assert say(put, OPENED, 0)
    assert put(*answer(1))
    assert put(*answer(2))
    assert say(put, ADMITTED, 0xDEF)
    assert put(*answer(3))
    assert say(put, CLOSED, 0, 3, 4)
    portions: list[object] = []
    while (taken := ring.take(1000)).groups or taken.event:
        ring.done(taken.read, 0)
        portions.append(taken.event or numbers(answers_of(taken)))
    assert portions == [
        Event(OPENED, 0, 77, 0, 0),
        [1, 2],
        Event(ADMITTED, 0xDEF, 77, 0, 0),
        [3],
        Event(CLOSED, 0, 77, 3, 4),
    ]


def test_rows_of_a_batch_come_with_no_line_of_their_own() -> None:
    ring = Ring(memory())
    put = ring.writer()
    two = struct.pack("6d", 0.25, 1.0, 2.0, 0.5, 3.0, 4.0)
    assert put(0xABC, 0, 0, 0, 0.0, 0.25, two[8:], b"", b"", ROWS)
    assert put(0xABC, 1, 2, 3, 1.5, 0.0, b"", b"{}", b"[]")
    assert ring.take(1000).groups == [RecordGroup(0xABC, [(1, 2, b"{}", 3, 1.5, b"[]")], [two])]


def test_successors_of_both_ends_go_on_where_they_stopped() -> None:
    shared = memory()
    choose = random.Random(7)
    written = got = 0
    for _ in range(300):
        put, reader = Ring(shared).writer(), Ring(shared)
        for _ in range(choose.randrange(6)):
            written += put(*answer(written, choose.randrange(900)))
        taken = reader.take(choose.randrange(1, 3000))
        found = numbers(answers_of(taken))
        assert found == list(range(got, got + len(found)))
        if choose.random() < 0.7:  # else it was killed before it was done
            reader.done(taken.read, 0)
            got += len(found)
    assert got > 100


@pytest.mark.parametrize("is_killed_amid", ["header", "record", "skip"])
def test_record_of_a_writer_that_was_killed_amid_it_is_not_there(is_killed_amid: str) -> None:
    shared = memory()
    ring = Ring(shared)
    assert ring.writer()(*answer(1))
    at = PAGE_BYTES + ring.unread_bytes
    left = {"header": b"\xff" * 7, "record": struct.pack("=III", 60, 0, 3) + b"\xff" * 30, "skip": bytes(4)}
    shared[at : at + len(left[is_killed_amid])] = left[is_killed_amid]
    assert Ring(shared).writer()(*answer(2))
    assert numbers(read_all(Ring(shared))) == [1, 2]


def test_killed_writer_process_leaves_whole_records_alone() -> None:
    for seed in range(20):
        shared = memory(2**16)
        ring = Ring(shared)
        child = os.fork()
        if not child:
            _write_for_ever(Ring(shared))
        seen: list[LoggedResponse] = []
        end = time.monotonic() + 60
        while len(seen) < 50 + seed and time.monotonic() < end:
            seen += read_all(ring)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen += read_all(ring)
        assert numbers(seen) == list(range(1, 1 + len(seen)))
        assert all(body == b"x" * (number * 7 % 500) for _, _, _, number, _, body in seen)
        assert len(seen) >= 50 + seed


def _write_for_ever(ring: Ring) -> None:
    number, put = 1, ring.writer()
    while True:
        if put(*answer(number, number * 7 % 500)):
            number += 1


def test_memory_of_what_was_read_goes_back_once_the_writer_says_so() -> None:
    shared = os.memfd_create("ring")
    os.ftruncate(shared, ring_bytes(8 * 2**20))
    ring = Ring(mmap.mmap(shared, 0))
    put = ring.writer()
    number = 0
    for _ in range(3):
        for _ in range(20):
            for _ in range(1000):
                assert put(*answer(number, 1000))
                number += 1
            assert len(read_all(ring, 2**18)) == 1000
        assert os.fstat(shared).st_blocks * 512 > 7 * 2**20  # it was gone round
        waiting = [answer(number + more, 1000) for more in range(1000)]
        assert all(put(*each) for each in waiting)
        for _ in range(3):
            ring.give_back()
        assert os.fstat(shared).st_blocks * 512 < 4 * 2**20
        assert numbers(read_all(ring, 2**18)) == list(range(number, number + 1000))
        number += 1000
    os.close(shared)


def test_figures_of_a_ring() -> None:
    ring = Ring(memory())
    put = ring.writer()
    assert (ring.oldest_ns(), ring.unread_bytes, ring.intent) == (None, 0, None)
    put(*answer(3))
    put(*answer(4))
    assert ring.oldest_ns() == 307
    ring.intend(10, 20, 30, 40)
    assert ring.intent is not None
    assert tuple(ring.intent) == (10, 20, 30, 40)
    ring.done(ring.take(1).read, 1)
    assert ring.intent is None
    assert (ring.oldest_ns(), ring.lines) == (407, 1)


class RingMachine(RuleBasedStateMachine):
    """Every order of writes, reads, and deaths of both ends, against a list."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = memory()
        self.writer, self.reader = Ring(self.memory), Ring(self.memory)
        self.put = self.writer.writer()
        self.waiting: list[tuple[int, bytes]] = []
        self.number = 0

    @rule(size=st.integers(0, 3000))
    def write(self, size: int) -> None:
        """A record, which there is room for or not."""
        body = bytes([self.number % 251]) * size
        if self.put(0xABC, 0, 0, self.number, math.nan, self.number / 8, ROW, b"{}", body):
            self.waiting.append((self.number, body))
        else:
            # Beside what waits: a gap at the end, and what was read and is not given back yet.
            waiting = sum(len(body) + 78 for _, body in self.waiting)
            assert waiting + size + 78 > CAPACITY - 3078 - CAPACITY // 4
        self.number += 1

    @rule(max_bytes=st.integers(1, 9000))
    def read(self, max_bytes: int) -> None:
        """A portion."""
        taken = self.reader.take(max_bytes)
        responses = self._compared(taken)
        self.reader.done(taken.read, 0)
        del self.waiting[: len(responses)]

    @rule(max_bytes=st.integers(1, 9000))
    def reader_dies_before_it_is_done(self, max_bytes: int) -> None:
        """Its successor sees the same."""
        taken = self.reader.take(max_bytes)
        self.reader.intend(0, 1, taken.read, 0)
        self._compared(taken)
        self.reader = Ring(self.memory)
        self.reader.forget_intent()

    @rule(left=st.binary(max_size=60))
    def writer_dies_amid_a_record(self, left: bytes) -> None:
        """What it had written of it is not seen, if there was room for it."""
        if self.put(2, 0, 0, 0, math.nan, 0.0, b"", b"", left):
            position = self.memory[:8]
            size = struct.calcsize("=IIIQqqQdd") + len(left)
            self.memory[:8] = struct.pack("@Q", struct.unpack("@Q", position)[0] - size)
        self.writer = Ring(self.memory)
        self.put = self.writer.writer()

    @rule()
    def writer_gives_memory_back(self) -> None:
        """What was not read stays."""
        self.writer.give_back()

    @invariant()
    def nothing_waits_unseen(self) -> None:
        """There is something to read if, and only if, something was written."""
        assert bool(self.waiting) <= bool(self.reader.unread_bytes)

    def _compared(self, taken: Taken) -> list[LoggedResponse]:
        responses = answers_of(taken)
        found = [(number, body) for _, _, _, number, _, body in responses]
        assert found == self.waiting[: len(found)]
        assert bool(found) == bool(self.waiting)
        return responses


RingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60)
TestRing: Callable[..., object] = RingMachine.TestCase
