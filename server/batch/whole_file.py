"""A whole CSV file as a table of texts: for who looks at all rows at once, as training and drift do."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from server.batch.csv_block import csv_table
from server.batch.formats import FileFormat, TextFile, format_named, pieces
from server.errors import BatchRefused, number_of
from server.tables.cells import CellRules
from server.tables.csv_dialect import Options, read_head
from server.tables.encodings import UTF8, encoding_of

#: Of ragged records the first few tell enough.
_MAX_NAMED = 3


@dataclass(frozen=True)
class CsvFile:
    """The columns of a file as texts, null for an empty cell, and how its numbers are written.

    `notes` say in sentences what was recognised, and which records were left out; `ragged` are
    the lines of the first few of these.
    """

    table: pl.DataFrame
    rules: CellRules
    notes: tuple[str, ...] = ()
    ragged: tuple[int, ...] = ()


def read_csv_file(
    path: Path,
    known: Callable[[str], bool] = lambda _: False,
    found: FileFormat | None = None,
    where: str = "",
) -> CsvFile:
    """The records of a file, compressed or not, those with cells too few or too many left out and counted.

    `known` says which column names mean something; it helps to tell the separator. `where` the
    rows are from is the path unless it is said. Raises
    `OSError`, and `BatchRefused` or `TableRefused` for what is no table.
    """
    found, where = found or format_named(path), where or str(path)
    encoding = encoding_of(pieces(path, found.compression), where)
    with TextFile(path, found.compression, encoding) as file:
        content = file.read()
    head = read_head(content, known, Options(separator=found.separator or None), where)
    width = len(head.names)
    block = csv_table(content[head.begin :], head.first_line, width, range(width), head.dialect)
    table = _named(block.table, head.names, where)
    notes = [f"Read {where} as {encoding}."] if encoding != UTF8 else []
    notes += [f"Read {where} {', '.join(head.dialect.notes)}."] if head.dialect.notes else []
    ragged = tuple((head.first_line + block.records.lines[block.ragged[:_MAX_NAMED]]).tolist())
    if ragged:
        lines = ", ".join(map(str, ragged))
        more = "…" if len(block.ragged) > _MAX_NAMED else ""
        notes.append(
            f"Left out {number_of(len(block.ragged), 'record')} of {where} "
            f"with other than {width} cells, in line {lines}{more}."
        )
        table = table.filter(~pl.Series(np.isin(np.arange(table.height), block.ragged)))
    return CsvFile(table, head.dialect.rules, tuple(notes), ragged)


def _named(table: pl.DataFrame, names: Sequence[str], where: str) -> pl.DataFrame:
    """By their names, without what separators at the end of each line make; raises `BatchRefused`."""
    gone = [count == table.height for count in table.null_count().row(0)]
    named = {str(i): name for i, name in enumerate(names) if name or not gone[i]}
    if twice := [name for name, count in Counter(named.values()).items() if count > 1]:
        raise BatchRefused(
            f"expected each column once in {where}, got {twice[0]!r} {names.count(twice[0])} times: "
            "rename or remove the others"
        )
    return table.select(list(named)).rename(named)
