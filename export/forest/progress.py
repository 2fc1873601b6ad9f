"""A line now and then of a work that takes longer than people wait in silence."""

import sys
import time

#: A short export stays silent; a long one says something about as often as one looks up.
FIRST_SECONDS, EVERY_SECONDS = 2.0, 10.0


class ExportProgress:
    """Writes what is going on to stderr, first after two seconds, then every ten."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._next = self._started + FIRST_SECONDS

    def __call__(self, words: str) -> None:
        """Say what has been done so far, if it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVERY_SECONDS
            print(f"{words}, {now - self._started:.0f} s.", file=sys.stderr, flush=True)
