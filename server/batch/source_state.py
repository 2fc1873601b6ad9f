"""Whether a file is still the one that was begun with: what is written of two is of neither."""

from pathlib import Path
from typing import NamedTuple

from server.errors import BatchRefused


class SourceState(NamedTuple):
    """What is another once a file was written to, or another file has its name."""

    device: int
    inode: int
    size: int
    changed_ns: int


def state_of(path: Path) -> SourceState:
    """The state of a file."""
    status = path.stat()
    return SourceState(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def refuse_changed(path: Path, state: SourceState, where: Path) -> None:
    """Raise `BatchRefused` unless a file, of the user's name `where`, is in this state."""
    try:
        same = state_of(path) == state
    except FileNotFoundError:
        same = False
    if not same:
        raise changed(where)


def changed(where: Path) -> BatchRefused:
    """What is said of a file that became another."""
    return BatchRefused(
        f"expected {where} to stay as it was while it is scored, got another file: "
        "run the command again once it is written"
    )
