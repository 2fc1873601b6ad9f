"""Files that are whole on the disk or absent, also after a power cut: the one place that knows how."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def sync_path(path: Path) -> None:
    """Have a file, or the names in a folder, outlive a power loss; raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file and have its content on the disk when this returns; raises `OSError`."""
    with open(path, "wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)
        file.flush()
        os.fsync(file.fileno())


def append_whole(descriptor: int, line: bytes) -> None:
    """All of a line or nothing: behind a part of one the next could not be read either. Raises `OSError`.

    For who holds the file alone, or is the only one to write it.
    """
    size = os.fstat(descriptor).st_size
    if os.write(descriptor, line) < len(line):
        os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def held_file(path: Path) -> Iterator[int]:
    """A file of lines that many append to, made if it is not there, held alone; raises `OSError`.

    Who waited for it while another took its place gets that one.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_same(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def is_same(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that the path names."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    own = os.fstat(descriptor)
    return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)


def append_synced(path: Path, lines: bytes) -> None:
    """Append whole lines, all or none, on the disk when this returns; raises `OSError`.

    Half a line that a crash left does not take the first of them with it.
    """
    with held_file(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        append_whole(descriptor, lines)
        os.fsync(descriptor)
        if not size:
            sync_path(path.parent)


def drop_lines(path: Path, fresh: Path, is_gone: Callable[[bytes], bool]) -> int:
    """Take lines out of a file that many append to; how many. Raises `OSError`.

    It is whole at every moment: what is left is written to `fresh`, which takes its place.
    """
    gone = 0
    with held_file(path) as descriptor, open(descriptor, "rb", closefd=False) as lines:
        with open(fresh, "wb") as kept:
            os.fchmod(kept.fileno(), 0o600)
            for line in lines:
                if is_gone(line):
                    gone += 1
                else:
                    kept.write(line)
        if gone:
            sync_path(fresh)
            fresh.replace(path)
            sync_path(path.parent)
        else:
            fresh.unlink()
    return gone


def sync_tree(directory: Path) -> None:
    """Have all files of a folder, and their names, on the disk; raises `OSError`."""
    for path in (*directory.rglob("*"), directory):
        if path.is_dir() or path.is_file():
            sync_path(path)


def lock(descriptor: int, patience_seconds: float, pause_seconds: float) -> None:
    """Hold an open file or folder alone; raises `BlockingIOError` if another holds it for longer."""
    end = time.monotonic() + patience_seconds
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(pause_seconds)
