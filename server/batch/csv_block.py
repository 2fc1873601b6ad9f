"""A block of CSV as a table of texts: split by polars, its records counted apart from it."""

import csv
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from server.errors import BatchRefused, first_line
from server.tables.csv_dialect import Dialect, cells_of
from server.tables.csv_records import MalformedCsv, Records, find_records


class CsvTable(NamedTuple):
    """The records of a block: columns of text, their places, and which have cells too few or too many.

    A ragged record's row is empty. `names` of the columns are positions of the file: "0", "1" …
    """

    table: pl.DataFrame
    records: Records
    ragged: npt.NDArray[np.intp]
    content: bytes
    dialect: Dialect
    width: int

    def lines(self) -> pl.Series:
        """Each record as it stands in the file, with as many cells as the header has."""
        found = self._texts()
        if not len(self.ragged):
            return found
        fitted = [_fitted(found[row].encode(), self.dialect, self.width) for row in self.ragged.tolist()]
        return found.scatter(self.ragged, [record.decode() for record in fitted])

    def _texts(self) -> pl.Series:
        records = self.records
        if records.plain and len(records.starts):
            return pl.read_lines(self.content).to_series()
        places = zip(records.starts.tolist(), records.ends.tolist(), strict=True)
        return pl.Series([self.content[start:end].decode() for start, end in places], dtype=pl.String)


def csv_table(content: bytes, first: int, width: int, columns: Sequence[int], dialect: Dialect) -> CsvTable:
    """The columns of a block in UTF-8 whose first record is on line `first`; those of `columns` are read.

    Raises `BatchRefused` by line if the block is no CSV, or no UTF-8.
    """
    _check_utf8(content, first)
    try:
        records = find_records(content, dialect.separator.encode(), quotes=dialect.quotes)
    except MalformedCsv as error:
        also = ""
        if b'\\"' in content and not dialect.escaped:
            also = " (or say --quotes escaped, if a backslash stands before it)"
        elif dialect.quotes:
            also = " (or say --quotes none, if quotes are plain characters in this file)"
        raise BatchRefused(f"expected CSV, got in line {first + error.line} {error}{also}") from None
    ragged = np.flatnonzero(records.cells != width)
    if not len(records.starts):
        table = pl.DataFrame(schema={str(i): pl.String for i in columns})
    else:
        table = _read(
            _rectangular(content, records, ragged, width, dialect), width, columns, records, dialect
        )
    if table.height != len(records.starts):
        raise BatchRefused(
            f"expected {len(records.starts)} records from line {first} on, got {table.height} from the "
            "reader: write the file again with another program, and report this"
        )
    return CsvTable(table, records, ragged, content, dialect, width)


def _check_utf8(content: bytes, first: int) -> None:
    if content.isascii():
        return
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = first + content.count(b"\n", 0, error.start)
        raise BatchRefused(
            f"expected CSV in UTF-8, got byte 0x{content[error.start]:02x} in line {line}: "
            "say what it is in with --encoding, such as cp1252"
        ) from None


def _rectangular(
    content: bytes, records: Records, ragged: npt.NDArray[np.intp], width: int, dialect: Dialect
) -> bytes:
    """The records as lines of as many cells as the header: what every reader reads in the same way."""
    if records.plain and not len(ragged):
        return content
    places = zip(records.starts.tolist(), records.ends.tolist(), strict=True)
    lines = [content[start:end] for start, end in places]
    empty = dialect.separator.encode() * (width - 1) or b'""'
    for row in ragged.tolist():
        lines[row] = empty
    return b"\n".join(lines) + b"\n"


def _read(
    content: bytes, width: int, columns: Sequence[int], records: Records, dialect: Dialect
) -> pl.DataFrame:
    try:
        table = pl.read_csv(
            content,
            has_header=False,
            infer_schema=False,
            separator=dialect.separator,
            # Where there is none, the reader need not look for it.
            quote_char='"' if records.quoted or (width == 1 and b'"' in content) else None,
            columns=list(columns) if len(columns) < width else None,
            truncate_ragged_lines=False,
        )
    except pl.exceptions.PolarsError as error:
        raise BatchRefused(f"expected CSV, got what its reader refuses: {first_line(error)}") from None
    table.columns = [str(i) for i in columns]
    return table


def _fitted(record: bytes, dialect: Dialect, width: int) -> bytes:
    """A ragged record with the cells that fit, or empty ones behind."""
    (cells,) = cells_of(record, dialect)
    return csv_record([*cells[:width], *[""] * (width - len(cells))], dialect.separator)


def quoted(column: pl.Series, separator: str) -> pl.Series:
    """Texts as cells of CSV: in quotes where that is needed."""
    special = column.str.contains(f'["\\r\\n{re.escape(separator)}]|^$')
    if not special.any():
        return column
    doubled = '"' + column.str.replace_all('"', '""', literal=True) + '"'
    return doubled.zip_with(special.fill_null(value=False), column)


def csv_record(cells: Sequence[str], separator: str) -> bytes:
    """One record without its line end."""
    text = io.StringIO(newline="")
    # Quotes are put around the characters of the line end, so it must have both.
    csv.writer(text, delimiter=separator, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n").encode()
