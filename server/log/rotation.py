"""The closed files of a prediction log: their names, and how long they stay."""

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

CLOSED_MODE = 0o400
#: What a crash left of a line, and a file that an erasure has not put in place yet.
TORN_SUFFIX, REWRITTEN_SUFFIX = ".torn", ".rewritten"
_NUMBER = re.compile(r"\.(\d{6,})\.\d{8}T\d{6}Z\.jsonl$")


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """When a file is closed, and how long closed files are kept; 0 sets no limit."""

    file_bytes: int = 0
    file_seconds: float = 0.0
    days: int = 0
    total_bytes: int = 0


def rewritten(file: Path) -> Path:
    """Where a file is written anew without some of its lines, until that takes its place."""
    return file.with_name(file.name + REWRITTEN_SUFFIX)


def closed_path(path: Path, number: int) -> Path:
    """A name for `path` once it is closed: `<stem>.<number>.<UTC time>.jsonl`.

    With a number beyond the highest there is a clock that is set back names no file twice.
    """
    return path.with_name(f"{path.stem}.{number:06d}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.jsonl")


def highest_number(path: Path) -> int:
    """The number of the last closed file of the log at `path`, 0 if there is none."""
    return max(map(number_of, _closed(path.parent, path.stem)), default=0)


def closed_files(path: Path) -> list[Path]:
    """The closed files of the log at `path`, in the order they were written."""
    return sorted(_closed(path.parent, path.stem), key=number_of)


def is_closed(path: Path) -> bool:
    """Whether a file is a closed one by its name."""
    return _NUMBER.search(path.name) is not None


def number_of(closed: Path) -> int:
    """The number in the name of a closed file."""
    found = _NUMBER.search(closed.name)
    assert found is not None
    return int(found[1])


def expired(directory: Path, stem: str, retention: RetentionPolicy) -> list[Path]:
    """The files of all workers (stems that start with `stem`) that need not stay.

    Those last written more than `days` ago, and the oldest as long as all files
    together, open ones too, are larger than `total_bytes`. A file that a worker
    holds open never goes; what a crash or an erasure left beside a log does.
    """
    files = dict(_sizes_and_times(directory, stem))
    by_age = sorted(files, key=lambda path: (files[path].st_mtime, path.name))
    oldest = time.time() - retention.days * 86_400
    old = (p for p in by_age if retention.days and files[p].st_mtime < oldest)
    gone = dict.fromkeys(p for p in old if not _is_in_use(p))
    if retention.total_bytes:
        left = [p for p in by_age if p not in gone and (is_closed(p) or p.suffix == TORN_SUFFIX)]
        total = sum(status.st_size for path, status in files.items() if path not in gone)
        for path in left:
            if total <= retention.total_bytes:
                break
            total -= files[path].st_size
            gone[path] = None
    return list(gone)


def _sizes_and_times(directory: Path, stem: str) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file that holds lines of these logs: closed, open, torn, or being rewritten."""
    for path in directory.glob(f"{stem}*"):
        if path.suffix in (".jsonl", TORN_SUFFIX, REWRITTEN_SUFFIX):
            with suppress(FileNotFoundError):  # another worker tidies up, too, or closes its file
                yield path, path.stat()


def _is_in_use(path: Path) -> bool:
    """Whether a worker holds this file open; one that none does is of a worker that is no more."""
    if path.suffix != ".jsonl" or is_closed(path):
        return False
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):  # the latter: it was closed just now
        return True
    return False


def _closed(directory: Path, stem: str) -> Iterator[Path]:
    return (path for path in directory.glob(f"{stem}.*.jsonl") if _NUMBER.search(path.name))
