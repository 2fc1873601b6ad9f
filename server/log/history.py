"""What a server did, minute by minute: the observer adds, any worker reads, the oldest makes room."""

import mmap
import os
import struct
import zlib
from collections.abc import Iterator

#: Of minutes, of the columns in them, and of the minute that runs: together what the history may take.
#: A busy day takes 0.8 MiB for minutes; 0.8 MiB for columns of 14 features, 27 MiB for those of 600.
AREAS = (4 * 2**20, 28 * 2**20, 2**17)
HISTORY_BYTES = sum(AREAS)
KEPT_MINUTES = 24 * 60
#: Minutes that are told of without being asked for more.
DEFAULT_MINUTES = 60
_HEAD, _TAIL, _POSITIONS = 0, 1, 16
#: Size of an entry with this, its check sum, its minute since the epoch.
_ENTRY = struct.Struct("=IIq")


class Entries:
    """A bounded list in shared memory: one writer, and readers that never wait for it.

    Positions only grow, an entry never wraps, and the oldest are given up before they are
    written over: a reader sees from the position of the oldest what was while it read.
    """

    def __init__(self, memory: mmap.mmap, offset: int, size: int) -> None:
        self._memory, self._start, self._capacity = memory, offset + _POSITIONS, size - _POSITIONS
        self._index = memoryview(memory)[offset : offset + _POSITIONS].cast("Q")

    def add(self, minute: int, content: bytes) -> None:
        """Add an entry; one that is larger than half of the area is left out."""
        packed = zlib.compress(content, 1)
        size = _ENTRY.size + len(packed)
        if size > self._capacity // 2:
            return
        head = self._index[_HEAD]
        at = head % self._capacity
        gap = self._capacity - at if at + size > self._capacity else 0
        self._give_up(head + gap + size - self._capacity, minute - KEPT_MINUTES)
        if gap >= 4:
            self._put(head, bytes(4))
        self._put(head + gap, _ENTRY.pack(size, zlib.crc32(packed), minute) + packed)
        self._index[_HEAD] = head + gap + size

    def since(self, minute: int) -> Iterator[bytes]:
        """The entries from a minute on, the oldest first."""
        tail, head = self._index[_TAIL], self._index[_HEAD]
        for position, size, check, of_minute in self._walk(tail, head):
            packed = self._get(position + _ENTRY.size, size - _ENTRY.size)
            is_whole = position >= self._index[_TAIL] and zlib.crc32(packed) == check
            if is_whole and of_minute >= minute:
                yield zlib.decompress(packed)

    def _give_up(self, position: int, minute: int) -> None:
        """Forget what lies before a position, or is of a minute before."""
        tail, head = self._index[_TAIL], self._index[_HEAD]
        for at, size, _, of_minute in self._walk(tail, head):
            if at >= position and of_minute > minute:
                tail = at  # behind a gap, if there was one
                break
            tail = at + size
        self._index[_TAIL] = tail

    def _walk(self, position: int, head: int) -> Iterator[tuple[int, int, int, int]]:
        while position < head:
            left = self._capacity - position % self._capacity
            found = self._get(position, _ENTRY.size) if left >= _ENTRY.size else bytes(_ENTRY.size)
            size, check, minute = _ENTRY.unpack(found)
            if not size:
                position += left
                continue
            if size > left:  # written over while it was read
                return
            yield position, size, check, minute
            position += size

    def _put(self, position: int, content: bytes) -> None:
        at = self._start + position % self._capacity
        self._memory[at : at + len(content)] = content

    def _get(self, position: int, size: int) -> bytes:
        at = self._start + position % self._capacity
        return self._memory[at : at + size]


class History:
    """The three lists of a server: minutes, what their columns held, and the minute that runs."""

    def __init__(self, descriptor: int) -> None:
        memory = mmap.mmap(descriptor, HISTORY_BYTES)
        first, second, third = AREAS
        self.minutes = Entries(memory, 0, first)
        self.columns = Entries(memory, first, second)
        self.running = Entries(memory, first + second, third)

    @staticmethod
    def make() -> int:
        """The descriptor of an empty one; memory is taken as it is written."""
        descriptor = os.memfd_create("hotrow-history", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, HISTORY_BYTES)
        return descriptor
