"""Finds the lines of an id in a folder of logs, newest file first, without reading the others' lines."""

import mmap
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from server.model.json_text import object_or_empty
from server.model.row_names import (
    FIRST_ROW,
    count_of,
    means_all,
    name_of_row,
    response_id_of,
    response_of,
    rows_called,
    sought,
)

#: Bytes that are searched before another thread may run: 0.2 ms.
_STEP_BYTES = 2**18
#: Of a whole line; another may be half written.
_IS_RECORD = {"id", "input", "model"}.issubset


class FoundLine(NamedTuple):
    """A line of the log, and which of its rows were asked for, by their numbers in it."""

    record: dict[str, Any]
    rows: Sequence[int]


def find_lines(folder: Path, name: str, most: int = 20) -> list[FoundLine]:
    """The lines with rows that a name means (`server/model/row_names.py`).

    Newest first, at most so many; of a response that takes several lines and is meant as a whole
    the first stands for all. Compressed files are not looked at; a file that is taken away
    meanwhile has no lines.
    """
    found: dict[str, FoundLine] = {}
    for path in _newest_first(folder):
        newest: dict[str, FoundLine] = {}
        for record in _lines(path, name):
            if rows := rows_called(record, (name,)):
                key = response_id_of(record) if means_all(record, (name,)) else str(record["id"])
                _keep_first(newest, key, FoundLine(record, rows))
            if len(newest) > most:
                newest.pop(next(iter(newest)))
        for key, line in reversed(newest.items()):
            _keep_first(found, key, line)
        if len(found) >= most:
            break
    return list(found.values())[:most]


def find_answer(folder: Path, id_: str) -> FoundLine | None:
    """The line of one answer by its own id, or that of a row of a batch by the row's name.

    What clients call their requests and rows counts for nothing here.
    """
    response = response_of(id_.partition("/")[0])
    for path in _newest_first(folder):
        for record in _lines(path, id_):
            if response_id_of(record) == response and (rows := _rows_of_answer(record, id_)):
                return FoundLine(record, rows)
    return None


def newest_records(folder: Path, label: str) -> Iterator[dict[str, Any]]:
    """The lines of one model, `name@version`, the newest first: file by file from its end.

    Compressed files are not looked at. Another thread may run between the lines.
    """
    needle = b'"model":' + orjson.dumps(label)
    for path in _newest_first(folder):
        yield from _records(path, lambda content: (line for line in _from_the_end(content) if needle in line))


def _from_the_end(content: mmap.mmap) -> Iterator[bytes]:
    end = len(content)
    while end > 0:
        begin = content.rfind(b"\n", 0, end - 1) + 1
        yield content[begin:end]
        end = begin
        time.sleep(0)


def _rows_of_answer(record: dict[str, Any], id_: str) -> list[int]:
    return [i for i in range(count_of(record)) if id_ in (name_of_row(record, i), str(record["id"]))]


def _keep_first(found: dict[str, FoundLine], key: str, line: FoundLine) -> None:
    """Keep a line for what it belongs to, unless one before it in a large batch is there."""
    if key not in found or line.record.get(FIRST_ROW, 0) < found[key].record.get(FIRST_ROW, 0):
        found[key] = line


def _newest_first(folder: Path) -> list[Path]:
    times = {}
    for path in folder.glob("*.jsonl"):
        try:
            times[path] = path.stat().st_mtime_ns
        except OSError:  # it was rotated away
            continue
    return sorted(times, key=lambda path: -times[path])


def _lines(path: Path, name: str) -> Iterator[dict[str, Any]]:
    return _records(path, lambda content: _holding(content, _written(name)))


def _records(path: Path, lines: Callable[[mmap.mmap], Iterator[bytes]]) -> Iterator[dict[str, Any]]:
    """The records of some lines of a file, none of one that is taken away meanwhile."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield from filter(_IS_RECORD, map(object_or_empty, lines(content)))
    except (OSError, ValueError):  # an empty file cannot be mapped
        return


def _written(name: str) -> list[bytes]:
    """How a line has a name: as text, or as a number that a client called its row."""
    text = orjson.dumps(sought(name))
    texts = [text, text[:-1] + b".", text[:-1] + b"/"]  # the whole, a part of a large batch, a row
    if not name.removeprefix("-").isdecimal():
        return texts
    number = name.encode()
    listed = (b"[%b,", b",%b,", b",%b]", b"[%b]")
    return [*texts, b'_id":%b,' % number, *(place % number for place in listed)]


def _holding(content: mmap.mmap, needles: Collection[bytes]) -> Iterator[bytes]:
    """The lines with one of the needles, each once."""
    end = -1
    for at in merge(*(_places(content, needle) for needle in needles)):
        if at < end:
            continue
        begin, end = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at)
        end = end if end >= 0 else len(content)
        yield content[begin:end]


def _places(content: mmap.mmap, needle: bytes) -> Iterator[int]:
    """Where a needle begins; the search holds the interpreter for a step at a time."""
    start, size = 0, len(content)
    while start < size:
        at = content.find(needle, start, min(size, start + _STEP_BYTES))
        if at >= 0:
            yield at
            start = at + 1
        else:
            start += _STEP_BYTES - len(needle) + 1
            time.sleep(0)  # a search keeps the interpreter until it is asked for it, which takes 5 ms
