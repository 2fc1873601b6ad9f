"""One subject's lines, taken out of a log that can still prove that it lost no other.

A file is rewritten beside itself, the journal says which numbers go, and only then
the new file takes the old one's place: whatever a crash interrupts, no line of
another subject is gone, and none is missing that the journal does not explain.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from monitoring.errors import LogError
from monitoring.logs.files import BOM, PLAIN, absent_files, compressed_as, log_files, open_lines, unread_files
from monitoring.logs.seals import check_key, digest_of, plain_path
from monitoring.logs.subject import DataSubject
from server.durable import sync_path
from server.log.journal import LogJournal
from server.log.reviews import SUFFIX as REVIEWS_SUFFIX
from server.log.reviews import erase_reviews
from server.log.rotation import REWRITTEN_SUFFIX, TORN_SUFFIX, is_closed, rewritten
from server.model.json_text import object_or_empty
from server.model.row_names import ROW_ID, ROW_IDS, count_of, name_of_row, with_rows
from server.outcomes.record import KEYS
from server.outcomes.store import erase_outcomes, outcome_files


@dataclass(frozen=True)
class Erasure:
    """What was taken out, and what could not be.

    `in_use` are files that a running server still writes; `unsearched` says, a
    sentence each, what may hold the subject and was not looked at.
    """

    lines: int
    rows: int
    files: list[Path]
    in_use: list[Path]
    unsearched: list[str] = field(default_factory=list)
    reviews: int = 0
    outcomes: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the subject is in none of the files any more."""
        return not self.in_use and not self.unsearched

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "complete": self.is_complete,
            "lines": self.lines,
            "rows": self.rows,
            "reviews": self.reviews,
            "outcomes": self.outcomes,
            "files": [str(file) for file in self.files],
            "in_use": [str(file) for file in self.in_use],
            "unsearched": self.unsearched,
        }


def erase(paths: Sequence[Path], subject: DataSubject, key: bytes | None = None) -> Erasure:
    """Take out every row of a subject; raises `LogError`. `key` is that of the journals' seals.

    Of a batch's line the row alone goes, of other lines the line.
    """
    files = log_files(paths)
    for folder in dict.fromkeys(file.parent for file in files):
        for left in folder.glob(f"*{REWRITTEN_SUFFIX}"):  # by an erasure that was killed
            left.unlink()
    check_key(files, key)
    reviews, outcomes = _erase_beside(files, subject)
    unsearched = unsearched_files(paths, files)
    lines = rows = 0
    rewritten, in_use = [], []
    for file in files:
        try:
            if not _has(file, subject):
                continue
        except LogError as error:
            unsearched.append(str(error))
            continue
        with _held(file) as free:
            if not free:
                in_use.append(file)
                continue
            gone, fewer = _rewrite(file, subject, key)
        lines, rows = lines + gone, rows + fewer
        rewritten.append(file)
    for folder in dict.fromkeys(file.parent for file in files):
        _remove_torn(folder, subject)
    return Erasure(lines, rows, rewritten, in_use, unsearched, reviews, outcomes)


def _erase_beside(files: Sequence[Path], subject: DataSubject) -> tuple[int, int]:
    """Take out what people wrote of the subject's decisions, and what became of them; how many of both.

    Before the lines, which say whose they are.
    """
    folders = list(dict.fromkeys(file.parent for file in files))
    outcomes = outcome_files(folders)
    if not outcomes and not any(any(folder.glob(f"*{REVIEWS_SUFFIX}")) for folder in folders):
        return 0, 0
    # What somebody named may be older than the lines that are left.
    names: dict[str, set[str]] = {kind: set(subject.names) for kind in KEYS}
    for file in files:
        with suppress(LogError), open_lines(file) as lines:  # told by the search of the lines
            for line in filter(subject.may_be_in, lines):
                if (record := parsed(line)) is not None:
                    _add_names(names, record, subject.rows(record))
    return sum(erase_reviews(folder, names["id"]) for folder in folders), erase_outcomes(outcomes, names)


def _add_names(names: dict[str, set[str]], record: dict[str, Any], rows: Sequence[int]) -> None:
    """What these rows of a line are called; a request or trace that has others, too, is theirs as well."""
    names["id"] |= {name_of_row(record, row) for row in rows}
    given = record.get(ROW_IDS) or [record.get(ROW_ID)] * count_of(record)
    names["row_id"] |= {str(given[row]) for row in rows if given[row] is not None}
    if len(rows) == count_of(record):
        asked = record.get("request_id", record.get("header_request_id"))
        names["request_id"] |= {str(asked)} if asked is not None else set()
        names["trace_id"] |= {str(record["trace_id"])} if "trace_id" in record else set()


def unsearched_files(paths: Sequence[Path], files: Sequence[Path]) -> list[str]:
    """What may hold lines and is not read: files of other kinds, and closed ones that are elsewhere."""
    return [
        *(f"{file} is not read here: unpack it, and name what it holds" for file in unread_files(paths)),
        *(
            f"{name}, a closed file, is not among these: name the folder it was moved to as well"
            for name in absent_files(files)
        ),
    ]


def _has(file: Path, subject: DataSubject) -> bool:
    """Whether a file has rows of the subject, or a line that nobody can tell of; raises `LogError`."""
    with open_lines(file) as lines:
        return any(_may_tell(line, subject) for line in lines if subject.may_be_in(line))


def _may_tell(line: bytes, subject: DataSubject) -> bool:
    record = parsed(line)
    return record is None or bool(subject.rows(record))


def parsed(line: bytes) -> dict[str, Any] | None:
    """What a line of a log says, None of any other."""
    record = object_or_empty(line.removeprefix(BOM))
    return record if {"id", "seq", "input"} <= record.keys() else None


@contextmanager
def _held(file: Path) -> Iterator[bool]:
    """Whether no server writes this file, nor begins to while the block runs."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        if not is_closed(file) and file.name.endswith(PLAIN):  # no server writes compressed files
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _rewrite(file: Path, subject: DataSubject, key: bytes | None) -> tuple[int, int]:
    """Rewrite one file; how many lines, and how many rows of other lines, are gone."""
    fresh = rewritten(file)
    fresh.unlink(missing_ok=True)  # of an erasure that was killed
    try:
        return _replaced(file, fresh, subject, key)
    finally:
        fresh.unlink(missing_ok=True)


def _replaced(file: Path, fresh: Path, subject: DataSubject, key: bytes | None) -> tuple[int, int]:
    status = file.stat()
    gone: list[tuple[str, int]] = []
    rows = 0
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open_lines(file) as lines, compressed_as(file, descriptor) as kept:
        for line in lines:
            if subject.may_be_in(line):
                record = _record(file, line)
                if record is None:
                    continue
                fewer = _without(record, subject)
                if not fewer:
                    gone.append((record["id"].partition("-")[0], record["seq"]))
                    continue
                rows += count_of(record) - count_of(fewer)
                if fewer is not record:
                    line = orjson.dumps(fewer, option=orjson.OPT_APPEND_NEWLINE)
            kept.write(line)
    sync_path(fresh)
    # Retention goes by the time of the last line, not of this.
    os.utime(fresh, ns=(status.st_atime_ns, status.st_mtime_ns))
    fresh.chmod(status.st_mode & 0o777)
    journal = LogJournal(file.with_name(file.name.split(".", 1)[0] + ".jsonl"), key)
    journal.erased(plain_path(file), gone, rows, digest_of(fresh, file) if key else None)
    fresh.replace(file)
    sync_path(file.parent)
    return len(gone), rows


def _record(file: Path, line: bytes) -> dict[str, Any] | None:
    """What a line says, None of the half one at the end that a crash left; raises `LogError`."""
    record = parsed(line)
    if record is None and line.endswith(b"\n"):
        raise LogError(
            f"expected lines of a prediction log in {file}, got one with the subject that is none: "
            f"{line[:60].decode(errors='replace')!r}: take it out by hand"
        )
    return record


def _without(record: dict[str, Any], subject: DataSubject) -> dict[str, Any]:
    """A line without the subject's rows, empty if nothing is left of it."""
    gone = frozenset(subject.rows(record))
    return with_rows(record, [i for i in range(count_of(record)) if i not in gone])


def _remove_torn(folder: Path, subject: DataSubject) -> None:
    """Half lines that a crash left hold nothing that could be kept apart."""
    for torn in folder.glob(f"*{TORN_SUFFIX}"):
        if subject.may_be_in(torn.read_bytes()):
            torn.unlink()
