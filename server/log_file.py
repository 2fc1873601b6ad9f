"""A file of whole lines that one process appends to, whatever happens to the disk."""

import errno
import fcntl
import logging
import os
from pathlib import Path

from server.errors import SettingsError

logger = logging.getLogger(__name__)

TORN_SUFFIX = ".torn"
_TAIL_BLOCK_BYTES = 65_536


class LogFile:
    """Appends whole lines to one file, held for this process alone.

    A half line left by a crash is moved to `<file>.torn` when the file is opened.
    Raises `SettingsError` if the file cannot be opened or another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = _open(path)
        except BlockingIOError:
            raise SettingsError(
                f"expected {path} to be free, got a file another server writes: set another HOTROW_LOG_DIR"
            ) from None
        except OSError as error:
            raise SettingsError(
                f"expected {path} to be writable, got: {error.strerror}: "
                "set another HOTROW_LOG_DIR or HOTROW_LOG_MODE=off"
            ) from None

    def append(self, lines: bytes | memoryview) -> None:
        """Write whole lines, all of them or none; raises `OSError` if the disk does not take them."""
        if not os.fstat(self._descriptor).st_nlink:  # the file, or its folder, was deleted
            fresh = _open(self.path)
            os.close(self._descriptor)
            self._descriptor = fresh
        before = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, lines)
        if written != len(lines):  # a full disk takes a part: no half line stays
            os.ftruncate(self._descriptor, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        """Have the kernel put what was written on the disk."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file, which frees it for another process."""
        os.close(self._descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        with open(path.with_name(path.name + TORN_SUFFIX), "ab") as kept:
            kept.write(torn + b"\n")
        os.ftruncate(descriptor, size - len(torn))
        logger.warning("%s ended in half a line, which was moved to *%s", path, TORN_SUFFIX)
