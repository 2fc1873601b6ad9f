"""The prediction log: whole lines, one file per worker, off the way of the answer.

A line is finished when it is queued, so the writing thread only joins and
writes, and holds the interpreter for microseconds at a time. The queue is
bounded in bytes; what does not fit is dropped, and counted, never silently.
"""

import contextlib
import fcntl
import logging
import os
import threading
from collections import deque
from pathlib import Path

from server.errors import SettingsError
from server.metrics import WorkerMetrics

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.1
FSYNC_SECONDS = 0.5
RETRY_SECONDS = 1.0
#: The kernel takes this many pieces in one writev (IOV_MAX on Linux).
LINES_PER_WRITE = 1024
TORN_SUFFIX = ".torn"


class PredictionLog:
    """Appends lines to `directory/predictions-<port>-<worker>.jsonl`.

    `append` is called by the event loop; a thread of this object's own writes
    the queue every 100 ms and syncs it to the disk every 500 ms. On an I/O error
    lines stay queued and are tried again each second, until the queue is full.
    If `strict`, `append` itself writes, so a line is with the kernel before
    the answer is sent. Raises `SettingsError` if the file cannot be opened or
    another server writes it.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        metrics: WorkerMetrics,
        *,
        queue_bytes: int,
        strict: bool = False,
    ) -> None:
        self.path = directory / f"predictions-{name}.jsonl"
        self._metrics = metrics
        self._queue_bytes = queue_bytes
        self._queue: deque[bytes] = deque()
        # Two counts with one writer each need no lock: bytes waiting are their difference.
        self._bytes_in = 0
        self._bytes_out = 0
        self._drop_full = metrics.dropped("queue_full")
        self._drop_disk = metrics.dropped("disk")
        self._stop = threading.Event()
        self._failing = False
        self._descriptor = self._open()
        self.append = self._write_now if strict else self._enqueue
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def close(self) -> None:
        """Write and sync what is queued, and end the thread."""
        self._stop.set()
        self._thread.join()
        os.close(self._descriptor)

    def _enqueue(self, line: bytes) -> None:
        waiting = self._bytes_in - self._bytes_out + len(line)
        if waiting > self._queue_bytes:
            self._drop_full()
            return
        self._bytes_in += len(line)
        self._queue.append(line)

    def _write_now(self, line: bytes) -> None:
        try:
            self._reopen_if_deleted()
            _write_whole(self._descriptor, [line])
        except OSError as error:
            self._report(error)
            self._drop_disk()
        else:
            self._failing = False

    def _run(self) -> None:
        since_sync = 0.0
        wait = FLUSH_SECONDS
        while not self._stop.wait(wait):
            wait = FLUSH_SECONDS if self._flush() else RETRY_SECONDS
            since_sync += wait
            if since_sync >= FSYNC_SECONDS:
                since_sync = 0.0
                self._sync()
        self._flush()
        self._sync()
        for _ in self._queue:  # an I/O error to the last
            self._drop_disk()

    def _flush(self) -> bool:
        """Write the queue in pieces; whether all of it could be written."""
        self._metrics.set_queue_bytes(self._bytes_in - self._bytes_out)
        try:
            while self._queue:
                self._reopen_if_deleted()
                count = min(LINES_PER_WRITE, len(self._queue))
                lines = [self._queue[i] for i in range(count)]
                size = _write_whole(self._descriptor, lines)
                for _ in range(count):
                    self._queue.popleft()
                self._bytes_out += size
        except OSError as error:
            self._report(error)
            return False
        self._failing = False
        self._metrics.set_queue_bytes(0)
        return True

    def _sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._report(error)

    def _report(self, error: OSError) -> None:
        if not self._failing:  # once per failure, not once per try
            logger.error("The prediction log %s cannot be written: %s", self.path, error.strerror)
        self._failing = True

    def _open(self) -> int:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"expected {self.path} to be free, got a file another server writes: set another HOTROW_LOG_DIR"
            ) from None
        except OSError as error:
            raise SettingsError(
                f"expected {self.path} to be writable, got: {error.strerror}: "
                "set another HOTROW_LOG_DIR or HOTROW_LOG_MODE=off"
            ) from None
        self._cut_torn_tail(descriptor)
        return descriptor

    def _cut_torn_tail(self, descriptor: int) -> None:
        """Move an unterminated last line, left by a crash, to a file beside the log."""
        size = os.fstat(descriptor).st_size
        end = size
        tail = b""
        while end and b"\n" not in tail:
            start = max(0, end - 65_536)
            tail = os.pread(descriptor, end - start, start) + tail
            end = start
        torn = tail[tail.rfind(b"\n") + 1 :]
        if torn:
            with open(self.path.with_name(self.path.name + TORN_SUFFIX), "ab") as kept:
                kept.write(torn + b"\n")
            os.ftruncate(descriptor, size - len(torn))
            name = self.path
            logger.warning("%s ended in half a line, moved to *%s", name, TORN_SUFFIX)

    def _reopen_if_deleted(self) -> None:
        if os.fstat(self._descriptor).st_nlink:
            return
        with contextlib.suppress(SettingsError):  # tried again with the next write
            fresh = self._open()
            os.close(self._descriptor)
            self._descriptor = fresh


def _write_whole(descriptor: int, lines: list[bytes]) -> int:
    """Append all lines or none; the bytes written.

    A full disk writes a part: it is cut off again, so that no half line stays.
    """
    size = sum(map(len, lines))
    before = os.fstat(descriptor).st_size
    try:
        written = os.writev(descriptor, lines)
    except OSError:
        os.ftruncate(descriptor, before)
        raise
    if written != size:
        os.ftruncate(descriptor, before)
        raise OSError(28, "No space left on device")
    return size
