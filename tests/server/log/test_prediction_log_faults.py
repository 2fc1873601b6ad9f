"""Errors and crashes at every call of the log into the system, and from outside of a running server."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import observer_of
from server.log.file import LogFile
from server.log.rotation import RetentionPolicy, closed_files
from server.model.bundle import Bundle
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.monitored import logged, monitored_bundle, send_all
from tests.support.servers import serving, system_tool

pytestmark = pytest.mark.whole

#: Each brings a rotation every few lines.
LINES = [b'{"seq":%d,"input":"%s"}\n' % (i, b"x" * (i * 7 % 90)) for i in range(1, 25)]
KEEPING = RetentionPolicy(file_bytes=700)
CALLS = (
    "open",
    "rename",
    "fchmod",
    "fsync",
    "fstat",
    "ftruncate",
    "writev",
    "fdatasync",
    "pread",
    "dup",
    "stat",
)
ROWS = sample_rows(THREE_FEATURES, 60, seed=2)


class Crash(BaseException):
    """The process ends here."""


class Failing:
    """Fails the n-th of all calls into the system, before it is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int, error: BaseException) -> None:
        self.calls = 0
        self._n, self._error = n, error
        for name in CALLS:
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))

    @property
    def happened(self) -> bool:
        """Whether so many calls were made."""
        return self.calls >= self._n

    def _watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self._n:
                raise self._error
            return call(*arguments, **options)

        return watched


def _everything(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in [*closed_files(path), path])


def _each_call() -> Iterator[int]:
    """1, 2, 3, … until a run makes fewer calls."""
    yield from range(1, 2000)


def test_an_error_of_any_single_call_loses_no_line_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0
    for n in _each_call():
        path = tmp_path / str(n) / "a.jsonl"
        file = LogFile(path, KEEPING)
        with monkeypatch.context() as context:
            failing = Failing(context, n, OSError(5, "Input/output error"))
            for i, line in enumerate(LINES):
                _append_until_done(file, line)
                if i % 8 == 0:
                    with suppress(OSError):  # reported, not raised
                        file.sync()
        file.close()
        assert _everything(path) == b"".join(LINES), f"call {n}"
        if not failing.happened:
            break
        tried = n
    assert tried > 50


def _append_until_done(file: LogFile, line: bytes) -> None:
    """As the log's thread does."""
    try:
        file.append([line])
    except OSError:
        file.append([line])


def test_a_crash_at_any_call_leaves_every_line_that_was_written_once_and_a_log_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0
    for n in _each_call():
        path = tmp_path / str(n) / "a.jsonl"
        file = LogFile(path, KEEPING)
        done: list[bytes] = []
        with monkeypatch.context() as context:
            failing = Failing(context, n, Crash())
            try:
                for line in LINES:
                    file.append([line])
                    done.append(line)
            except Crash:
                pass
        if not failing.happened:
            break
        tried = n
        _forget(file)
        successor = LogFile(path, KEEPING)
        successor.append([b'{"seq":"after"}\n'])
        successor.close()
        assert _everything(path) == b"".join(done) + b'{"seq":"after"}\n', f"call {n}"
    assert tried > 50


def _forget(file: LogFile) -> None:
    """Close what the crashed process held: the file, and perhaps the one that was to follow it."""
    folder = file.path.parent
    for descriptor in Path("/proc/self/fd").iterdir():
        if descriptor.exists() and descriptor.resolve().is_relative_to(folder):
            os.close(int(descriptor.name))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("faults") / "three")


@contextmanager
def _injected(pid: int, file: Path, *faults: str) -> Iterator[None]:
    """The kernel's answers about one file, changed by strace while the block runs."""
    command = [
        system_tool("strace"),
        "-f",
        "-q",
        "-p",
        str(pid),
        "-P",
        str(file),
        "-e",
        "trace=writev,fdatasync",
    ]
    for fault in faults:
        command += ["-e", f"inject={fault}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_traced(pid, process)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_traced(pid: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        tasks = Path(f"/proc/{pid}/task").glob("*/status")
        with suppress(OSError):  # a thread that ended since
            if all("TracerPid:\t0" not in status.read_text() for status in tasks):
                return
        time.sleep(0.02)
    assert process.poll() is not None, "strace did not trace the server in time"
    pytest.skip("strace may not trace the server: it needs CAP_SYS_PTRACE")


def test_answers_go_on_while_the_disk_reports_errors_and_is_slow_and_no_line_is_lost(
    bundle: Bundle, tmp_path: Path
) -> None:
    with serving(bundle.directory, tmp_path) as subject:
        send_all(subject.url, ROWS[:1])
        (file,) = (tmp_path / "logs").glob("*.jsonl")
        faults = ("writev:error=EIO", "fdatasync:delay_enter=200000")
        with _injected(observer_of(subject.pid).pid, file, *faults):
            answers = send_all(subject.url, ROWS)
            _wait_for_words(tmp_path / "server.log", "cannot be written: Input/output error")
            answers += send_all(subject.url, ROWS[:5])
            samples = scrape(subject.url)
        assert total(samples, "hotrow_log_queue_bytes") > 0
        assert total(samples, "hotrow_log_dropped_total") == 0
        _wait_for_queue(subject.url, lambda waiting: waiting == 0)
    lines = [line["id"] for line in logged(tmp_path / "logs")]
    assert lines[1:] == [answer["id"] for answer in answers]
    log = (tmp_path / "server.log").read_text()
    assert log.count("cannot be written") == 1
    assert "is written again" in log


def _wait_for_words(file: Path, words: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while words not in file.read_text():
        assert time.monotonic() < end, f"it did not say {words!r} in time"
        time.sleep(0.05)


def _wait_for_queue(url: str, fact: Callable[[float], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not fact(total(scrape(url), "hotrow_log_queue_bytes")):
        assert time.monotonic() < end, "the queue did not become so in time"
        time.sleep(0.05)
