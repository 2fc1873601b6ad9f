"""A server under test: started on a core of its own, watched, and ended by its pid."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from server.errors import HotrowError
from server.process.age import age_seconds

START_SECONDS = 180.0


class LoadTestError(HotrowError):
    """A load test that cannot be run, or a server that did not start."""


@dataclass
class Subject:
    """A running server."""

    name: str
    url: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process that was started; its workers are its children."""
        return self.process.pid

    def cpu_seconds(self) -> float:
        """User and system time of the process and everything it started."""
        return cpu_seconds(self.pid)

    def observer_seconds(self) -> float:
        """The part of it that the process took that writes the log; 0 if there is none."""
        return sum(_clock(process) for process in family(self.pid) if _is_observer(process))


#: How long a server's observer is waited for.
OBSERVER_SECONDS = 20.0
_OBSERVER, _COMPILER = "server.log.observer", "server.compiled.row_compiler"
#: How long a process that was just forked may take to become another program.
YOUNG_SECONDS = 0.3


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its living descendants, to the nanosecond.

    `/proc/PID/stat` counts in hundredths of a second, too coarse for one second of
    a server that uses a tenth of it. The kernel's clock of another process is
    exact; its number is made as in clock_getcpuclockid(3).
    """
    return sum(map(_clock, family(pid)))


def _clock(process: psutil.Process) -> float:
    try:
        return time.clock_gettime((~process.pid << 3) | 2)
    except OSError:  # it has ended meanwhile
        return 0.0


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its living descendants; shared pages count in each."""
    total = 0
    for process in family(pid):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def family(pid: int) -> list[psutil.Process]:
    """A process and its living descendants; empty if it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def workers_of(pid: int) -> list[psutil.Process]:
    """The living children of a server that answer: with several workers, those."""
    return [child for child in psutil.Process(pid).children() if _is_worker(child)]


def _is_worker(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        # Between its fork and its exec another looks like a worker.
        time.sleep(max(0.0, YOUNG_SECONDS - age_seconds(process)))
        others = any(runs(process, module) for module in (_OBSERVER, _COMPILER))
        return process.status() != psutil.STATUS_ZOMBIE and not others
    return False


def observer_of(pid: int) -> psutil.Process:
    """The process that writes a server's log, once there is one; raises `LoadTestError`."""
    end = time.monotonic() + OBSERVER_SECONDS
    while time.monotonic() < end:
        for child in psutil.Process(pid).children():
            if _is_observer(child):
                return child
        time.sleep(0.02)
    raise LoadTestError(f"expected process {pid} to have an observer of its log, got none")


def has_ended(pid: int) -> bool:
    """Whether a process is no more, or only waits to be reaped: whose child it was may have died before."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _is_observer(process: psutil.Process) -> bool:
    return runs(process, _OBSERVER)


def runs(process: psutil.Process, module: str) -> bool:
    """Whether it was started as `python -m module`; one that has ended was not."""
    try:
        return module in process.cmdline()  # of a zombie there is none
    except psutil.Error:
        return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that the kernel gives nobody else for a minute.

    A connection that this end closed first leaves it in TIME_WAIT: passed over by the kernel where
    it chooses a port itself, free for a server, which binds it by its number with `SO_REUSEADDR`.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port: int = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0] as ours:
            ours.close()  # before the other end
        return port


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    url: str,
    ready_path: str = "/",
    core: int | None = None,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    folder: Path | None = None,
    start_seconds: float = START_SECONDS,
) -> Iterator[Subject]:
    """Start a server, wait until `url + ready_path` answers below 500, and end it afterwards.

    `core` pins it to one processor, `folder` is where it is started. Raises
    `LoadTestError` if it ends or does not answer within `start_seconds`.
    """
    pinned = [*(["taskset", "-c", str(core)] if core is not None else []), *command]
    with open(log or os.devnull, "wb") as output:
        process = subprocess.Popen(
            pinned,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=folder,
        )
    try:
        _wait_until_ready(name, process, url + ready_path, start_seconds)
        yield Subject(name, url, process)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """SIGTERM, and SIGKILL for a process that does not end in time."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_command(command: Sequence[str]) -> None:
    """Run a command to its end; raises `LoadTestError` with its last words if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason"]
        raise LoadTestError(f"expected `{' '.join(command)}` to succeed, got: {last[0]}")


class CommandCost(NamedTuple):
    """Of one process and the children it waited for; memory is the resident set at its largest."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def cost_of(command: Sequence[str], good: Container[int] = (0,)) -> CommandCost:
    """Run a command, what it prints thrown away. Raises `LoadTestError` unless its exit code is good."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)  # of this command and its own children alone
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in good:
        raise LoadTestError(f"expected `{' '.join(command)}` to succeed, got exit code {process.returncode}")
    return CommandCost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def python(*arguments: str) -> list[str]:
    """A command that runs this interpreter."""
    return [sys.executable, *arguments]


def _connect(url: str) -> None:
    parts = urlsplit(url)
    socket.create_connection((parts.hostname or "", parts.port or 80), timeout=2).close()


def _wait_until_ready(name: str, process: subprocess.Popen[bytes], url: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LoadTestError(f"expected {name} to start, got exit code {process.returncode}")
        try:
            _connect(url)  # by itself it costs little, and until the port is open nothing else is of use
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise LoadTestError(f"expected {name} to answer at {url} within {seconds:.0f} s, got no response")
