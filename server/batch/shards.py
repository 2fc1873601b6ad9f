"""A data set cut into shards: the same cuts every time, and each can be read without the ones before it."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import polars as pl

from server.batch.blocks import BOM, MAX_RECORD_BYTES, Block, first_record_end
from server.batch.columns import BatchRefused
from server.batch.job import ENDINGS, columns_of, format_of
from server.batch.scorer import CSV, LINES, PARQUET

#: What a shard holds of its input unless the command says otherwise: some seconds of work for one
#: core and a file of tens of MB, which is what readers of many files like.
SHARD_BYTES, SHARD_ROWS = 32 * 2**20, 250_000
_READ_BYTES = 2**16


class Cut(NamedTuple):
    """A range of one file: bytes of text, rows of Parquet; `end` is exclusive.

    Of a range of text, `lines` and `quotes` are what the file holds before it: with
    them a reader knows where it stands, though a cut may fall into a record.
    """

    number: int
    path: str
    begin: int
    end: int
    lines: int = 0
    quotes: int = 0


class Count(NamedTuple):
    """How many line breaks and quotes a range of text holds."""

    lines: int
    quotes: int


def files_of(source: Path) -> list[Path]:
    """The file, or the files of a folder by name: all of one format; raises `BatchRefused`."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise BatchRefused(f"expected a file or a folder of files to score, got none at {source}")
    # Names that begin so are no data by the convention of Hadoop, Spark and Arrow.
    files = sorted(p for p in source.iterdir() if p.is_file() and not p.name.startswith((".", "_")))
    if len({format_of(path) for path in files}) != 1:
        raise BatchRefused(f"expected files of one kind in {source} ({', '.join(ENDINGS)}), got {len(files)}")
    return files


def header_of(files: Sequence[Path]) -> list[str]:
    """The columns that every file has, in the order of the first; raises `BatchRefused`."""
    header, *others = (columns_of(path) for path in files)
    if format_of(files[0]) == LINES:
        return list(dict.fromkeys(name for names in (header, *others) for name in names))
    for path, names in zip(files[1:], others, strict=True):
        if names != header:
            raise BatchRefused(f"expected the columns of {files[0].name} in {path.name}, got others")
    return header


def cuts_of(files: Iterable[Path], size: int) -> Iterator[Cut]:
    """Ranges of about `size` bytes or rows; those of text still lack what stands before them."""
    number = 0
    for path in files:
        for begin, end in _ranges(path, size):
            yield Cut(number, str(path), begin, end)
            number += 1


def count(cut: Cut) -> Count:
    """What a range of text holds, read from the file."""
    lines = quotes = 0
    with open(cut.path, "rb") as file:
        file.seek(cut.begin)
        for text in _pieces(file, cut.end - cut.begin):
            lines += text.count(b"\n")
            quotes += text.count(b'"')
    return Count(lines, quotes)


def placed(cuts: Sequence[Cut], counts: Sequence[Count]) -> list[Cut]:
    """The ranges of text with what stands before each, summed from the counts of all."""
    found: list[Cut] = []
    before = Count(0, 0)
    for i, cut in enumerate(cuts):
        if i and cuts[i - 1].path == cut.path:
            before = Count(before.lines + counts[i - 1].lines, before.quotes + counts[i - 1].quotes)
        else:  # a file's header is in none of its ranges
            before = count(cut._replace(begin=0, end=cut.begin))
        found.append(cut._replace(lines=before.lines, quotes=before.quotes))
    return found


def read(cut: Cut) -> Block:
    """The records that begin in a range; of text also the rest of the last one, beyond its end."""
    path = Path(cut.path)
    if format_of(path) == PARQUET:
        table = pl.scan_parquet(path).slice(cut.begin, cut.end - cut.begin).collect()
        return Block(cut.number, cut.begin + 1, table.height, table)
    quoted = format_of(path) == CSV
    with open(path, "rb") as file:
        first = _record_start(file, cut.begin, quoted and cut.quotes % 2 == 1, quoted, path)
        file.seek(cut.begin)
        text = file.read(cut.end - cut.begin)
        odd = quoted and (cut.quotes + text.count(b'"')) % 2 == 1
        last = _record_start(file, cut.end, odd, quoted, path)
        file.seek(cut.end)
        text += file.read(max(0, last - cut.end))
    content = text[first - cut.begin :]
    line = cut.lines + text.count(b"\n", 0, first - cut.begin) + 1
    return Block(cut.number, line, cut.end - cut.begin, content if cut.begin else content.removeprefix(BOM))


def _ranges(path: Path, size: int) -> Iterator[tuple[int, int]]:
    begin, end = 0, path.stat().st_size
    if format_of(path) == PARQUET:
        end = pl.scan_parquet(path).select(pl.len()).collect().item()
    elif format_of(path) == CSV:
        begin = _header_end(path)
    for first in range(begin, end, size):
        yield first, min(first + size, end)


def _header_end(path: Path) -> int:
    with open(path, "rb") as file:
        return _scan(file, 0, False, True, path)


def _record_start(file: BinaryIO, at: int, odd: bool, quoted: bool, path: Path) -> int:
    """The first record that begins at `at` or later; `odd`: inside quotes there."""
    file.seek(at - 1 if at else 0)
    if at == 0 or (file.read(1) == b"\n" and not odd):
        return at
    return _scan(file, at, odd, quoted, path)


def _scan(file: BinaryIO, at: int, odd: bool, quoted: bool, path: Path) -> int:
    """Behind the first line break from `at` on that ends a record, or the end of the file."""
    file.seek(at)
    size = 0
    while text := file.read(_READ_BYTES):
        if end := first_record_end(text, odd) if quoted else text.find(b"\n") + 1:
            return at + size + end
        size += len(text)
        odd ^= text.count(b'"') % 2 == 1
        if size > MAX_RECORD_BYTES:
            raise BatchRefused(
                f"expected records of at most {MAX_RECORD_BYTES} bytes in {path}, got a longer one "
                f"at byte {at}: look for a quote that is never closed"
            )
    return at + size


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (text := file.read(min(size, 2**20))):
        size -= len(text)
        yield text
