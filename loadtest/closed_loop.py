"""wrk, the closed-loop load: as many requests as the server takes, on a core of its own."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from loadtest.subject import LoadTestError, Subject

CONNECTIONS = 32


@dataclass(frozen=True)
class Load:
    """One run of wrk against one server."""

    requests: int
    seconds: float
    failed: int
    cpu_seconds: float

    @property
    def cpu_us_per_request(self) -> float:
        """Server CPU time, user and system, for each answered request."""
        return self.cpu_seconds / self.requests * 1e6

    @property
    def requests_per_second(self) -> float:
        """Answers per second of wall time."""
        return self.requests / self.seconds


def drive(
    subject: Subject, path: str, seconds: int, script: Path | None = None, core: int | None = None
) -> Load:
    """Load a server from 32 keep-alive connections; raises `LoadTestError` without wrk."""
    if shutil.which("wrk") is None:
        raise LoadTestError("expected wrk to be installed, found none: run `make system` as root")
    pin = ["taskset", "-c", str(core)] if core is not None else []
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *(["-s", str(script)] if script else [])]
    before = subject.cpu_seconds()
    output = subprocess.run(
        [*pin, "wrk", *options, subject.url + path], capture_output=True, text=True, check=True
    ).stdout
    cpu_seconds = subject.cpu_seconds() - before
    done = re.search(r"(\d+) requests in ([\d.]+)(m?s)", output)
    if done is None or int(done[1]) == 0:
        raise LoadTestError(f"expected answers from {subject.name}, got none")
    return Load(
        requests=int(done[1]),
        seconds=float(done[2]) / (1000 if done[3] == "ms" else 1),
        failed=sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", output))) + _socket_errors(output),
        cpu_seconds=cpu_seconds,
    )


def _socket_errors(output: str) -> int:
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    return sum(map(int, errors.groups())) if errors else 0
