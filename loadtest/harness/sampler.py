"""CPU and memory of server and load, read once a second from outside of both."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil

from loadtest.harness.meanwhile import meanwhile
from loadtest.harness.subject import cpu_seconds, resident_bytes


class Sample(NamedTuple):
    """Totals at the begin of one second since the epoch."""

    second: int
    server_cpu_seconds: float
    server_rss_bytes: float
    load_cpu_seconds: float
    machine_cpu_seconds: float


@contextmanager
def sampling(server: int | None, load: int) -> Iterator[list[Sample]]:
    """Sample at every full second of the block; what there is so far may be read at any time.

    `server` may be None, for one that runs elsewhere: its figures are NaN then.
    """
    samples: list[Sample] = []

    def sample(ended: threading.Event) -> None:
        while not ended.wait((second := int(time.time()) + 1) - time.time()):
            samples.append(
                Sample(
                    second,
                    cpu_seconds(server) if server else math.nan,
                    resident_bytes(server) if server else math.nan,
                    cpu_seconds(load),
                    machine_cpu_seconds(),
                )
            )

    with meanwhile(sample):
        yield samples


def machine_cpu_seconds() -> float:
    """CPU time that all processors have spent on anything, stolen time included."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
