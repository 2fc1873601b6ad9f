"""Which lines of the log are looked at, and when: few at a time, so many a second at most."""

import time
from collections import deque
from collections.abc import Callable

#: Enough to know a distribution within seconds, little enough to cost a busy
#: worker a quarter of a percent of its time.
LINES_PER_SECOND = 200
BURST_LINES = 2000
#: Lines looked at in one go: the event loop waits some 30 us for the interpreter.
LINES_AT_ONCE = 4
#: Between two goes the interpreter is the event loop's.
PAUSE_SECONDS = 0.001
#: A longer one, of a batch, would hold the interpreter for as long as a request takes.
MAX_LINE_BYTES = 2**14
MAX_WAITING_BYTES = 2**21


class LineSample:
    """Takes lines out of segments and shows them, a few at a time, to `look`; for one thread."""

    def __init__(self, look: Callable[[bytes], None]) -> None:
        self._look = look
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._allowed = float(BURST_LINES)
        self._counted_at = time.monotonic()

    @property
    def waiting(self) -> bool:
        """Whether there are lines to show."""
        return bool(self._waiting)

    def take(self, buffer: bytearray, used: int) -> None:
        """Copy lines out of the first `used` bytes of a buffer: all, or as many as allowed, evenly spread."""
        now = time.monotonic()
        self._allowed = min(BURST_LINES, self._allowed + (now - self._counted_at) * LINES_PER_SECOND)
        self._counted_at = now
        for line in spread_lines(buffer, used, int(self._allowed)):
            if len(line) <= MAX_LINE_BYTES and self._waiting_bytes + len(line) <= MAX_WAITING_BYTES:
                self._waiting.append(line)
                self._waiting_bytes += len(line)
                self._allowed -= 1.0

    def show_some(self) -> None:
        """Show the lines of one go."""
        for _ in range(min(LINES_AT_ONCE, len(self._waiting))):
            line = self._waiting.popleft()
            self._waiting_bytes -= len(line)
            self._look(line)


def spread_lines(buffer: bytearray, used: int, most: int) -> list[bytes]:
    """At most `most` of the whole lines in the first `used` bytes of a buffer."""
    lines = buffer.count(b"\n", 0, used)
    if lines <= most:
        return bytes(memoryview(buffer)[:used]).splitlines()
    found, last = [], 0
    for i in range(most):
        start = buffer.find(b"\n", max(last, i * used // most), used) + 1
        end = buffer.find(b"\n", start, used)
        if not start or end < 0:
            break
        found.append(bytes(memoryview(buffer)[start:end]))
        last = end
    return found
