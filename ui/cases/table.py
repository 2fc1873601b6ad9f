"""A piece of a person's CSV file: read cell by cell, written back so that a spreadsheet runs none of it."""

import asyncio
import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from server.errors import BadValue, Problem, TableRefused, UnacceptableRow
from server.model.schema import Feature, Matrix, Row, Schema, pointer
from server.tables.cells import ONES_AND_TWOS, Read, cell_reader, in_ones_and_twos
from server.tables.columns import FeatureNames
from server.tables.csv_dialect import Dialect, Options
from server.tables.csv_table import csv_records, csv_text

#: Rows read before the event loop turns: 100 of the shipped model take some 0.8 ms.
SLICE_ROWS = 100
#: What a spreadsheet may run (OWASP, CSV Injection): a sign where a cell begins, blanks and quotes
#: before it left aside, and a control character there. A cell also begins behind whatever another
#: language's spreadsheet parts cells by: `a;=1+1` is two cells in French.
_SIGN = re.compile(r"[=+\-@\t\r\n\0＝＋－＠]")
#: A blank that is itself behind a cell's end is looked at there: no text is gone through twice.
_FORMULA = re.compile(
    r"^(?=[\t\r\n\0])|(?:^|\r\n|[,;\t\r\n])(?=(?:[^\S\t\r\n]|[\0\ufeff\"])*+[=+\-@＝＋－＠])"
)
_NUMBER = re.compile(r"[+-]?+(?:\d++(?:[.,]\d*+)?+|[.,]\d++)(?:e[+-]?+\d++)?+", re.ASCII | re.IGNORECASE)

Decode = Callable[[bytes], Row]
ANY = Options()


class UploadedTable(NamedTuple):
    """The header and the records of a piece; `lines` says on which line each record begins.

    `renames` are features by the names of columns that mean them because somebody said so.
    """

    header: tuple[str, ...]
    dialect: Dialect
    records: list[list[str]]
    lines: list[int]
    renames: Mapping[str, str] = {}  # a named tuple's, never changed

    @property
    def delimiter(self) -> str:
        """What parts the cells."""
        return self.dialect.separator


class TableRows(NamedTuple):
    """The acceptable rows of a table: float64 [n, F], as JSON objects, where they stand; and the faults."""

    matrix: Matrix
    texts: list[bytes]
    positions: list[int]
    faults: list[BadValue]


def read_table(
    body: bytes,
    first_line: int,
    most: int,
    schema: Schema,
    options: Options = ANY,
    renames: Mapping[str, str] | None = None,
) -> UploadedTable:
    """The table in a header and up to `most` records, the first on `first_line` of its file.

    Raises `MalformedBody` if it is no CSV, `UnacceptableRow` if there are more
    records, or if there is no header.
    """
    table = csv_text(body, FeatureNames(schema, renames), options, "the file")
    shift = first_line - table.head.first_line
    records: list[list[str]] = []
    lines: list[int] = []
    for line, record in csv_records(table, most, shift):
        records.append(record)
        lines.append(line)
    if not any(table.head.names):
        raise UnacceptableRow("expected a first line with the names of the columns, got an empty one")
    return UploadedTable(table.head.names, table.dialect, records, lines, renames or {})


def columns_of(table: UploadedTable, schema: Schema) -> dict[str, int]:
    """The position of each feature's column; raises `UnacceptableRow` if there is none, or one twice."""
    try:
        return FeatureNames(schema, table.renames).match(table.header, "the file").positions
    except TableRefused as error:
        raise UnacceptableRow(str(error)) from None


def context_of(table: UploadedTable, schema: Schema, context: Sequence[Feature]) -> dict[str, int]:
    """The position of the column of each context field that has one, by its name or label."""
    taken = set(columns_of(table, schema).values())
    places = {name.strip().casefold(): i for i, name in enumerate(table.header) if i not in taken}
    words = {field.name: [word.casefold() for word in (field.name, field.label)] for field in context}
    return {name: places[word] for name, said in words.items() for word in reversed(said) if word in places}


async def read_rows(
    table: UploadedTable, schema: Schema, decode: Decode, context: Sequence[Feature] = ()
) -> TableRows:
    """The table's rows, decoded as `/predict` decodes its one, with the context that the log tells.

    Other columns are left alone. The event loop turns now and then.
    """
    readers = _readers(table, schema, context)
    features = {pointer(field.name): field.name for field in (*schema.features, *context)}
    rows: list[Row] = []
    texts: list[bytes] = []
    positions: list[int] = []
    faults: list[BadValue] = []
    unsure = [(i, field, read) for i, field, read in readers if _is_in_ones_and_twos(table, i, field, read)]
    for position, record in enumerate(table.records):
        if position % SLICE_ROWS == SLICE_ROWS - 1:
            await asyncio.sleep(0)
        line = table.lines[position]
        if len(record) != len(table.header):
            faults.append(BadValue(line, "", f"expected {len(table.header)} cells, got {len(record)}"))
            continue
        if wrong := [
            BadValue(line, f.name, ONES_AND_TWOS) for i, f, read in unsure if read(record[i]) is not None
        ]:
            faults += wrong
            continue
        text = orjson.dumps({f.name: v for i, f, read in readers if (v := read(record[i])) is not None})
        try:
            rows.append(decode(text))
        except Problem as problem:
            faults += [BadValue(line, features[error.pointer], error.detail) for error in problem.errors]
            continue
        texts.append(text)
        positions.append(position)
    matrix = np.frombuffer(b"".join(rows), dtype=np.float64).reshape(-1, len(schema))
    return TableRows(matrix, texts, positions, faults)


def fields_of(table: UploadedTable, schema: Schema, context: Sequence[Feature] = ()) -> dict[str, Any]:
    """What the first record says of each field that it knows, acceptable or not."""
    cells = table.records[0] if table.records else []
    known = [(i, field, read) for i, field, read in _readers(table, schema, context) if i < len(cells)]
    return {f.name: value for i, f, read in known if (value := read(cells[i])) is not None}


def _readers(
    table: UploadedTable, schema: Schema, context: Sequence[Feature]
) -> list[tuple[int, Feature, Read]]:
    """Where each field's cells stand, and what reads them."""
    rules = table.dialect.rules
    fields = {field.name: field for field in (*schema.features, *context)}
    places = columns_of(table, schema) | context_of(table, schema, context)
    return [(i, fields[name], cell_reader(fields[name], rules)) for name, i in places.items()]


def _is_in_ones_and_twos(table: UploadedTable, i: int, field: Feature, read: Read) -> bool:
    return field.form_kind == "flag" and in_ones_and_twos({read(r[i]) for r in table.records if i < len(r)})


def harmless(cell: str) -> str:
    """A cell that a spreadsheet shows and does not run; numbers stay numbers."""
    if not _SIGN.search(cell) or _NUMBER.fullmatch(cell):
        return cell
    return _FORMULA.sub(r"\g<0>'", cell)


async def written(rows: Iterator[Sequence[str]], delimiter: str) -> list[str]:
    """Each row of cells as a line of CSV; the event loop turns now and then."""
    lines: list[str] = []
    writer = csv.writer(_Lines(lines.append), delimiter=delimiter, lineterminator="\r\n")
    for position, row in enumerate(rows):
        if position % SLICE_ROWS == SLICE_ROWS - 1:
            await asyncio.sleep(0)
        writer.writerow([harmless(cell) for cell in row])
    return lines


class _Lines(NamedTuple):
    """A file for `csv.writer`, which writes a row at a time."""

    write: Callable[[str], object]
