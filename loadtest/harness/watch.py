"""Memory of processes, looked at from outside while something happens to them."""

import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import psutil

from loadtest.harness.subject import family


class ProcessSample(NamedTuple):
    """One look: when (monotonic seconds), resident memory and open descriptors."""

    when: float
    rss_mb: float
    files: int


class Watch(threading.Thread):
    """Looks at a process and its descendants, or at some processes alone; a context manager."""

    def __init__(self, pid: int, *, alone: Sequence[int] = (), every_seconds: float = 0.25) -> None:
        super().__init__(name="watch", daemon=True)
        self._pid = pid
        self._alone = alone
        self._every_seconds = every_seconds
        self._stopping = threading.Event()
        self.looks: list[ProcessSample] = []

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopping.wait(self._every_seconds):
            try:
                processes = [psutil.Process(pid) for pid in self._alone] or family(self._pid)
                rss = sum(process.memory_info().rss for process in processes)
                files = sum(process.num_fds() for process in processes)
            except psutil.Error:
                continue  # one has just ended
            self.looks.append(ProcessSample(time.monotonic(), rss / 2**20, files))

    @property
    def most_mb(self) -> float:
        """The most memory seen."""
        return max((look.rss_mb for look in self.looks), default=0.0)

    def slope_mb(self, seconds: float, skip: float = 0.0) -> float:
        """Growth in MB over so many seconds, by least squares over all looks but the first part of them."""
        looks = np.array(self.looks[int(len(self.looks) * skip) :])
        slope, _ = np.polyfit(looks[:, 0] - looks[0, 0], looks[:, 1], 1)
        return float(slope * seconds)
