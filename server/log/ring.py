"""Records on their way from a worker to the observer: a ring in memory that both have.

One writer, one reader, no lock. A record is written whole before the position
behind it is, so none is ever half visible, even of a writer that is killed amid
it; and neither end needs the other to be alive. Positions only grow. The reader
tells apart what it has read and what the writer may write over, and says before
it writes lines to a file what it is about to write: a successor goes on exactly
where a killed reader stopped.
"""

import math
import mmap
import platform
import struct
from collections.abc import Sequence
from ctypes import CDLL, addressof, c_char, c_long
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeAlias

#: The positions and what a successor needs lie in the first page of a ring.
PAGE_BYTES = mmap.PAGESIZE
_HEAD, _READ, _FREE = 0, 8, 16  # apart by a cache line: the writer's and the reader's
_INTENT, _INTENT_BYTES, _INTENT_READ, _INTENT_LINES = 17, 18, 19, 20
_PID, _LINES, _BEAT_NS, _TOLD = 21, 22, 23, 24
#: Sizes of the record, of the rows behind the first score, of the response; instance, began, ended,
#: number, margin, score of the first row; then the rest of the rows, the response and the body.
_RECORD = struct.Struct("=IIIQqqQdd")
_PACK, _UNPACK, _RECORD_BYTES = _RECORD.pack, _RECORD.unpack_from, _RECORD.size
_SCORE_BYTES = 8
_SKIP = bytes(4)
_GAP = (0,) * 9
#: In the place of the response's length: no response, but an instance that begins or ends.
OPENED, ADMITTED, CLOSED = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
#: Rows of a response whose lines come after: they are counted, and have no line of their own.
ROWS = 0xFFFFFFFC
#: The text of a span, which is no line and belongs to no instance.
SPAN = 0xFFFFFFFB
#: Beside the length of a response: several margins lie behind the body, and then their size and width.
_MARGINS = 1 << 31
_BEHIND = struct.Struct("=II")
#: What was read may be written over in pieces of so much.
FREE_BYTES = 2**20
#: Memory that is given back in one go: a millisecond.
GIVE_BACK_BYTES = 4 * FREE_BYTES
_MEMBARRIER, _MEMBARRIER_GLOBAL = {"aarch64": 283}.get(platform.machine(), 324), 1
_STORES_IN_ORDER = platform.machine() in ("x86_64", "AMD64", "i686")


#: In the place of the margin, where there is none or several.
NO_MARGIN = math.nan


class RowMargins(NamedTuple):
    """Several margins, float64: of the classes of one row, each of `width` 1, or of rows of so many each."""

    content: bytes
    width: int


#: When a request began and ended by `perf_counter_ns`, the JSON object that was sent, its
#: number, the margin of its one row or several, and the JSON object that was received.
LoggedResponse: TypeAlias = tuple[int, int, bytes, int, float | RowMargins, bytes]


class Event(NamedTuple):
    """An instance begins or ends: `OPENED`, `ADMITTED` or `CLOSED`, by the process `pid`.

    `dropped` are the responses that found no room until then, of those before it in its place, too.
    """

    kind: int
    instance: int
    pid: int
    lines: int
    dropped: int

    def put(self, put: "Put") -> bool:
        """Add it to a ring, its figures in the fields that a response has for others; `of` reads it."""
        return put(
            self.instance, self.lines, self.dropped, self.pid, NO_MARGIN, 0.0, b"", b"", b"", self.kind
        )

    @classmethod
    def of(cls, kind: int, instance: int, began: int, ended: int, number: int) -> "Event":
        """The event in a record of these fields, as `put` filled them."""
        return cls(kind, instance, pid=number, lines=began, dropped=ended)


class RecordGroup(NamedTuple):
    """What came of one instance: answers, and the rows they are of.

    Rows are the bytes of 1 + F float64 each: the score, and the encoded row.
    """

    instance: int
    responses: list[LoggedResponse]
    rows: list[bytes]


class Taken(NamedTuple):
    """What was read: answers by instance, as they came, or one event; and the position behind it.

    `spans` are those that were noted between the answers: when each began and ended by
    `perf_counter_ns`, and its text.
    """

    groups: list[RecordGroup]
    event: Event | None
    read: int
    spans: Sequence[tuple[int, int, bytes]] = ()


class Waiting(NamedTuple):
    """A response that was not read: of which instance, when its request began, and where it lies.

    `position` is the reader's; `start`, `end` and `readable_end` are addresses: of the record, of the
    last that is to be read or of the lap, and of the ring.
    """

    instance: int
    began: int
    position: int
    start: int
    end: int
    readable_end: int


class Intent(NamedTuple):
    """What a reader was about to append: to a file of so many bytes so many more, up to a position."""

    file_bytes: int
    more_bytes: int
    read: int
    lines: int


def ring_bytes(capacity: int) -> int:
    """The memory of a ring that holds records of about `capacity` bytes, in whole pages."""
    pages = max(2, -(-capacity // PAGE_BYTES))
    return (1 + pages) * PAGE_BYTES


class Put(Protocol):
    """Adds a record; False if there is no room.

    In this order: the instance, when the request began and ended by `perf_counter_ns`,
    the number of the response, the margin and the score of its row, the encoded row (of several their
    scores and rows in turn, but for the first score), the response, the body.
    """

    def __call__(
        self,
        instance: int,
        began: int,
        ended: int,
        number: int,
        margin: float,
        score: float,
        row: bytes,
        response: bytes,
        body: bytes,
        kind: int = 0,
    ) -> bool: ...


def put_margins(
    put: Put,
    instance: int,
    began: int,
    ended: int,
    number: int,
    margins: RowMargins,
    score: float,
    row: bytes,
    response: bytes,
    body: bytes,
) -> bool:
    """Add a response with several margins, as `put` adds one with one: of that the hot path knows nothing."""
    size = _BEHIND.pack(len(margins.content), margins.width)
    behind = b"%b%b%b" % (body, margins.content, size)
    kind = len(response) | _MARGINS
    return put(instance, began, ended, number, NO_MARGIN, score, row, response, behind, kind)


class Ring:
    """Both ends of one ring in `memory`, and what anybody may look at."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._index = memoryview(memory)[:PAGE_BYTES].cast("Q")
        self.capacity = len(memory) - PAGE_BYTES
        self._given = 0  # what is free has no memory up to here

    # The writer

    def writer(self) -> Put:
        """Be the writer from now on, behind all that the one before has written.

        One function with its own variables, for it is on the hot path: a record is
        written by the memory's own position, which takes no slice and no sum.
        """
        memory, index, capacity = self._memory, self._index, self.capacity
        pack, record_bytes, join, write = _PACK, _RECORD_BYTES, b"".join, memory.write
        head, room = index[_HEAD], 0  # the ends of what was written and may be, up to the end of the lap

        def put(
            instance: int,
            began: int,
            ended: int,
            number: int,
            margin: float,
            score: float,
            row: bytes,
            response: bytes,
            body: bytes,
            kind: int = 0,
        ) -> bool:
            nonlocal head, room
            wide, length = len(row), len(response)
            size = record_bytes + wide + length + len(body)
            if head + size > room and not make_room(size):
                return False
            write(
                join(
                    (
                        pack(size, wide, kind or length, instance, began, ended, number, margin, score),
                        row,
                        response,
                        body,
                    )
                )
            )
            head = index[_HEAD] = head + size
            return True

        def make_room(size: int) -> bool:
            nonlocal head, room
            at = head % capacity
            gap = capacity - at if at + size > capacity else 0  # a record never wraps
            free = index[_FREE] + capacity - 1
            if head + gap + size > free:
                return False
            memory.seek(PAGE_BYTES + at)
            if gap:
                write(_SKIP[:gap])
                head += gap
                memory.seek(PAGE_BYTES)
            room = min(free, head - head % capacity + capacity)
            return True

        return put

    def give_back(self) -> None:
        """Give the kernel the memory of a part that is free; for the writer, between records, when few come.

        Never of what comes soon: a page that is had anew costs a tenth of what a response does.
        """
        index = self._index
        start = max(index[_HEAD], self._given)
        start += -start % PAGE_BYTES
        end = min(start + GIVE_BACK_BYTES, index[_FREE] + self.capacity)
        end -= end % PAGE_BYTES
        while start < end:
            at = start % self.capacity
            size = min(end - start, self.capacity - at)
            try:
                self._memory.madvise(mmap.MADV_REMOVE, PAGE_BYTES + at, size)
            except OSError:
                break  # the memory stays with the ring
            start = self._given = start + size

    # The reader

    def take(self, max_bytes: int) -> Taken:
        """Responses that were not read, of about so many bytes, or one event; nothing if there is none."""
        read, head = self._index[_READ], self._index[_HEAD]
        if read != head:
            _order_loads()
        end = min(head, read + max_bytes)
        groups: list[RecordGroup] = []
        spans: list[tuple[int, int, bytes]] = []
        instance = -1
        chunk, start = b"", read  # a copy of what lies there, for slices of bytes cost half of a mapping's
        while read < head and (read < end or not (groups or spans)):
            at = read - start
            if len(chunk) - at < _RECORD_BYTES:
                chunk, start, at = self._copied(read, end), read, 0
            size, wide, kind, of, began, ended, number, margin, _ = (
                _UNPACK(chunk, at) if len(chunk) >= _RECORD_BYTES else _GAP
            )
            if not size:
                read += self.capacity - read % self.capacity
                chunk = b""
                continue
            if at + size > len(chunk):
                chunk, start, at = self._copied(read, read + size), read, 0
            if kind >= CLOSED:
                if groups or spans:
                    break
                return Taken([], Event.of(kind, of, began, ended, number), read + size)
            read += size
            first, last = at + _RECORD_BYTES, at + size
            if kind == SPAN:
                spans.append((began, ended, chunk[first:last]))
                continue
            if of != instance:
                instance = of
                groups.append(RecordGroup(instance, [], []))
                _, responses, rows = groups[-1]
            if wide:
                rows.append(chunk[first - _SCORE_BYTES : first + wide])
            if kind != ROWS:
                first += wide
                if kind & _MARGINS:
                    kind -= _MARGINS
                    length, width = _BEHIND.unpack_from(chunk, last - _BEHIND.size)
                    last -= length + _BEHIND.size
                    margin = RowMargins(chunk[last : last + length], width)
                responses.append(
                    (began, ended, chunk[first : first + kind], number, margin, chunk[first + kind : last])
                )
        return Taken(groups, None, read, spans)

    def waiting(self, max_bytes: int) -> Waiting | None:
        """What `take` would read in this lap, where the first of it is a response; it stays unread."""
        read, head = self._index[_READ], self._index[_HEAD]
        if read == head:
            return None
        _order_loads()
        size, _, kind, instance, began, *_ = self._header(read)
        if not size or kind >= SPAN:
            return None
        at = read % self.capacity
        end = min(at + min(head - read, max_bytes), self.capacity)
        start = self._address + at
        return Waiting(instance, began, read, start, self._address + end, self._address + self.capacity)

    @cached_property
    def _address(self) -> int:
        return addressof(c_char.from_buffer(self._memory, PAGE_BYTES))

    def _copied(self, position: int, end: int) -> bytes:
        """What lies there up to a position, or to the end of the lap; a record's head at least."""
        at = position % self.capacity
        return self._memory[
            PAGE_BYTES + at : PAGE_BYTES + min(at + max(end - position, _RECORD_BYTES), self.capacity)
        ]

    def _header(self, position: int) -> tuple[Any, ...]:
        """The head of a record; of a gap at the end, which is none, all zeros."""
        at = position % self.capacity
        if self.capacity - at < _RECORD_BYTES:
            return _GAP
        return _UNPACK(self._memory, PAGE_BYTES + at)

    def intend(self, file_bytes: int, more_bytes: int, read: int, lines: int) -> None:
        """Say what is about to be appended to the file."""
        index = self._index
        index[_INTENT_BYTES], index[_INTENT_READ], index[_INTENT_LINES] = more_bytes, read, lines
        index[_INTENT] = file_bytes + 1

    @property
    def intent(self) -> Intent | None:
        """What a reader that was killed was about to append."""
        index = self._index
        if not index[_INTENT]:
            return None
        return Intent(index[_INTENT] - 1, index[_INTENT_BYTES], index[_INTENT_READ], index[_INTENT_LINES])

    def done(self, read: int, lines: int) -> None:
        """All before this position is read, and with it so many lines of the process are written."""
        index = self._index
        index[_READ], index[_LINES] = read, lines
        index[_INTENT] = 0
        if read - index[_FREE] >= min(FREE_BYTES, self.capacity // 4):
            index[_FREE] = read

    def forget_intent(self) -> None:
        """Nothing of what was intended was appended."""
        self._index[_INTENT] = 0

    # Anybody

    @property
    def lines(self) -> int:
        """The lines written of the process that has the ring open."""
        return self._index[_LINES]

    @property
    def pid(self) -> int:
        """The process that has the ring open, as far as it was read; 0 for none."""
        return self._index[_PID]

    def opened_by(self, pid: int) -> None:
        """Whose records follow; for the reader."""
        self._index[_PID] = pid

    @property
    def told(self) -> int:
        """Of the responses without a line, those that the journal tells."""
        return self._index[_TOLD]

    def tell(self, dropped: int) -> None:
        """The journal tells so many now; for the reader."""
        self._index[_TOLD] = dropped

    def beat(self, now_ns: int) -> None:
        """The reader lives."""
        self._index[_BEAT_NS] = now_ns

    @property
    def beat_ns(self) -> int:
        """When the reader lived last, by `perf_counter_ns`; 0 before it ever did."""
        return self._index[_BEAT_NS]

    @property
    def head(self) -> int:
        """The position up to which it was written."""
        return self._index[_HEAD]

    @property
    def read(self) -> int:
        """The position up to which it was read."""
        return self._index[_READ]

    @property
    def unread_bytes(self) -> int:
        """What waits to be read."""
        return max(0, self._index[_HEAD] - self._index[_READ])

    def oldest_ns(self) -> int | None:
        """When the oldest unread response ended, by `perf_counter_ns`; None if there is none."""
        read, head = self._index[_READ], self._index[_HEAD]
        position = read
        while position < head:
            size, _, kind, _, _, ended, *_ = self._header(position)
            if self._index[_READ] != read:  # what was read in the meantime may be written over
                return None
            if size and kind < SPAN:
                return int(ended)
            position += size or self.capacity - position % self.capacity
        return None


def _order_loads() -> None:
    """What was stored before a position that was just loaded is loaded after it.

    Free where processors keep stores in order. Elsewhere membarrier(2) makes every
    running thread do so, which spares the writer, who comes a million times, a barrier.
    """
    if not _STORES_IN_ORDER:
        CDLL(None).syscall(c_long(_MEMBARRIER), c_long(_MEMBARRIER_GLOBAL), c_long(0))
