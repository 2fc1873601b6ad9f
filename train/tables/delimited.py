"""Text of a table -> its columns: encoding, line ends and separator are recognised, odd rows refused."""

import codecs
import io
import re

import polars as pl

from server.errors import TableRefused, first_line, listed
from server.model.wrong_value import MISSING
from server.tables.csv_dialect import Options, read_head
from server.tables.encodings import UTF8, encoding_of
from train.errors import DataError


def read_delimited(where: str, content: bytes, wanted: list[str]) -> tuple[pl.DataFrame, str]:
    """The wanted columns as text, null for missing, with the number of their row, and the separator.

    A column is found by its name in any case and with blanks around it. Blank lines
    and rows without a value in any wanted column are left out. Raises `DataError` for
    a missing column, a row of another width than the header, and text that is no table.
    """
    text = _lines(_utf8(where, content))
    known = {_plain(name) for name in wanted}
    try:
        head = read_head(text, lambda name: _plain(name) in known, Options(), where)
    except TableRefused as error:
        raise DataError(str(error)) from None
    separator = head.dialect.separator
    if text[:4].lower() == b"sep=":  # Excel's, above the header
        text = text.split(b"\n", 1)[-1]
    try:
        header = pl.read_csv(io.BytesIO(text), n_rows=0, infer_schema=False, separator=separator).columns
        columns = match_columns(where, header, wanted)
        records = _check_widths(where, text, separator, len(header))
        frame = pl.read_csv(
            io.BytesIO(text),
            columns=list(columns.values()),
            infer_schema=False,
            separator=separator,
            null_values=sorted(set(MISSING) - {""}),
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(f"expected {where} to be a table in CSV, got: {first_line(error)}") from None
    if frame.height != records:
        raise DataError(f"expected {records:,} rows in {where}, could read {frame.height:,}: see its quotes")
    return frame.select(pl.col(header_name).alias(name) for name, header_name in columns.items()), separator


def match_columns(where: str, header: list[str], wanted: list[str]) -> dict[str, str]:
    """For each wanted name the header's own; raises `DataError` if one is missing or there twice."""
    return {name: _column(where, header, name) for name in wanted}


def _column(where: str, header: list[str], name: str) -> str:
    if name in header:
        return name
    alike = [column for column in header if _plain(column) == _plain(name)]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise DataError(f"expected the column {name} once in {where}, got {' and '.join(map(repr, alike))}")
    raise DataError(
        f"expected the column {name} in {where}, "
        f"got the header {listed(header)}: "
        "rename the column or use the file as it was published"
    )


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip()).casefold()


def _utf8(where: str, content: bytes) -> bytes:
    """The text in UTF-8 without a byte order mark; what is in no other encoding is Latin-1."""
    try:
        encoding = encoding_of([content], where)
    except TableRefused:
        encoding = "latin-1"
    try:
        text = content if encoding == UTF8 else content.decode(encoding).encode()
    except UnicodeDecodeError:
        raise DataError(f"expected whole text in {encoding} in {where}, got a damaged file") from None
    if b"\0" in text:
        raise DataError(f"expected text in {where}, got bytes of another kind of file")
    return text.removeprefix(codecs.BOM_UTF8)


def _lines(text: bytes) -> bytes:
    """Lines that end in a line feed, none of them blank."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if text[:1] in (b" ", b"\n") or re.search(rb"\n *\n", text):
        text = re.sub(rb"\n *(?=\n)", b"", text.lstrip(b" \n"))
    return text


def _check_widths(where: str, text: bytes, separator: str, width: int) -> int:
    """The number of rows; polars would read a row that breaks off as missing values."""
    # What is quoted holds no separators and no line ends; a doubled quote is two neighbours.
    plain = re.sub(rb'"[^"]*"', b"", text) if b'"' in text else text
    if b'"' in plain:
        line = plain[: plain.index(b'"')].count(b"\n") + 1
        raise DataError(f"expected quotes in pairs in {where}, got one that never ends, from line {line} on")
    mark = separator.encode()
    records = plain.count(b"\n") - plain.endswith(b"\n")
    if plain.count(mark) != (width - 1) * (records + 1):
        for row, content in enumerate(io.BytesIO(plain)):
            if content.count(mark) != width - 1:
                _refuse_row(where, row, records, content.count(mark) + 1, width)
    return records


def _refuse_row(where: str, row: int, records: int, fields: int, width: int) -> None:
    what = f"expected {width} fields in data row {row} of {where}, as in its header, got {fields}"
    if row == records and fields < width:
        raise DataError(f"{what}, in the last row: the file is cut short or damaged, download it again")
    raise DataError(f"{what}: correct the row")
