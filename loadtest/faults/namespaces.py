"""Namespaces of the kernel: mounts and networks of our own, gone with the process."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.faults.scene import FaultSkipped, needs_root

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # sched.h
_libc = ctypes.CDLL(None, use_errno=True)


def own_mounts() -> None:
    """Take a mount namespace of our own, as root; for another user mounts are no matter."""
    if os.geteuid() == 0:
        _check(_libc.unshare(_CLONE_NEWNS))
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size ("1m") at a new folder."""
    needs_root()
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        raise FaultSkipped("mounting a file system is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def own_network() -> Iterator[None]:
    """A network with nothing but a loopback, for this thread and what it starts."""
    needs_root()
    with Path("/proc/thread-self/ns/net").open() as before:
        _check(_libc.unshare(_CLONE_NEWNET))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _check(_libc.setns(before.fileno(), _CLONE_NEWNET))


def _check(result: int) -> None:
    if result:
        raise FaultSkipped(f"no namespaces here: {os.strerror(ctypes.get_errno())}")
