"""wrk, the closed-loop load: as many requests as the server takes, on a core of its own."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from loadtest.harness.subject import LoadTestError, Subject

CONNECTIONS = 32
_UNITS_IN_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LATENCY = re.compile(r"^\s+(50|75|90|99)%\s+([\d.]+)(us|ms|s)", re.MULTILINE)
_UNITS_IN_US = {"us": 1.0, "ms": 1e3, "s": 1e6}


@dataclass(frozen=True)
class LoadRun:
    """One run of wrk against one server; `late` of those that failed took it longer than 2 s.

    Of the server's CPU time `observer_seconds` are those of the process that writes the log.
    """

    requests: int
    seconds: float
    failed: int
    cpu_seconds: float
    #: Percentiles in us, as wrk counts them.
    latencies: Mapping[int, float]
    late: int = 0
    observer_seconds: float = 0.0

    @property
    def worker_us_per_request(self) -> float:
        """CPU time of what answers, without the observer, for each answered request."""
        return (self.cpu_seconds - self.observer_seconds) / self.requests * 1e6

    @property
    def cpu_us_per_request(self) -> float:
        """Server CPU time, user and system, for each answered request."""
        return self.cpu_seconds / self.requests * 1e6

    @property
    def requests_per_second(self) -> float:
        """Responses per second of wall time."""
        return self.requests / self.seconds


class WrkFigures(NamedTuple):
    """What wrk says at its end. `connect`, `read`, `write` and `timeout` are its socket errors."""

    requests: int
    seconds: float
    not_200: int
    connect: int
    read: int
    write: int
    timeout: int


def read_wrk(output: str) -> WrkFigures | None:
    """The figures in what wrk has printed, None if it got no response."""
    done = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m|h)", output)
    if done is None or int(done[1]) == 0:
        return None
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return WrkFigures(
        int(done[1]),
        float(done[2]) * _UNITS_IN_SECONDS[done[3]],
        int(refused[1]) if refused else 0,
        *(map(int, errors.groups()) if errors else (0, 0, 0, 0)),
    )


def read_latencies(output: str) -> dict[int, float]:
    """The percentiles, in us, that `wrk --latency` has printed."""
    return {
        int(percent): float(value) * _UNITS_IN_US[unit] for percent, value, unit in _LATENCY.findall(output)
    }


def wrk(url: str, seconds: int, connections: int = CONNECTIONS, script: Path | None = None) -> list[str]:
    """The command that loads a URL with wrk; raises `LoadTestError` without it."""
    if shutil.which("wrk") is None:
        raise LoadTestError("expected wrk to be installed, found none: run `make system` as root")
    return ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *(["-s", str(script)] if script else []), url]


def in_turn(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Each of the names in so many rounds; none always comes after the same one."""
    for i in range(rounds):
        yield from names[:: 1 if i % 2 else -1]


def drive(
    subject: Subject,
    path: str,
    seconds: int,
    script: Path | None = None,
    core: int | None = None,
    connections: int = CONNECTIONS,
) -> LoadRun:
    """Load a server from keep-alive connections, 32 if not told; raises `LoadTestError` without wrk."""
    pin = ["taskset", "-c", str(core)] if core is not None else []
    command = [*pin, *wrk(subject.url + path, seconds, connections, script), "--latency"]
    before, observer_before = subject.cpu_seconds(), subject.observer_seconds()
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu_seconds = subject.cpu_seconds() - before
    observer_seconds = subject.observer_seconds() - observer_before
    done = read_wrk(output)
    if done is None:
        raise LoadTestError(f"expected responses from {subject.name}, got none")
    return LoadRun(
        requests=done.requests,
        seconds=done.seconds,
        failed=done.not_200 + done.connect + done.read + done.write + done.timeout,
        cpu_seconds=cpu_seconds,
        latencies=read_latencies(output),
        late=done.timeout,
        observer_seconds=observer_seconds,
    )
