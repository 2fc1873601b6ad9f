"""Memory of processes, looked at from outside while something happens to them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import psutil

from loadtest.harness.meanwhile import meanwhile
from loadtest.harness.subject import family


class ProcessSample(NamedTuple):
    """One look: when (monotonic seconds), resident memory and open descriptors."""

    when: float
    rss_mb: float
    files: int


@dataclass
class Watch:
    """What was seen of some processes together, in the order of time."""

    looks: list[ProcessSample] = field(default_factory=list)

    @property
    def most_mb(self) -> float:
        """The most memory seen."""
        return max((look.rss_mb for look in self.looks), default=0.0)

    def slope_mb(self, seconds: float, skip: float = 0.0) -> float:
        """Growth in MB over so many seconds, by least squares over all looks but the first part of them."""
        looks = np.array(self.looks[int(len(self.looks) * skip) :])
        slope, _ = np.polyfit(looks[:, 0] - looks[0, 0], looks[:, 1], 1)
        return float(slope * seconds)


@contextmanager
def watching(pid: int, *, alone: bool = False, every_seconds: float = 0.25) -> Iterator[Watch]:
    """Look at a process and, unless it is meant `alone`, its descendants while the block runs."""
    watch = Watch()

    def look(ended: threading.Event) -> None:
        while not ended.wait(every_seconds):
            try:
                processes = [psutil.Process(pid)] if alone else family(pid)
                rss = sum(process.memory_info().rss for process in processes)
                files = sum(process.num_fds() for process in processes)
            except psutil.Error:
                continue  # one has just ended
            watch.looks.append(ProcessSample(time.monotonic(), rss / 2**20, files))

    with meanwhile(look):
        yield watch
