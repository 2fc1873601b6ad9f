"""The rows in the body of a batch: JSON, NDJSON, CSV or Arrow, each decoded as `/predict` decodes its one."""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, repeat
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import orjson

from server.api.arrow_rows import arrow_rows
from server.api.feature_columns import feature_columns
from server.errors import (
    MAX_LISTED_ERRORS,
    FieldError,
    MalformedBody,
    Problem,
    UnacceptableRow,
    not_acceptable,
)
from server.model.json_text import count_of, has_more
from server.model.schema import Matrix, Row, Schema, parse_object, pointer
from server.scoring.row_context import CONTEXT_SIGN, bare_names, flat_row
from server.scoring.row_id import MEMBER, takes_id
from server.scoring.row_limit import check_rows
from server.tables.arrow_stream import ARROW
from server.tables.cells import cell_reader
from server.tables.columns import FeatureNames
from server.tables.csv_dialect import Dialect, Options
from server.tables.csv_table import BLOCK_BYTES, csv_blocks, csv_text

JSON, CSV = "application/json", "text/csv"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
MEDIA_TYPES = (JSON, CSV, *NDJSON, *ARROW)
#: Rows decoded before the event loop turns (0.1 ms of typed rows): a single row waits no longer.
SLICE_ROWS = 50
#: Cells of CSV read before the event loop turns (2 ms of numbers, 40 ms of the longest ones).
SLICE_CELLS = 2000
#: Bad rows after which no further one is looked at: to word what is wrong with a row
#: takes a hundred times as long as to decode a good one.
MAX_BAD_ROWS = 100

#: JSON values that are kept as texts without another look: 16 MB of memory.
FEW_ELEMENTS = 2**18
#: A larger body that is no batch is not parsed to say why.
MAX_WORDED_BYTES = 2**20

_BLANKS = b" \t\r\n"
#: From the first byte that is not blank to the line's end.
_LINE = re.compile(rb"\S[^\n]*+")

Decode: TypeAlias = Callable[[bytes], Row]


class TextRows(NamedTuple):
    """Rows as they came: each JSON object's text, and where it stood ("" or "line 7: ").

    Two sequences, not one of pairs: many batches wait at once under load, and the
    garbage collector looks at every pair, but not at bytes.
    """

    texts: list[bytes]
    places: Iterable[str]


class _AnyObject(msgspec.Struct, gc=False):
    """Any JSON object: syntax that is passed over."""


class _Objects(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[_AnyObject]


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[msgspec.Raw]


_objects = msgspec.json.Decoder(_Objects)
_batch = msgspec.json.Decoder(_Batch)
#: The rows alone, as `DataFrame.to_json(orient="records")` writes them.
_array_of_objects = msgspec.json.Decoder(list[_AnyObject])
_array = msgspec.json.Decoder(list[msgspec.Raw])


async def text_rows(
    media_type: str, body: bytes, schema: Schema, limit: int, row_bytes: int, most_bytes: int
) -> TextRows:
    """The rows of a body, at least one and at most `limit` of `row_bytes` each, not yet decoded.

    They are counted before they are taken apart; the event loop turns now and then. What is packed
    within a body may hold `most_bytes`. Raises `MalformedBody` or `UnacceptableRow` if the body as
    a whole is no batch.
    """
    if media_type == JSON:
        rows = TextRows(await array_rows(body, limit), repeat(""))
    elif media_type == CSV:
        rows = await _csv_rows(body, schema, limit)
    elif media_type in ARROW:
        rows = TextRows(await arrow_rows(body, schema, limit, row_bytes, most_bytes), repeat(""))
    else:
        rows = line_rows(body, limit)
    check_rows(len(rows.texts), limit)
    if max(map(len, rows.texts)) > row_bytes:
        raise UnacceptableRow(f"expected rows of at most {row_bytes} bytes, got a longer one")
    return rows


def line_rows(body: bytes, limit: int) -> TextRows:
    """The lines that are not blank, up to one more than `limit`."""
    texts: list[bytes] = []
    numbers: list[int] = []
    number, counted = 1, 0
    for found in islice(_LINE.finditer(body), limit + 1):
        number += body.count(b"\n", counted, found.start())
        counted = found.start()
        texts.append(found[0])
        numbers.append(number)
    return TextRows(texts, map("line {}: ".format, numbers))


async def decode_rows(rows: TextRows, schema: Schema, decode: Decode) -> Matrix:
    """The rows as a float64 matrix [n, F]; the event loop turns now and then.

    Raises `UnacceptableRow` that names every bad row by its position from 0, as the
    first member of each pointer, until there are `MAX_BAD_ROWS` of them or as many bad
    fields as an answer lists; `MalformedBody` if one before is not JSON.
    """
    decoded = bytearray()
    errors: list[FieldError] = []
    bad = 0
    for position, (text, place) in enumerate(zip(rows.texts, rows.places, strict=False)):
        if position % SLICE_ROWS == SLICE_ROWS - 1:
            await asyncio.sleep(0)
        try:
            if (flat := flat_row(text, schema)) is not text:
                rows.texts[position] = flat  # as it is logged
            decoded += decode(flat)
        except MalformedBody as problem:
            raise MalformedBody(f"row {position} of the batch: {place}{problem.detail}") from None
        except Problem as problem:
            bad += 1
            errors += _placed(problem, position, place)
            if bad == MAX_BAD_ROWS or len(errors) >= MAX_LISTED_ERRORS:
                raise _bad_rows(bad, len(rows.texts) - position - 1, errors) from None
    if bad:
        raise _bad_rows(bad, 0, errors)
    return np.frombuffer(decoded, dtype=np.float64).reshape(-1, len(schema))


def _bad_rows(bad: int, unread: int, errors: list[FieldError]) -> UnacceptableRow:
    more = f", and {unread} more were not looked at" if unread else ""
    return UnacceptableRow(f"{not_acceptable(bad, 'row')}{more}; no row was scored", errors=errors)


def _placed(problem: Problem, position: int, place: str) -> Iterator[FieldError]:
    for error in problem.errors or [FieldError("", problem.detail)]:
        yield error.at(f"/rows/{position}{error.pointer}", place)


async def array_rows(body: bytes, limit: int) -> list[bytes]:
    """The objects of an array, or of `{"rows": […]}`, each as its text, at most `limit`."""
    is_array = body.lstrip(_BLANKS).startswith(b"[")
    # One object is the batch, the others are its rows, or within them, where nothing takes one.
    with_context = limit if CONTEXT_SIGN in body else 0
    if has_more(body, b"{", limit + 1 + with_context):
        raise UnacceptableRow(f"expected 1 to {limit} rows of plain values, got more")
    await asyncio.sleep(0)
    try:
        if count_of(body, b",") > FEW_ELEMENTS:
            # Ends at the first row that is no object, of which there may be many.
            (_array_of_objects if is_array else _objects).decode(body)
            await asyncio.sleep(0)
        rows = _array.decode(body) if is_array else _batch.decode(body).rows
        await asyncio.sleep(0)
        return list(map(bytes, rows))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _no_batch(body, error) from None


def _no_batch(body: bytes, error: Exception) -> Problem:
    """Why a body is no batch; of a large one, which is not parsed for that, in the decoder's words."""
    expected = 'expected {"rows": [{…}, …]} or [{…}, …]'
    if len(body) > MAX_WORDED_BYTES:
        kind = UnacceptableRow if isinstance(error, msgspec.ValidationError) else MalformedBody
        return kind(f"{expected}, got: {str(error)[:200]}")
    fields = parse_object(body)  # words what is not JSON, or no object
    errors = [
        FieldError(pointer(name), "expected no such member", "unknown") for name in fields if name != "rows"
    ]
    if type(fields.get("rows")) is not list:
        errors.append(FieldError("/rows", "expected an array of rows"))
    is_by_column = bool(fields) and all(type(value) in (list, dict) for value in fields.values())
    got = (
        "a table by column: write an object a row"
        if is_by_column and "rows" not in fields
        else "another object"
    )
    return UnacceptableRow(f"{expected}, got {got}", errors=errors)


async def _csv_rows(body: bytes, schema: Schema, limit: int) -> TextRows:
    """Each record as the JSON object it means: a cell that is empty, or says so, is missing."""
    names = FeatureNames(schema)
    recognise = partial(csv_text, body, names, Options(), "the body")
    # What is in no plain encoding is looked through more than once: up to a second for 16 MiB.
    table = await asyncio.to_thread(recognise) if len(body) > BLOCK_BYTES else recognise()
    header = bare_names(table.head.names, schema)
    readers = _cell_readers(header, names, schema, table.dialect)
    texts: list[bytes] = []
    lines: list[int] = []
    slice_rows = max(1, SLICE_CELLS // len(header))
    for block in csv_blocks(table, limit):
        await asyncio.sleep(0)
        for line, record in block:
            if len(texts) % slice_rows == slice_rows - 1:
                await asyncio.sleep(0)
            if len(record) != len(header):
                raise UnacceptableRow(f"expected {len(header)} cells in line {line}, got {len(record)}")
            values = ((name, read(cell)) for (name, read), cell in zip(readers, record, strict=True))
            fields = orjson.dumps({name: value for name, value in values if value is not None})
            # What orjson gives keeps the 4 KiB it was written to; a copy has its own size.
            texts.append(bytes(memoryview(fields)))
            lines.append(line)
    return TextRows(texts, map("line {}: ".format, lines))


def _cell_readers(
    header: Sequence[str], names: FeatureNames, schema: Schema, dialect: Dialect
) -> list[tuple[str, Callable[[str], Any]]]:
    """The name of each column in a row's object, and how its cells are read; raises `UnacceptableRow`."""
    features = feature_columns(header, names, schema)
    return [
        (features[i].name, cell_reader(features[i], dialect.rules))
        if i in features
        else (name, str if name == MEMBER and takes_id(schema) else _beside)
        for i, name in enumerate(header)
    ]


def _beside(cell: str) -> str | None:
    """A cell beside the features, which nothing is read from: a text, None for an empty one."""
    return cell or None
