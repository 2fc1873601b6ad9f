"""The prediction log: one line for each answer, written off the way of the answer.

The event loop copies a finished line into a segment of memory; a thread writes
whole segments. So the thread never looks at a line, holds the interpreter for
some microseconds ten times a second, and no line outlives its request as an
object. Segments are bounded in bytes; a line that finds none is dropped and
counted.
"""

import asyncio
import logging
import queue
import threading
import time
from pathlib import Path

from server.log_file import LogFile
from server.metrics import WorkerMetrics

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.1
SYNC_SECONDS = 0.5
RETRY_SECONDS = 1.0
#: Small enough to stay in the processor's cache until it is written.
SEGMENT_BYTES = 2**18


class PredictionLog:
    """Writes lines to `directory/predictions-<name>.jsonl`.

    `append` is for the event loop's thread. A line is handed to the kernel within
    100 ms and to the disk within 600 ms. When the disk fails, what waits is tried
    again each second; serving goes on. If `strict`, `append` itself writes, so a
    line is with the kernel before its answer is sent, and raises `OSError` if
    that fails. Raises `SettingsError` if the file cannot be opened.
    """

    def __init__(
        self, directory: Path, name: str, metrics: WorkerMetrics, *, queue_bytes: int, strict: bool = False
    ) -> None:
        self.strict = strict
        self._file = LogFile(directory / f"predictions-{name}.jsonl")
        self._set_queue_bytes = metrics.set_queue_bytes
        self._drop_full = metrics.dropped("queue_full")
        self._drop_disk = metrics.dropped("disk")
        self._room = queue_bytes
        self._segment = bytearray(SEGMENT_BYTES)
        self._used = 0
        # Sealed segments on their way to the thread, and their bytes on the way back.
        self._sealed: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._freed: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._sealed_bytes = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_segments, name="prediction-log", daemon=True)
        self._timer: asyncio.TimerHandle | None = None
        self.append = self._write if strict else self._copy

    @property
    def path(self) -> Path:
        """The file that is written."""
        return self._file.path

    def start(self) -> None:
        """Start the thread and, on the running event loop, the timer that flushes."""
        self._thread.start()
        self._tick(asyncio.get_running_loop())

    def close(self) -> None:
        """Write and sync every line that waits, as far as the disk takes it."""
        if self._timer is not None:
            self._timer.cancel()
        self._closing.set()
        self._seal()
        self._sealed.put(None)
        self._thread.join()
        self._file.close()

    def _copy(self, line: bytes) -> None:
        end = self._used + len(line)
        if end > SEGMENT_BYTES:
            self._seal()
            end = len(line)
        if self._sealed_bytes + end > self._room or end > SEGMENT_BYTES:
            self._drop_full()
            return
        self._segment[self._used : end] = line
        self._used = end

    def _write(self, line: bytes) -> None:
        try:
            self._file.append(line)
        except OSError:
            self._drop_disk()
            raise

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._freed.empty():
            self._sealed_bytes -= self._freed.get()
        # While the thread is busy, or fails, the segment fills up instead.
        if self._used and not self._sealed_bytes:
            self._seal()
        self._set_queue_bytes(self._sealed_bytes + self._used)
        self._timer = loop.call_later(FLUSH_SECONDS, self._tick, loop)

    def _seal(self) -> None:
        if not self._used:
            return
        self._sealed.put(memoryview(self._segment)[: self._used])
        self._sealed_bytes += self._used
        self._segment = bytearray(SEGMENT_BYTES)
        self._used = 0

    def _write_segments(self) -> None:
        unsynced_since: float | None = None
        while True:
            try:
                segment = self._sealed.get(timeout=SYNC_SECONDS)
            except queue.Empty:
                segment = memoryview(b"")
            if segment is None:
                break
            if segment:
                self._write_until_done(segment)
                self._freed.put(len(segment))
                unsynced_since = unsynced_since or time.monotonic()
            if unsynced_since and time.monotonic() - unsynced_since >= SYNC_SECONDS:
                self._sync()
                unsynced_since = None
        self._sync()

    def _write_until_done(self, segment: memoryview) -> None:
        failed = False
        while True:
            try:
                self._file.append(segment)
            except OSError as error:
                if not failed:  # once a failure, not once a try
                    logger.error("The prediction log %s cannot be written: %s", self.path, error.strerror)
                failed = True
            else:
                if failed:
                    logger.info("The prediction log %s is written again.", self.path)
                return
            if self._closing.wait(RETRY_SECONDS):
                for _ in range(bytes(segment).count(b"\n")):
                    self._drop_disk()
                return

    def _sync(self) -> None:
        try:
            self._file.sync()
        except OSError as error:
            logger.error("The prediction log %s cannot be synced: %s", self.path, error.strerror)
