"""The rows in the body of a batch: JSON, NDJSON or CSV, each decoded as `/predict` decodes its one."""

import asyncio
import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import orjson

from server.errors import FieldError, MalformedBody, Problem, UnacceptableRow
from server.model.schema import Feature, Matrix, Row, Schema, parse_object, pointer
from server.scoring.json_text import has_more
from server.scoring.row_limit import check_rows

JSON, CSV = "application/json", "text/csv"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
MEDIA_TYPES = (JSON, CSV, *NDJSON)
#: Rows decoded before the event loop turns (0.2 ms of typed rows).
SLICE_ROWS = 200
#: Rows that are named when they are bad; the others are counted.
MAX_BAD_ROWS = 100

#: JSON values that are kept as texts without another look: 16 MB of memory.
FEW_ELEMENTS = 2**18
#: A larger body that is no batch is not parsed to say why.
MAX_WORDED_BYTES = 2**20

#: From the first byte that is not blank to the line's end.
_LINE = re.compile(rb"\S[^\n]*+")
_NUMBER = re.compile(r"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?", re.ASCII)
_FLAGS = {"0": 0, "1": 1, "true": True, "false": False}

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


def text_rows(media_type: str, body: bytes, schema: Schema, limit: int, row_bytes: int) -> TextRows:
    """The rows of a body, at least one and at most `limit` of `row_bytes` each, not yet decoded.

    They are counted before they are taken apart. Raises `MalformedBody` or
    `UnacceptableRow` if the body as a whole is no batch.
    """
    if media_type == JSON:
        rows = TextRows(_json_rows(body, limit), repeat(""))
    elif media_type == CSV:
        rows = _csv_rows(body, schema, limit)
    else:
        rows = _lines(body, limit)
    check_rows(len(rows.texts), limit)
    if max(map(len, rows.texts)) > row_bytes:
        raise UnacceptableRow(f"expected rows of at most {row_bytes} bytes, got a longer one")
    return rows


def _lines(body: bytes, limit: int) -> TextRows:
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

    Raises `UnacceptableRow` that names every bad row (the first `MAX_BAD_ROWS`) by
    its position from 0, as the first member of each pointer; `MalformedBody` if one
    is not JSON.
    """
    decoded = bytearray()
    errors: list[FieldError] = []
    bad = 0
    for position, (text, place) in enumerate(zip(rows.texts, rows.places, strict=False)):
        if position % SLICE_ROWS == SLICE_ROWS - 1:
            await asyncio.sleep(0)
        try:
            decoded += decode(text)
        except MalformedBody as refusal:
            raise MalformedBody(f"row {position} of the batch: {place}{refusal.detail}") from None
        except Problem as refusal:
            bad += 1
            if bad <= MAX_BAD_ROWS:
                errors += _placed(refusal, position, place)
    if bad:
        words = "1 row is" if bad == 1 else f"{bad} rows are"
        raise UnacceptableRow(f"{words} not acceptable; no row was scored", errors=errors)
    return np.frombuffer(decoded, dtype=np.float64).reshape(-1, len(schema))


def _placed(refusal: Problem, position: int, place: str) -> Iterator[FieldError]:
    for error in refusal.errors or [FieldError("", refusal.detail)]:
        yield FieldError(f"/rows/{position}{error.pointer}", place + error.detail)


def _json_rows(body: bytes, limit: int) -> list[bytes]:
    # One object is the batch, the others are its rows, or within them, where nothing takes one.
    if has_more(body, b"{", limit + 1):
        raise UnacceptableRow(f"expected 1 to {limit} rows of plain values, got more")
    try:
        if body.count(b",") > FEW_ELEMENTS:
            _objects.decode(body)  # ends at the first row that is no object, of which there may be many
        return list(map(bytes, _batch.decode(body).rows))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _no_batch(body, error) from None


def _no_batch(body: bytes, error: Exception) -> Problem:
    """Why a body is no batch; of a large one, which is not parsed for that, in the decoder's words."""
    expected = 'expected {"rows": [{…}, …]}'
    if len(body) > MAX_WORDED_BYTES:
        kind = UnacceptableRow if isinstance(error, msgspec.ValidationError) else MalformedBody
        return kind(f"{expected}, got: {str(error)[:200]}")
    fields = parse_object(body)  # words what is not JSON, or no object
    errors = [FieldError(pointer(name), "expected no such member") for name in fields if name != "rows"]
    if type(fields.get("rows")) is not list:
        errors.append(FieldError("/rows", "expected an array of rows"))
    return UnacceptableRow(f"{expected}, got another object", errors=errors)


def _csv_rows(body: bytes, schema: Schema, limit: int) -> TextRows:
    """Each record as the JSON object it means, up to one more than `limit`: an empty cell is missing."""
    try:
        lines = body.decode("utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError:
        raise MalformedBody("expected CSV in UTF-8, got other bytes") from None
    reader = csv.reader(lines, strict=True)
    texts: list[bytes] = []
    places: list[str] = []
    try:
        header = next(reader, [])
        readers = _cell_readers(header, schema)
        for record in reader:
            if not record:
                continue
            if len(record) != len(header):
                raise UnacceptableRow(
                    f"expected {len(header)} cells in line {reader.line_num}, got {len(record)}"
                )
            cells = zip(header, readers, record, strict=True)
            fields = {name: read(cell) for name, read, cell in cells if cell != ""}
            # Copied: what orjson gives keeps the kilobyte it was written into.
            texts.append(bytes(memoryview(orjson.dumps(fields))))
            places.append(f"line {reader.line_num}: ")
            if len(texts) > limit:
                break
    except csv.Error as error:
        raise MalformedBody(f"expected CSV, got something else in line {reader.line_num}: {error}") from None
    return TextRows(texts, places)


def _cell_readers(header: list[str], schema: Schema) -> list[Callable[[str], Any]]:
    known = {feature.name: feature for feature in schema.features}
    errors = [FieldError(pointer(name), "expected no such column") for name in header if name not in known]
    if len(set(header)) != len(header):
        errors.append(FieldError("", "expected each column once"))
    if not header or errors:
        raise UnacceptableRow("expected a header line of the model's features, got another", errors=errors)
    return [cell_reader(known[name]) for name in header]


def cell_reader(feature: Feature) -> Callable[[str], Any]:
    """A function from a CSV cell that is not empty to the JSON value it means."""
    if feature.kind == "category":
        return str
    if feature.form_kind == "flag":
        return lambda cell: _FLAGS[word] if (word := cell.strip().lower()) in _FLAGS else number(cell)
    return lambda cell: number(cell, whole=feature.kind == "integer")


def number(cell: str, *, whole: bool = False) -> float | int | str:
    """The number a cell holds, or the text itself, which no number feature accepts."""
    text = cell.strip()
    if not _NUMBER.fullmatch(text):
        return cell
    if whole and text.lstrip("+-").isdigit() and len(text) < 20:
        return int(text)
    value = float(text)
    return value if math.isfinite(value) else cell
