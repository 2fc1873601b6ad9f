"""A CSV text in memory, record by record: a request's body, or a piece of a file from the page."""

import csv
import io
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import NamedTuple

from server.errors import MalformedBody, TableRefused, UnacceptableRow
from server.tables.columns import FeatureNames
from server.tables.csv_dialect import Dialect, Head, Options, cells_of, read_head
from server.tables.csv_records import MalformedCsv, Records, find_records
from server.tables.encodings import UTF8, encoding_of
from server.tables.text_blocks import end_outside_quotes, text_blocks

#: Records are found in so much text at a time: what is known of their places takes some 20 times as much.
BLOCK_BYTES = 2**18
MAX_RECORD_BYTES = 2**20


class CsvText(NamedTuple):
    """A text in UTF-8 and its header."""

    text: bytes
    head: Head

    @property
    def dialect(self) -> Dialect:
        return self.head.dialect


def csv_text(body: bytes, names: FeatureNames, options: Options, where: str) -> CsvText:
    """A text whose encoding, separator and header are recognised.

    Raises `MalformedBody` for what is no text, `UnacceptableRow` without a header.
    """
    try:
        encoding = encoding_of(_pieces(body), where)
    except TableRefused as error:
        raise MalformedBody(str(error)) from None
    try:
        text = body if encoding == UTF8 else _in_utf8(body, encoding)
    except UnicodeError:
        raise MalformedBody(f"expected {where} in {encoding}, as it begins, got other bytes") from None
    try:
        head = read_head(_beginning(text), lambda name: names(name) is not None, options, where, names.most)
        return CsvText(text, head)
    except TableRefused as error:
        raise UnacceptableRow(str(error)) from None


def _in_utf8(body: bytes, encoding: str) -> bytes:
    """The text in another encoding, some at a time: as a whole it would take three bodies' memory."""
    decoder, text = getincrementaldecoder(encoding)(), io.BytesIO()
    for piece in _pieces(body):
        text.write(decoder.decode(piece).encode())
    text.write(decoder.decode(b"", final=True).encode())
    return text.getvalue()


def _pieces(body: bytes) -> Iterator[bytes]:
    return (body[start : start + BLOCK_BYTES] for start in range(0, len(body), BLOCK_BYTES))


def _beginning(text: bytes) -> bytes:
    """As many whole records as tell how all are written; raises `TableRefused` for an endless first one."""
    if len(text) <= MAX_RECORD_BYTES:
        return text
    end = end_outside_quotes(text[:MAX_RECORD_BYTES])
    if not end:
        raise TableRefused(f"expected a header of at most {MAX_RECORD_BYTES} bytes, got a longer one")
    return text[:end]


def csv_records(table: CsvText, limit: int, line_shift: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Each record of `csv_blocks`."""
    for block in csv_blocks(table, limit, line_shift):
        yield from block


def csv_blocks(table: CsvText, limit: int, line_shift: int = 0) -> Iterator[list[tuple[int, list[str]]]]:
    """Each record with its line in the text (and `line_shift`), some at a time; blank lines are none.

    A block may be without records: of blank lines alone there are many, each as long to read.

    Raises `UnacceptableRow` where there are more than `limit`, before these are built, and
    `MalformedBody` by line where a quote is misplaced.
    """
    file = io.BytesIO(table.text)
    file.seek(table.head.begin)
    first_line = table.head.first_line + line_shift
    blocks = text_blocks(
        file, first_line, end_outside_quotes, block_bytes=BLOCK_BYTES, max_record_bytes=MAX_RECORD_BYTES
    )
    count = 0
    try:
        for first, content in blocks:
            places = _found(content, first, table.dialect)
            count += len(places.starts)
            if count > limit:
                raise UnacceptableRow(f"expected at most {limit} rows, got more")
            cells = cells_of(_joined(content, places), table.dialect)
            yield list(zip((places.lines + first).tolist(), cells, strict=True))
    except TableRefused as error:
        raise MalformedBody(str(error)) from None
    except csv.Error as error:
        raise MalformedBody(f"expected CSV, got from line {first} on: {error}") from None


def _joined(content: bytes, places: Records) -> bytes:
    """The records alone: a reader takes as long for a blank line as for a record."""
    if places.plain:
        return content
    pairs = zip(places.starts.tolist(), places.ends.tolist(), strict=True)
    return b"\n".join(content[start:end] for start, end in pairs)


def _found(content: bytes, first: int, dialect: Dialect) -> Records:
    try:
        return find_records(content, dialect.separator.encode(), quotes=dialect.quotes)
    except MalformedCsv as error:
        raise MalformedBody(f"expected CSV, got in line {first + error.line} {error}") from None
