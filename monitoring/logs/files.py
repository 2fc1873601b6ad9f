"""Which files a log is made of, how they are opened, and what the journals beside them say."""

import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec

from monitoring.errors import LogError
from server.errors import first_line
from server.log.journal import JOURNAL_SUFFIX
from server.log.rotation import TORN_SUFFIX
from server.log.seal import records
from server.model.json_text import object_or_empty
from server.zstandard import zstd

PLAIN, GZIP, ZSTD = ".jsonl", ".jsonl.gz", ".jsonl.zst"
#: What is found in a folder; a file that is named is read whatever its name.
SUFFIXES = (PLAIN, GZIP, ZSTD)
_ARCHIVES = frozenset(
    (".gz", ".zst", ".tar", ".tgz", ".zip", ".7z", ".bz2", ".xz", ".lz4", ".br", ".parquet")
)
_CLOSED = re.compile(r"(?P<stem>.+)\.(?P<number>\d{6,})\.\d{8}T\d{6}Z\.jsonl(\.gz|\.zst)?")
#: Where log shippers (Vector, Filebeat, Fluent Bit, Docker) put a line of another program's.
_CARRIERS = ("message", "log", "json", "event", "line", "msg", "body")
_FIRST_LINE_BYTES = 2**20
BOM = b"\xef\xbb\xbf"
#: What is read of the records of each event (`server/log/journal.py`); more is of no account here.
_AT_LEAST_ONE = Annotated[list[str], msgspec.Meta(min_length=1)]
_INSTANCES: dict[str, Any] = {"boots": list[str]}
_RECORDS = {
    event: msgspec.defstruct(f"{event}_record", list(members.items()))
    for event, members in {
        "opened": {"ts": str, **_INSTANCES},
        "admitted": _INSTANCES,
        "closed": {"boots": _AT_LEAST_ONE, "lines": int, "dropped": int},
        "removed": {"files": list[str]},
        "erased": {"numbers": dict[str, list[int]]},
    }.items()
}
_MASKED = msgspec.defstruct("masked_record", [("boots", list[str], []), ("masked", dict[str, str], {})])
_BROKEN = (OSError, EOFError, zlib.error, zstd.ZstdError)


def log_files(paths: Iterable[Path]) -> list[Path]:
    """The files named, and of a folder every log file in it and its folders, sorted, each once.

    Behind Ray each replica has a folder of its own there. Raises `LogError` if there is none, or one
    whose lines were put into those of a log shipper.
    """
    files: dict[Path, None] = {}
    for path in paths:
        found = _in_folder(path) if path.is_dir() else [path]
        if not found or not all(file.is_file() for file in found):
            raise LogError(
                f"expected a log file, or a folder with *.jsonl files (also .gz, .zst), got {path}: "
                "name the server's HOTROW_LOG_DIR"
            )
        files |= dict.fromkeys(found)
    for file in files:
        _check_bare(file)
    return list(files)


def _check_bare(file: Path) -> None:
    """Refuse lines within lines: who looks for an id there, or has it erased, would be told there is none."""
    try:
        with open_lines(file) as lines:
            record = object_or_empty(lines.readline(_FIRST_LINE_BYTES))
    except LogError:
        return  # whoever reads it says so
    for name in _CARRIERS if "input" not in record else ():
        inner = record.get(name)
        inside = object_or_empty(inner.encode()) if isinstance(inner, str) else inner
        if isinstance(inside, dict) and {"id", "input"} <= inside.keys():
            raise LogError(
                f"expected lines of a prediction log in {file}, got lines that have these in their member "
                f"{name}, as log shippers write them: take them out with `jq -rc .{name} {file}`"
            )


def _in_folder(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*.jsonl*") if file.name.endswith(SUFFIXES))


def unread_files(paths: Iterable[Path]) -> list[Path]:
    """The files in folders that may hold lines and cannot be read here: archives, other compressions."""
    inside = (file for path in paths if path.is_dir() for file in path.rglob("*") if file.is_file())
    ours = (*SUFFIXES, TORN_SUFFIX)
    return sorted(
        file
        for file in inside
        if (PLAIN in file.name or file.suffix in _ARCHIVES) and not file.name.endswith(ours)
    )


def absent_files(files: Iterable[Path]) -> list[str]:
    """The closed files, by the beginnings of their names, that the numbers of the others miss.

    Files are numbered from 1; those that a journal says were removed are not missed.
    """
    files = list(files)
    numbers: dict[str, set[int]] = {}
    for file in files:
        if found := _CLOSED.fullmatch(file.name):
            numbers.setdefault(found["stem"], set()).add(int(found["number"]))
    for record in journal_records(files):
        if record.get("event") == "removed":
            for found in map(_CLOSED.fullmatch, record.get("files", ())):
                if found and found["stem"] in numbers:
                    numbers[found["stem"]].add(int(found["number"]))
    return [
        f"{stem}.{number:06d}"
        for stem, there in sorted(numbers.items())
        for number in range(1, max(there))
        if number not in there
    ]


@contextmanager
def open_lines(file: Path, name: Path | None = None) -> Iterator[BinaryIO]:
    """The lines of one file as bytes, compressed as its name (or `name`) says; raises `LogError`."""
    try:
        with open(file, "rb") as content:
            yield _decompressed(name or file, content)
    except _BROKEN as error:
        raise LogError(f"expected a whole log file at {file}, got: {first_line(error)}") from None


def _decompressed(file: Path, content: BinaryIO) -> BinaryIO:
    if file.name.endswith(".gz"):
        return io.BufferedReader(gzip.GzipFile(fileobj=content))
    if file.name.endswith(".zst"):
        return io.BufferedReader(zstd.ZstdFile(content))
    return content


@contextmanager
def compressed_as(file: Path, descriptor: int) -> Iterator[BinaryIO]:
    """What is written into this is compressed as the name of `file` says, and lands in `descriptor`."""
    with open(descriptor, "wb") as plain:
        if file.name.endswith(".gz"):
            with gzip.GzipFile(filename="", fileobj=plain, mode="wb", mtime=0) as packed:
                yield packed  # type: ignore[misc]  # a binary stream
        elif file.name.endswith(".zst"):
            with zstd.ZstdFile(plain, "wb") as packing:
                yield packing  # type: ignore[misc]  # as above
        else:
            yield plain


def journal_records(files: Sequence[Path]) -> list[dict[str, Any]]:
    """The records of every journal beside these files, oldest first in each.

    `log` is added to each: whose journal it is, the stem of the file's name. Raises `LogError` for
    one that no server wrote.
    """
    found = []
    for journal in journals_of(files):
        for number, record in enumerate(records(journal.read_bytes()), 1):
            _check_record(record, f"record {number} of {journal}")
            found.append({**record, "log": journal.stem})
    return found


def _check_record(record: dict[str, Any], where: str) -> None:
    event = record.get("event")
    kind = _RECORDS.get(event) if isinstance(event, str) else None
    try:
        for expected in filter(None, (kind, _MASKED)):
            msgspec.convert(record, expected)
    except msgspec.ValidationError as error:
        raise LogError(
            f"expected {where} as the server wrote it, got another: {first_line(error)}: bring the journal "
            "back from where the log is kept"
        ) from None


def journals_of(files: Sequence[Path]) -> list[Path]:
    """The journals in the folders of these files."""
    folders = dict.fromkeys(file.parent for file in files)
    found = (journal for folder in folders for journal in sorted(folder.glob(f"*{JOURNAL_SUFFIX}")))
    return [journal for journal in found if journal.is_file()]  # of a pipe there is no end


def masks_of(files: Sequence[Path]) -> dict[str, dict[str, str]]:
    """How the lines of each instance (the prefix of their ids) hide fields, as far as a journal tells."""
    masks: dict[str, dict[str, str]] = {}
    for record in journal_records(files):
        for instance in record.get("boots", ()) if "masked" in record else ():
            masks[instance] = dict(record["masked"])
    return masks
