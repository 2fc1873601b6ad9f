"""A file in blocks of whole records: the same blocks every time, so that a job can go on where it was."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import polars as pl

from server.batch.columns import BatchRefused

#: Text read at a time: large enough that a block's fixed costs vanish, small
#: enough that one for each core, with its columns, stays within some 100 MB.
BLOCK_BYTES = 4 * 2**20
MAX_RECORD_BYTES = 64 * 2**20
PARQUET_ROWS = 50_000
BOM = b"\xef\xbb\xbf"


class Block(NamedTuple):
    """Some records of a file: where they stand, and how to get them.

    `first` is the line (text) or row (Parquet) of its first record, from 1;
    `size` how much of the file was read for it: bytes of text, rows of Parquet.
    """

    number: int
    first: int
    size: int
    content: bytes | pl.DataFrame


def csv_header(path: Path) -> list[str]:
    """The column names of a CSV file; raises `BatchRefused`."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            header = next(csv.reader(file, strict=True), [])
        except (csv.Error, UnicodeDecodeError) as error:
            raise BatchRefused(f"expected {path} to begin with a CSV header, got: {error}") from None
    if not header or len(set(header)) != len(header):
        raise BatchRefused(f"expected {path} to begin with a CSV header, each name once, got another line")
    return header


def csv_blocks(path: Path) -> Iterator[Block]:
    """The records after the header; a line break inside quotes ends no record."""
    with open(path, "rb") as file:
        beginning = file.read(BLOCK_BYTES)
        end = first_record_end(beginning) or len(beginning)
        file.seek(end)
        yield from _text_blocks(file, 1 + beginning.count(b"\n", 0, end), _end_outside_quotes, path)


def line_blocks(path: Path) -> Iterator[Block]:
    """The lines of a JSON Lines file."""
    with open(path, "rb") as file:
        if file.read(len(BOM)) != BOM:
            file.seek(0)
        yield from _text_blocks(file, 1, lambda text: text.rfind(b"\n") + 1, path)


def parquet_blocks(path: Path, done_rows: int, done_blocks: int) -> Iterator[Block]:
    """The rows of a Parquet file after the first `done_rows`, which `done_blocks` held."""
    table = pl.scan_parquet(path).slice(done_rows)
    batches = table.collect_batches(chunk_size=PARQUET_ROWS, maintain_order=True)
    for index, batch in enumerate(batches, start=done_blocks):
        if batch.height:
            yield Block(index, done_rows + 1, batch.height, batch)
            done_rows += batch.height


def _text_blocks(
    file: BinaryIO, first_line: int, end_of_records: Callable[[bytes], int], path: Path
) -> Iterator[Block]:
    rest, index = b"", 0
    while True:
        fresh = file.read(BLOCK_BYTES)
        text = rest + fresh
        end = end_of_records(text) if fresh else len(text)
        if not text:
            return
        if not end and len(text) > MAX_RECORD_BYTES:
            raise BatchRefused(
                f"expected records of at most {MAX_RECORD_BYTES} bytes in {path}, "
                f"got a longer one at line {first_line}: look for a quote that is never closed"
            )
        if end:
            yield Block(index, first_line, end, text[:end])
            index += 1
            first_line += text.count(b"\n", 0, end)
        rest = text[end:]


def _end_outside_quotes(text: bytes) -> int:
    """Behind the last line break that is not inside quotes, 0 if there is none."""
    end = text.rfind(b"\n") + 1
    quotes = text.count(b'"', 0, end)
    while end and quotes % 2:
        before = text.rfind(b"\n", 0, end - 1) + 1
        quotes -= text.count(b'"', before, end)
        end = before
    return end


def first_record_end(text: bytes, odd: bool = False) -> int:
    """Behind the first line break that is not inside quotes, 0 if there is none.

    `odd`: the text begins inside quotes.
    """
    end, quotes = 0, int(odd)
    while (next_end := text.find(b"\n", end) + 1) > 0:
        quotes += text.count(b'"', end, next_end)
        end = next_end
        if quotes % 2 == 0:
            return end
    return 0
