"""When a process that ended is started again: soon, and later after each time that it did not stay."""

import math

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
#: One that has stayed for so long has had another reason than those before.
STAYED_SECONDS = 60.0


class Patience:
    """The patience of who looks after one process; times are those of `time.monotonic`."""

    def __init__(self) -> None:
        self._wait, self._next_start = FIRST_WAIT_SECONDS, 0.0
        self._started_at = math.inf

    def may_start(self, now: float) -> bool:
        """Whether it has been waited long enough."""
        return now >= self._next_start

    def started(self, now: float) -> None:
        self._started_at = now

    def ended(self, now: float) -> None:
        """It has ended, or could not be started: wait."""
        if now - self._started_at >= STAYED_SECONDS:
            self._wait = FIRST_WAIT_SECONDS
        self._started_at = math.inf
        self._next_start = now + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT_SECONDS)
