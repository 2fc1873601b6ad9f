"""The prediction log: one line for each answer, written off the way of the answer.

The event loop makes the lines of some answers at once, as one block; a thread
hands segments of blocks to the kernel. So the thread never looks at a line to
write it and holds the interpreter for some microseconds ten times a second.
What waits is bounded in bytes; a line that finds no room is dropped and counted.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from server.log.file import LogFile
from server.log.input import LoggedInput
from server.log.journal import LogJournal
from server.log.line import LineMaker
from server.log.mask import Masking, read_key
from server.log.rotation import RetentionPolicy, expired
from server.log.sample import PAUSE_SECONDS, LineSample
from server.metrics.drift_counts import DriftCounts
from server.metrics.shared import WorkerMetrics
from server.model.bundle import Bundle
from server.settings import Settings

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.1
SYNC_SECONDS = 0.5
RETRY_SECONDS = 1.0
TIDY_SECONDS = 30.0
#: Small enough to stay in the processor's cache until it is written, large enough that
#: the thread seldom asks for the interpreter.
SEGMENT_BYTES = 2**20
#: writev(2) takes no more.
SEGMENT_BLOCKS = 1024


def _guarded(count: Callable[..., None], *arguments: Any) -> bool:
    """Count some lines for drift; False if that failed, which must not end the log."""
    try:
        count(*arguments)
    except Exception:  # whatever it is, the lines go on to the disk
        logger.exception("Drift cannot be counted any more; the log goes on.")
        return False
    return True


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or repr(error)


class Segment(NamedTuple):
    """Whole lines on their way to the disk: blocks of them, their bytes and their number."""

    blocks: list[bytes]
    size: int
    lines: int


class PredictionLog:
    """Writes lines to `directory/predictions-<name>.jsonl`.

    `append` takes whole lines with their number and is for the event loop's
    thread. A line is handed to the kernel within 100 ms and to the disk within
    600 ms. When the disk fails, what waits is tried again each second; serving
    goes on. If `strict`, `append` itself writes, so a line is with the kernel
    before its answer is sent, and raises `OSError` if that fails. Raises
    `SettingsError` if the file cannot be opened.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        metrics: WorkerMetrics,
        *,
        queue_bytes: int,
        strict: bool = False,
        retention: RetentionPolicy | None = None,
        masking: Masking | None = None,
        drift_window_rows: int = 5000,
    ) -> None:
        self.strict = strict
        self._name = name
        self._metrics = metrics
        self._retention = retention or RetentionPolicy()
        self._masking = masking or Masking()
        self._drift_window_rows = drift_window_rows
        self._file = LogFile(directory / f"predictions-{name}.jsonl", self._retention)
        self._journal = LogJournal(self._file.path)
        self._instances: dict[str, str] = {}
        self._masked: dict[str, str] = {}
        self._counts = DriftCounts()
        self._sample: LineSample | None = None
        self._lines = self._refused = self._lost = 0
        self._set_queue_bytes = metrics.set_queue_bytes
        self._drop_full = metrics.dropped("queue_full")
        self._drop_disk = metrics.dropped("disk")
        self._drop_failed = metrics.dropped("failed")
        self._holding: set[LineMaker] = set()
        self._room = queue_bytes
        self._blocks: list[bytes] = []
        self._size = self._count = 0
        # Sealed segments on their way to the thread, and their bytes on the way back.
        self._sealed: queue.SimpleQueue[Segment | None] = queue.SimpleQueue()
        self._freed: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._sealed_bytes = 0
        self._sealed_at: deque[float] = deque()
        self._waits = False
        self._closing = threading.Event()
        self._thread = self._new_thread()
        self._timer: asyncio.TimerHandle | None = None
        self.append = self._write if strict else self._keep

    @classmethod
    def from_settings(cls, settings: Settings, worker: int, metrics: WorkerMetrics) -> "PredictionLog":
        """The log of one worker; raises `SettingsError`."""
        return cls(
            settings.log_dir,
            f"{settings.port}-{worker}",
            metrics,
            queue_bytes=settings.log_queue_bytes,
            strict=settings.log_mode == "strict",
            retention=RetentionPolicy(
                file_bytes=settings.log_file_bytes,
                file_seconds=settings.log_file_seconds,
                days=settings.log_keep_days,
                total_bytes=settings.log_total_bytes,
            ),
            masking=Masking(dict(settings.log_mask), read_key(settings.log_key_file, settings.log_dir)),
            drift_window_rows=settings.drift_window_rows,
        )

    @property
    def path(self) -> Path:
        """The file that is written."""
        return self._file.path

    def register(self, bundle: Bundle, instance: str) -> LineMaker:
        """Expect lines of this bundle whose ids begin with `instance`; what they are made with.

        Raises `SettingsError` if the bundle cannot be masked.
        """
        masking = self._masking
        logged_input = LoggedInput(bundle.schema)
        maker = LineMaker(self.append, masking.mask(bundle), logged_input, self._hold, self._count_failed)
        self._instances[instance] = bundle.digest
        if self._thread.is_alive():  # a reload; the ledger has the first instances from `start`
            self._journal.admitted({instance: bundle.digest}, masking.masked(bundle))
        self._masked |= masking.masked(bundle)
        counts = self._metrics.drift(
            bundle.label, masking.codes(bundle), masking.hidden(bundle), self._drift_window_rows
        )
        if counts is not None:
            self._counts.add(bundle.label, counts)
            if self._sample is None:
                self._sample = LineSample(self._counts.count_line)
        return maker

    def start(self) -> None:
        """Start the thread and, on the running event loop, the timer that flushes."""
        self._journal.opened(self._instances, self._masked)
        self._thread.start()
        self._tick(asyncio.get_running_loop())

    def stop(self) -> None:
        """Take no more lines; called on the event loop, whose timer and blocks these are."""
        if self._timer is not None:
            self._timer.cancel()
        self._closing.set()
        self._flush_held()
        self._seal()
        self._sealed.put(None)

    def close(self) -> None:
        """Write and sync every line that waits, as far as the disk takes it; after `stop`."""
        self._thread.join()
        self._file.close()
        self._journal.closed(list(self._instances), self._lines, self._refused + self._lost)

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._work, name="prediction-log", daemon=True)

    def _hold(self, maker: LineMaker) -> None:
        self._holding.add(maker)
        self._wait()

    def _wait(self) -> None:
        # Said when an answer is given, not when it is flushed: a flush that never comes shows.
        if not self._waits:
            self._waits = True
            self._metrics.lines_wait_since(time.monotonic())

    def _count_failed(self, lines: int) -> None:
        for _ in range(lines):
            self._refused += 1
            self._drop_failed()

    def _flush_held(self) -> None:
        while self._holding:
            self._holding.pop().flush()

    def _keep(self, lines: bytes, count: int) -> None:
        if not self._size:
            self._wait()
        size = self._size + len(lines)
        if size > self._room - self._sealed_bytes:
            self._keep_some(lines)
            return
        self._blocks.append(lines)
        self._size = size
        self._count += count
        if size >= SEGMENT_BYTES or len(self._blocks) >= SEGMENT_BLOCKS:
            self._seal()

    def _keep_some(self, lines: bytes) -> None:
        for line in lines.splitlines(keepends=True):
            if self._size + len(line) > self._room - self._sealed_bytes:
                self._refused += 1
                self._drop_full()
            else:
                self._keep(line, 1)

    def _write(self, lines: bytes, count: int) -> None:
        self._file.append([lines])
        self._lines += count
        # For the thread, which syncs and counts drift; what finds no room was written.
        if self._size < SEGMENT_BYTES and len(self._blocks) < SEGMENT_BLOCKS:
            self._blocks.append(lines)
            self._size += len(lines)
            self._count += count

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._flush()
        except Exception:
            logger.exception("The prediction log could not be flushed; it is tried again.")
        finally:  # whatever has happened: without its timer the log would end, and nobody see it
            self._timer = loop.call_later(FLUSH_SECONDS, self._tick, loop)

    def _flush(self) -> None:
        if not self._thread.is_alive():
            logger.error("The thread of the prediction log ended; another goes on.")
            self._thread = self._new_thread()
            self._thread.start()
        while not self._freed.empty():
            self._sealed_bytes -= self._freed.get()
            self._sealed_at.popleft()
        self._flush_held()
        # While the thread is busy, or fails, blocks come together here.
        if not self._sealed_bytes:
            self._seal()
        self._set_queue_bytes(0 if self.strict else self._sealed_bytes + self._size)
        self._waits = bool(self._sealed_at) and not self.strict
        self._metrics.lines_wait_since(self._sealed_at[0] if self._waits else 0.0)

    def _seal(self) -> None:
        if not self._blocks:
            return
        self._sealed.put(Segment(self._blocks, self._size, self._count))
        self._sealed_bytes += self._size
        self._sealed_at.append(time.monotonic())
        self._blocks = []
        self._size = self._count = 0

    def _work(self) -> None:
        """The thread: write, then sync, tidy up and count in what time is left."""
        unsynced_since: float | None = None
        tidied = 0.0
        while True:
            sample = self._sample  # a reload may bring the first model with a reference
            try:
                segment = self._sealed.get(
                    timeout=PAUSE_SECONDS if sample and sample.waiting else SYNC_SECONDS
                )
            except queue.Empty:
                if sample and not _guarded(sample.show_some):
                    self._sample = None
            else:
                if segment is None:
                    break
                self._finish(segment)
                unsynced_since = unsynced_since or time.monotonic()
            now = time.monotonic()
            if unsynced_since and now - unsynced_since >= SYNC_SECONDS:
                self._sync()
                unsynced_since = None
            if now - tidied >= TIDY_SECONDS:
                self._tidy()
                tidied = now
        self._sync()

    def _finish(self, segment: Segment) -> None:
        if not self.strict:
            self._write_until_done(segment)
        self._freed.put(segment.size)
        if self._sample and not _guarded(self._sample.take, segment.blocks, segment.lines):
            self._sample = None

    def _write_until_done(self, segment: Segment) -> None:
        failed = False
        while True:
            try:
                self._file.append(segment.blocks)
            except Exception as error:  # noqa: BLE001  # whatever it is, the lines must wait, not go
                if not failed:  # once a failure, not once a try
                    logger.error("The prediction log %s cannot be written: %s", self.path, _why(error))
                failed = True
            else:
                self._lines += segment.lines
                if failed:
                    logger.info("The prediction log %s is written again.", self.path)
                return
            self._tidy()
            if self._closing.wait(RETRY_SECONDS):
                for _ in range(segment.lines):
                    self._lost += 1
                    self._drop_disk()
                return

    def _sync(self) -> None:
        try:
            self._file.sync()
        except Exception as error:  # noqa: BLE001  # as above
            logger.error("The prediction log %s cannot be synced: %s", self.path, _why(error))

    def _tidy(self) -> None:
        """Delete the closed files, of every worker of this server, that need not stay."""
        server, _, _ = self._name.rpartition("-")
        try:
            gone = expired(self.path.parent, f"predictions-{server}-", self._retention)
            for file in gone:
                file.unlink(missing_ok=True)
        except Exception as error:  # noqa: BLE001  # as above
            logger.error("Old files of %s cannot be deleted: %s", self.path, _why(error))
        else:
            if gone:
                self._journal.removed(gone)
