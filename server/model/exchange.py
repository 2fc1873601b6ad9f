"""Two folders exchanged in one step, by one at a time; what was cut short is finished."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.durable import lock
from server.errors import BundleError

#: As long as another publication may take: its reload, the check, the start of all workers and a drain.
LOCK_SECONDS = 300.0
#: What a start waits for a publication that is between two renames.
MOMENT_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # renameat2(2)
#: What a file system says that cannot exchange two names, and a C library without the call.
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def alone(folder: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Nobody else who asks for this changes model folders beside `folder` while the block runs.

    Raises `BundleError` if somebody does for longer than `seconds`.
    """
    parent = folder.resolve().parent
    try:
        descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BundleError(
            f"expected a folder for the model at {folder}, got none at {parent}: {error.strerror}"
        ) from None
    try:
        try:
            lock(descriptor, seconds, _PAUSE_SECONDS)
        except BlockingIOError:
            raise BundleError(
                f"expected to be alone in changing {folder}, got another publication that does not end"
            ) from None
        yield
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> None:
    """Give each of two folders the other's name: whoever looks finds the one or the other under both.

    Raises `OSError`. Where the file system cannot, there is a moment without `one`,
    which `recover` ends if nobody else does.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        if not call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
            return
        if ctypes.get_errno() not in _UNSUPPORTED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(one))
    aside = sibling(one, "replaced")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def recover(folder: Path) -> None:
    """Bring back a folder that an exchange in two steps was cut short of; raises nothing.

    An exchange that is under way is waited for.
    """
    if folder.exists():
        return
    folder = folder.resolve()
    aside = sibling(folder, "replaced")
    try:
        with alone(folder, MOMENT_SECONDS):
            if aside.exists() and not folder.exists():
                aside.rename(folder)
    except (OSError, BundleError):
        pass  # whoever reads the folder says what is wrong with it


def sibling(folder: Path, word: str) -> Path:
    """The hidden neighbour of a folder for one use."""
    return folder.with_name(f".{folder.name}.{word}")
