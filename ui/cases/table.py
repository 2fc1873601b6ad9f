"""A piece of a person's CSV file: read cell by cell, written back so that a spreadsheet runs none of it."""

import asyncio
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from server.api.batch_bodies import cell_reader
from server.errors import MalformedBody, Problem, UnacceptableRow
from server.model.schema import Feature, Matrix, Row, Schema, pointer

#: Rows read before the event loop turns: 100 of the shipped model take some 0.8 ms.
SLICE_ROWS = 100
#: What a spreadsheet may run (OWASP, CSV Injection): a sign where a cell begins, blanks and quotes
#: before it left aside, and a control character there. A cell also begins behind whatever another
#: language's spreadsheet parts cells by: `a;=1+1` is two cells in French.
_SIGN = re.compile(r"[=+\-@\t\r\n\0＝＋－＠]")
_FORMULA = re.compile(r"^(?=[\t\r\n\0])|(?:^|\r\n|[,;\t\r\n])(?=[\s\0\ufeff\"]*[=+\-@＝＋－＠])")
_NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

Decode = Callable[[bytes], Row]


class Fault(NamedTuple):
    """What is wrong in a file: the line, the column ("" for the whole line), what was expected."""

    line: int
    column: str
    detail: str


class Table(NamedTuple):
    """The header and the records of a piece; `lines` says on which line each record begins.

    A file that is parted by semicolons, as French spreadsheets write them, has
    decimal commas in its numbers.
    """

    header: list[str]
    delimiter: str
    records: list[list[str]]
    lines: list[int]

    def plain(self, cell: str, feature: Feature) -> str:
        """A cell with a decimal point."""
        french = self.delimiter == ";" and feature.kind in ("number", "integer")
        return cell.replace(",", ".") if french else cell


class Rows(NamedTuple):
    """The acceptable rows of a table: float64 [n, F], as JSON objects, where they stand; and the faults."""

    matrix: Matrix
    texts: list[bytes]
    positions: list[int]
    faults: list[Fault]


def read_table(text: str, first_line: int, most: int) -> Table:
    """The table in a header line and up to `most` records, the first on `first_line` of its file.

    Raises `MalformedBody` if it is no CSV, `UnacceptableRow` if there are more
    records, or if the header has no names, or one twice.
    """
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[list[str]] = []
    lines: list[int] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        shift = first_line - 1 - reader.line_num
        before = reader.line_num
        for record in reader:
            if len(records) == most and record:
                raise UnacceptableRow(f"expected at most {most} rows in one piece of a file, got more")
            if record:
                records.append(record)
                lines.append(before + 1 + shift)
            before = reader.line_num
    except csv.Error as error:
        raise MalformedBody(f"expected CSV, got something else near line {first_line}: {error}") from None
    if not any(header) or len(set(header)) != len(header):
        raise UnacceptableRow("expected a first line with the names of the columns, each once")
    return Table(header, delimiter, records, lines)


async def read_rows(table: Table, schema: Schema, decode: Decode) -> Rows:
    """The table's rows, decoded as `/predict` decodes its one; columns that are no feature are left alone.

    The event loop turns now and then.
    """
    known = {feature.name: feature for feature in schema.features}
    columns = [(i, known[name]) for i, name in enumerate(table.header) if name in known]
    readers = [(i, feature, cell_reader(feature)) for i, feature in columns]
    features = {pointer(feature.name): feature.name for feature in schema.features}
    rows: list[Row] = []
    texts: list[bytes] = []
    positions: list[int] = []
    faults: list[Fault] = []
    for position, record in enumerate(table.records):
        if position % SLICE_ROWS == SLICE_ROWS - 1:
            await asyncio.sleep(0)
        line = table.lines[position]
        if len(record) != len(table.header):
            faults.append(Fault(line, "", f"expected {len(table.header)} cells, got {len(record)}"))
            continue
        fields: dict[str, Any] = {}
        for i, feature, read in readers:
            cell = record[i].strip()
            if cell:
                fields[feature.name] = read(table.plain(cell, feature))
        text = orjson.dumps(fields)
        try:
            rows.append(decode(text))
        except Problem as problem:
            faults += [Fault(line, features[error.pointer], error.detail) for error in problem.errors]
            continue
        texts.append(text)
        positions.append(position)
    matrix = np.frombuffer(b"".join(rows), dtype=np.float64).reshape(-1, len(schema))
    return Rows(matrix, texts, positions, faults)


def harmless(cell: str) -> str:
    """A cell that a spreadsheet shows and does not run; numbers stay numbers."""
    if not _SIGN.search(cell) or _NUMBER.fullmatch(cell):
        return cell
    return _FORMULA.sub(r"\g<0>'", cell)


async def written(rows: Iterator[Sequence[str]], delimiter: str) -> str:
    """Rows of cells as CSV text; the event loop turns now and then."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    for position, row in enumerate(rows):
        if position % SLICE_ROWS == SLICE_ROWS - 1:
            await asyncio.sleep(0)
        writer.writerow([harmless(cell) for cell in row])
    return text.getvalue()
