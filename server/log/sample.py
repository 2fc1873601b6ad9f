"""Which lines of the log are looked at, and when: few at a time, so many a second at most."""

import time
from collections import deque
from collections.abc import Callable, Sequence

#: Enough to know a distribution within seconds, little enough to cost a busy
#: worker a quarter of a percent of its time.
LINES_PER_SECOND = 100
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

    def take(self, blocks: Sequence[bytes], lines: int) -> None:
        """Take lines out of blocks that hold `lines`: all, or as many as allowed, evenly spread."""
        now = time.monotonic()
        self._allowed = min(BURST_LINES, self._allowed + (now - self._counted_at) * LINES_PER_SECOND)
        self._counted_at = now
        for line in spread_lines(blocks, lines, int(self._allowed)):
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


def spread_lines(blocks: Sequence[bytes], lines: int, most: int) -> list[bytes]:
    """At most `most` of the `lines` whole lines in some blocks, without their ends."""
    if lines <= most:
        return [line for block in blocks for line in block.splitlines()]
    found: list[bytes] = []
    # Every block in turn gives some lines, so that a batch's long ones crowd out none.
    for i, block in enumerate(blocks):
        wanted = (i + 1) * most // len(blocks) - i * most // len(blocks)
        of_block = block.splitlines() if wanted else []
        found += of_block[:: max(1, len(of_block) // wanted)][:wanted] if wanted else []
    return found
