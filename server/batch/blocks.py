"""A file in blocks of whole records: the same blocks every time, so that a job can go on where it was."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from server.batch.formats import CSV, LINES, TextFile
from server.batch.layout import FileLayout
from server.batch.tables import table_blocks
from server.errors import BatchRefused, TableRefused
from server.tables.text_blocks import Readable, end_of_lines, end_outside_quotes, text_blocks

#: Text read at a time: large enough that a block's fixed costs vanish, small
#: enough that one for each core, with its columns, stays within some 100 MB.
BLOCK_BYTES = 4 * 2**20
MAX_RECORD_BYTES = 64 * 2**20
BOM = b"\xef\xbb\xbf"


class Block(NamedTuple):
    """Some records of a file: where they stand, and how to get them.

    `first` is the line (text) or row (Parquet) of its first record, from 1;
    `size` how much of the file was read for it: bytes of text, rows of a table.
    """

    number: int
    first: int
    size: int
    content: bytes | pl.DataFrame


def blocks_of(
    path: Path, compression: str, layout: FileLayout, columns: Sequence[int], done_blocks: int, done_rows: int
) -> Iterator[Block]:
    """The blocks of a file after the first `done_blocks`, which held `done_rows`; of a table some columns."""
    if layout.kind not in (CSV, LINES):
        for index, table in enumerate(table_blocks(path, layout.kind, columns, done_rows), start=done_blocks):
            yield Block(index, done_rows + 1, table.height, table)
            done_rows += table.height
        return
    with TextFile(path, compression, layout.encoding, escaped=layout.dialect.escaped) as text:
        blocks = csv_blocks(text, layout, str(path)) if layout.kind == CSV else line_blocks(text, str(path))
        yield from (block for block in blocks if block.number >= done_blocks)


def csv_blocks(text: Readable, layout: FileLayout, where: str) -> Iterator[Block]:
    """The records after the header; a line break inside quotes ends no record."""
    _pass_over(text, layout.begin)
    end = end_outside_quotes if layout.dialect.quotes else end_of_lines
    yield from _blocks(text, layout.first_line, end, where)


def line_blocks(text: Readable, where: str) -> Iterator[Block]:
    """The lines of a JSON Lines file."""
    beginning = text.read(len(BOM))
    while len(beginning) < len(BOM) and (more := text.read(len(BOM) - len(beginning))):
        beginning += more
    rest = beginning.removeprefix(BOM)
    yield from _blocks(text, 1, lambda text: text.rfind(b"\n") + 1, where, rest)


def _pass_over(text: Readable, size: int) -> None:
    while size > 0 and (piece := text.read(size)):
        size -= len(piece)


def _blocks(
    text: Readable, first_line: int, end_of_records: Callable[[bytes], int], where: str, rest: bytes = b""
) -> Iterator[Block]:
    found = text_blocks(
        text,
        first_line,
        end_of_records,
        block_bytes=BLOCK_BYTES,
        max_record_bytes=MAX_RECORD_BYTES,
        rest=rest,
    )
    try:
        for index, (line, content) in enumerate(found):
            yield Block(index, line, len(content), content)
    except TableRefused as error:
        raise BatchRefused(f"{where}: {error}") from None


def first_record_end(text: bytes, odd: bool = False) -> int:
    """Behind the first LF that is not inside quotes, 0 if there is none.

    `odd`: the text begins inside quotes.
    """
    end, quotes = 0, int(odd)
    while (next_end := text.find(b"\n", end) + 1) > 0:
        quotes += text.count(b'"', end, next_end)
        end = next_end
        if quotes % 2 == 0:
            return end
    return 0
