"""A file of whole lines that one process appends to, whatever happens to the disk."""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from server.durable import lock, sync_path
from server.errors import SettingsError
from server.log.rotation import (
    CLOSED_MODE,
    TORN_SUFFIX,
    RetentionPolicy,
    closed_path,
    highest_number,
    number_of,
)

logger = logging.getLogger(__name__)

_TAIL_BLOCK_BYTES = 65_536
LOCK_PAUSE_SECONDS = 0.02


class LogFile:
    """Appends whole lines to one file, held for this process alone.

    A half line left by a crash is moved to `<file>.torn` when the file is opened.
    A file that another process holds is waited for as long as the patience lasts.
    A file that is large or old enough is renamed and made read-only, and a new
    one begun. One thread appends; `sync` may be called by another. Raises
    `SettingsError` if the file cannot be opened or another process holds it.
    """

    _size: int
    _began: float

    def __init__(
        self, path: Path, retention: RetentionPolicy | None = None, patience_seconds: float = 0.1
    ) -> None:
        self.path = path
        self._retention = retention or RetentionPolicy()
        self._lock = threading.Lock()  # only for what replaces the descriptor
        self._number = 0  # of the last closed file, once one was closed
        try:
            self._descriptor = _open(path, patience_seconds)
        except BlockingIOError:
            raise SettingsError(
                f"expected {path} to be free, got a file another server writes: set another HOTROW_LOG_DIR"
            ) from None
        except OSError as error:
            raise SettingsError(
                f"expected {path} to be writable, got: {error.strerror}: "
                "set another HOTROW_LOG_DIR or HOTROW_LOG_MODE=off"
            ) from None
        self._begin()

    def append(self, blocks: Sequence[bytes], about_to: Callable[[int], None] = lambda _: None) -> None:
        """Write blocks of whole lines, all or none; raises `OSError` if the disk does not take them.

        `about_to` is told the size of the file, just before.
        """
        size = sum(map(len, blocks))
        status = os.fstat(self._descriptor)
        if not status.st_nlink or _is_elsewhere(status, self.path):  # deleted, with its folder, or moved
            self._replace(_open(self.path))
        elif status.st_size != self._size:  # what a failed write left could not be cut off then
            self._size = min(self._size, status.st_size)
            os.ftruncate(self._descriptor, self._size)
        if self._size and self._is_full(size):
            self._rotate()
        about_to(self._size)
        written = os.writev(self._descriptor, blocks)
        if written != size:  # a full disk takes a part: no half line stays
            os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written

    def sync(self) -> None:
        """Have the kernel put what was written on the disk."""
        with self._lock:  # not while it waits for the disk, or an append could wait too
            descriptor = os.dup(self._descriptor)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file, which frees it for another process."""
        os.close(self._descriptor)

    def _begin(self) -> None:
        self._size = os.fstat(self._descriptor).st_size
        # The monotonic clock: one that is set cannot close a file early or never.
        self._began = time.monotonic()

    def _is_full(self, more: int) -> bool:
        limit, seconds = self._retention.file_bytes, self._retention.file_seconds
        too_large = bool(limit) and self._size + more > limit
        return too_large or (bool(seconds) and time.monotonic() - self._began > seconds)

    def _rotate(self) -> None:
        closed = self._next_closed()
        try:
            self.path.rename(closed)
        except OSError as error:
            logger.error("The prediction log %s cannot be closed: %s", self.path, error.strerror)
            self._began = time.monotonic()
            return
        try:
            fresh = _open(self.path)
        except OSError as error:
            closed.rename(self.path)
            logger.error("No file can follow the prediction log %s: %s", self.path, error.strerror)
            self._began = time.monotonic()
            return
        try:
            os.fchmod(self._descriptor, CLOSED_MODE)
            os.fsync(self._descriptor)
            sync_path(self.path.parent)
        except OSError as error:
            logger.error("The prediction log %s cannot be synced: %s", closed, error.strerror)
        self._number = number_of(closed)
        self._replace(fresh)

    def _next_closed(self) -> Path:
        """The name that the file gets. Looked for among all the closed ones once: there may be thousands."""
        closed = closed_path(self.path, (self._number or highest_number(self.path)) + 1)
        if closed.exists():  # somebody put files there
            closed = closed_path(self.path, highest_number(self.path) + 1)
        return closed

    def _replace(self, descriptor: int) -> None:
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = descriptor
        self._begin()


def _is_elsewhere(status: os.stat_result, path: Path) -> bool:
    """Whether the open file is no longer the one of this name."""
    try:
        here = path.stat()
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return (here.st_ino, here.st_dev) != (status.st_ino, status.st_dev)


def cut_back(path: Path, size: int, more: int) -> bool:
    """Whether all of `more` bytes were appended to a file of `size`; a part of them is cut off.

    For what a process was about to append when it was killed. Raises `OSError`.
    """
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        return False
    if size < found < size + more:
        os.truncate(path, size)
    return found == size + more


def _open(path: Path, patience_seconds: float = 0.1) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        lock(descriptor, patience_seconds, LOCK_PAUSE_SECONDS)
        _cut_torn_tail(descriptor, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _cut_torn_tail(descriptor: int, path: Path) -> None:
    size = start = os.fstat(descriptor).st_size
    tail = b""
    while start and b"\n" not in tail:
        end, start = start, max(0, start - _TAIL_BLOCK_BYTES)
        tail = os.pread(descriptor, end - start, start) + tail
    torn = tail[tail.rfind(b"\n") + 1 :]
    if torn:
        _keep_torn(path.with_name(path.name + TORN_SUFFIX), torn)
        os.ftruncate(descriptor, size - len(torn))
        logger.warning("%s ended in half a line, which was moved to *%s", path, TORN_SUFFIX)


def _keep_torn(path: Path, torn: bytes) -> None:
    # On a disk that is still full the half line is lost, not the start of the server.
    try:
        with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as kept:
            kept.write(torn + b"\n")
    except OSError as error:
        logger.error("%s cannot be written: %s", path, error.strerror)
