"""CPU and memory of server and load, read once a second from outside of both."""

import math
import threading
import time
from typing import NamedTuple

import psutil

from loadtest.harness.subject import cpu_seconds, resident_bytes


class Sample(NamedTuple):
    """Totals at the begin of one second since the epoch."""

    second: int
    server_cpu_seconds: float
    server_rss_bytes: float
    load_cpu_seconds: float
    machine_cpu_seconds: float


class Sampler(threading.Thread):
    """Samples until it is stopped; `samples` may be read at any time.

    `server` may be None, for one that runs elsewhere: its figures are NaN then.
    """

    def __init__(self, server: int | None, load: int) -> None:
        super().__init__(name="sampler", daemon=True)
        self._server = server
        self._load = load
        self._stopping = threading.Event()
        self.samples: list[Sample] = []

    def run(self) -> None:
        """Sample at every full second."""
        while True:
            second = int(time.time()) + 1
            if self._stopping.wait(second - time.time()):
                return
            self.samples.append(self._sample(second))

    def stop(self) -> None:
        """Take no more samples."""
        self._stopping.set()
        self.join()

    def _sample(self, second: int) -> Sample:
        server = self._server
        return Sample(
            second,
            cpu_seconds(server) if server else math.nan,
            resident_bytes(server) if server else math.nan,
            cpu_seconds(self._load),
            machine_cpu_seconds(),
        )


def machine_cpu_seconds() -> float:
    """CPU time that all processors have spent on anything, stolen time included."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
