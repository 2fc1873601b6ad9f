"""A server that stands still once a second, to see which figures tell of it."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.harness.meanwhile import meanwhile

EVERY_SECONDS = 1.0


@contextmanager
def stalled(pid: int, seconds: float) -> Iterator[None]:
    """Stop a process for so long, once a second, while the block runs."""

    def stall(done: threading.Event) -> None:
        while not done.wait(EVERY_SECONDS - seconds):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)

    with meanwhile(stall):
        yield
