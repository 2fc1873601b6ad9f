"""Finds the lines of an id in a folder of logs, newest file first, without reading the others' lines."""

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from server.log.answers import NAMES

#: Bytes that are searched before another thread may run.
_STEP_BYTES = 2**22
#: Lines that one batch may take: 2**16 bytes each.
MOST_PARTS = 4096


class FoundLine(NamedTuple):
    """A line of the log; of a batch, `row` is the place in it of the row that was asked for as `row_id`."""

    record: dict[str, Any]
    row: int | None = None
    row_id: str = ""


def find_lines(folder: Path, text: str, most: int = 20) -> list[FoundLine]:
    """The lines of a response's `id` (of a batch's row with `/` and its number), a request's or a trace's.

    Newest first, at most so many; of a batch that takes several lines the first stands for all.
    Compressed files are not looked at; a file that is taken away meanwhile has no lines.
    """
    head, slash, row = text.rpartition("/")
    found = _find(folder, text, most)
    if not found and slash and row.isdecimal() and len(row) < 10:
        return _row(_find(folder, head, MOST_PARTS, is_of_row=True), int(row))
    return [FoundLine(record) for record in found]


def _find(folder: Path, wanted: str, most: int, *, is_of_row: bool = False) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in _newest_first(folder):
        found += reversed([line for line in _lines(path, wanted) if is_of_row or not _part(line)])
        if len(found) >= most:
            break
    return found[:most]


def _row(records: Iterable[dict[str, Any]], row: int) -> list[FoundLine]:
    """The line with a row of a batch: a large one takes several lines, which go on counting."""
    first = 0
    for record in sorted(records, key=_part):
        rows = record["input"].get("rows")
        count = len(rows) if isinstance(rows, list) else 0
        if row < first + count:
            return [FoundLine(record, row - first, f"{str(record['id']).partition('.')[0]}/{row}")]
        first += count
    return []


def _part(record: dict[str, Any]) -> int:
    part = str(record["id"]).partition(".")[2]
    return int(part) if part.isdecimal() else 0


def _newest_first(folder: Path) -> list[Path]:
    times = {}
    for path in folder.glob("*.jsonl"):
        try:
            times[path] = path.stat().st_mtime_ns
        except OSError:  # it was rotated away
            continue
    return sorted(times, key=lambda path: -times[path])


def _lines(path: Path, wanted: str) -> Iterator[dict[str, Any]]:
    needle = orjson.dumps(wanted)[:-1]  # behind it a quote, or the part of a large batch
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for line in _holding(content, needle):
                record = _record(line)
                if record is not None and _is_of(record, wanted):
                    yield record
    except (OSError, ValueError):  # an empty file cannot be mapped
        return


def _holding(content: mmap.mmap, needle: bytes) -> Iterator[bytes]:
    """The lines with the needle; the search holds the interpreter for a step at a time."""
    start, size = 0, len(content)
    while start < size:
        at = content.find(needle, start, min(size, start + _STEP_BYTES))
        if at < 0:
            start += _STEP_BYTES - len(needle) + 1
            continue
        begin, end = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at)
        end = end if end >= 0 else size
        yield content[begin:end]
        start = end + 1


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None  # it is being written
    return record if isinstance(record, dict) and {"id", "input", "model"} <= record.keys() else None


def _is_of(record: dict[str, Any], wanted: str) -> bool:
    own = str(record["id"])
    return wanted in (own, own.partition(".")[0], *(str(record.get(name)) for name in NAMES))
