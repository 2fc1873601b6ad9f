"""The observer as its server sees it: started, started again, and waited for at the end."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from server.log.channel import Channel

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
#: A process that ends at once would again: the next start waits, twice as long after each, at most so long.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.25, 8.0
#: One that has stayed for so long has had another reason.
STAYED_SECONDS = 10.0
#: One that has given no sign of life for so long stands still: its successor loses and doubles no line.
#: Of a look at most so much counts: who was stopped together with it knows no better.
HUNG_SECONDS, LONGEST_LOOK_SECONDS = 60.0, 2.0
#: What it may take to write what is left when the server ends; then it goes on alone.
FINISH_SECONDS = 20.0


class ObserverProcess:
    """The process that observes a channel; for one process, the one that made the channel.

    Workers that are forked hold the other end of its life, too.
    """

    def __init__(
        self, channel: Channel, metrics: int, count_restart: Callable[[], object] = lambda: None
    ) -> None:
        self._channel = channel
        self._count_restart = count_restart
        self._metrics = metrics
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = self._next_start = 0.0
        self._wait = FIRST_WAIT_SECONDS
        self._looked_at = self._silent_seconds = 0.0
        self._beat_ns = 0
        self._lacks = ""
        self._life, self._hold = os.pipe()  # neither is inherited by what is executed

    def start(self) -> None:
        """Start it, or say that the system has no process for it: `look_after` tries again."""
        for ring in self._channel.rings:
            if not ring.beat_ns:
                ring.beat(time.perf_counter_ns())
        passed = (*self._channel.descriptors, self._metrics, self._life)
        self._started_at = time.monotonic()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server.log.observer", *map(str, passed)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=passed,
                cwd=ROOT,
                # NumPy only counts here: threads for linear algebra would be memory and no use.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
            self._lacks, self._silent_seconds = "", 0.0
        except OSError as error:
            if self._lacks != error.strerror:  # once a shortage, not once a try
                logger.error(
                    "The process that writes the prediction log cannot be started: %s", error.strerror
                )
            self._lacks = error.strerror or repr(error)

    def look_after(self) -> None:
        """Start it again if it has ended, without haste if it ends at once; end it if it stands still."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is None:
            if self._stands_still(now):
                logger.error("The process that writes the prediction log stands still; it is ended.")
                self._process.kill()
                self._silent_seconds = 0.0
            return
        if self._process is not None:
            self._process = None
            stayed = now - self._started_at >= STAYED_SECONDS
            self._wait = FIRST_WAIT_SECONDS if stayed else min(2 * self._wait, LONGEST_WAIT_SECONDS)
            self._next_start = 0.0 if stayed else now + self._wait
            self._count_restart()
            logger.error("The process that writes the prediction log ended; it is started again.")
        if now >= self._next_start:
            self._next_start = now + self._wait
            self.start()

    def _stands_still(self, now: float) -> bool:
        beat_ns = max(ring.beat_ns for ring in self._channel.rings)
        self._silent_seconds += min(now - self._looked_at, LONGEST_LOOK_SECONDS)
        if beat_ns != self._beat_ns:
            self._silent_seconds = 0.0
        self._looked_at, self._beat_ns = now, beat_ns
        return self._silent_seconds > HUNG_SECONDS

    def finish(self) -> None:
        """Let go of its life and wait until every line is written; after the workers have ended."""
        os.close(self._hold)
        end = time.monotonic() + FINISH_SECONDS
        while time.monotonic() < end:
            if self._process is None:
                self.start()
            if self._process is not None and self._has_ended(end):
                if not any(ring.unread_bytes for ring in self._channel.rings):
                    break
                self._process = None
            time.sleep(0.05)
        else:
            logger.error("The prediction log is not written yet; what writes it goes on alone.")
        os.close(self._life)

    def _has_ended(self, end: float) -> bool:
        assert self._process is not None
        try:
            self._process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True
