"""Writes Arrow's IPC stream: one batch of columns that have no gaps."""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flatbuffers import Builder

_V5 = 4
_SCHEMA, _BATCH = 1, 3  # of `MessageHeader`
_INT, _FLOAT, _UTF8 = 2, 3, 5  # of `Type`
_DOUBLE = 2  # of `Precision`
_ALIGNMENT = 8
_END = b"\xff\xff\xff\xff\0\0\0\0"


class _Written(NamedTuple):
    """The type of a column, how its table is written, and its buffers behind that of what is there."""

    type: int
    write: Callable[[Builder], int]
    buffers: list[bytes]


def arrow_stream(columns: Mapping[str, Sequence[Any]], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a stream; `metadata` belongs to its schema.

    A column of floats is one of float64, one of integers of int64; others are texts.
    """
    written = [_column(values) for values in columns.values()]
    rows = len(next(iter(columns.values())))
    schema = _message(_SCHEMA, lambda builder: _schema(builder, columns, written, metadata), 0)
    body, places = bytearray(), []
    for column in written:
        places.append((len(body), 0))  # of what is there nothing is written: all is
        for buffer in column.buffers:
            places.append((len(body), len(buffer)))
            body += buffer
            body += bytes(-len(body) % _ALIGNMENT)
    nodes = [(rows, 0)] * len(written)
    batch = _message(_BATCH, lambda builder: _record_batch(builder, rows, nodes, places), len(body))
    return b"".join((schema, batch, body, _END))


def _column(values: Sequence[Any]) -> _Written:
    kinds = set(map(type, values))
    if kinds == {float}:
        return _Written(_FLOAT, _double, [np.array(values, "<f8").tobytes()])
    if kinds == {int} and min(values) >= -(2**63) and max(values) < 2**63:
        return _Written(_INT, _int64, [np.array(values, "<i8").tobytes()])
    texts = [str(value).encode() for value in values]
    offsets = np.zeros(len(texts) + 1, "<i4")
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return _Written(_UTF8, lambda builder: _table(builder, 0), [offsets.tobytes(), b"".join(texts)])


def _double(builder: Builder) -> int:
    return _table(builder, 1, (builder.PrependInt16Slot, 0, _DOUBLE))


def _int64(builder: Builder) -> int:
    return _table(builder, 2, (builder.PrependInt32Slot, 0, 64), (builder.PrependBoolSlot, 1, True))


def _table(builder: Builder, size: int, *slots: tuple[Callable[..., None], int, Any]) -> int:
    """A table of so many fields, of which these are set, none of them to what it is by default."""
    builder.StartObject(size)
    for prepend, slot, value in slots:
        prepend(slot, value, 0)
    return int(builder.EndObject())


def _message(kind: int, header: Callable[[Builder], int], body_bytes: int) -> bytes:
    builder = Builder(1024)
    place = header(builder)
    whole = _table(
        builder,
        5,
        (builder.PrependInt16Slot, 0, _V5),
        (builder.PrependUint8Slot, 1, kind),
        (builder.PrependUOffsetTRelativeSlot, 2, place),
        (builder.PrependInt64Slot, 3, body_bytes),
    )
    builder.Finish(whole)
    metadata = bytes(builder.Output())
    metadata += bytes(-len(metadata) % _ALIGNMENT)
    return struct.pack("<iI", -1, len(metadata)) + metadata


def _schema(
    builder: Builder, names: Mapping[str, Any], columns: Sequence[_Written], metadata: Mapping[str, str]
) -> int:
    fields = _tables(builder, [_field(builder, *pair) for pair in zip(names, columns, strict=True)])
    pairs = _tables(builder, [_key_value(builder, *pair) for pair in metadata.items()])
    offset = builder.PrependUOffsetTRelativeSlot
    return _table(builder, 4, (offset, 1, fields), (offset, 2, pairs))


def _field(builder: Builder, name: str, column: _Written) -> int:
    text, type_, children = builder.CreateString(name), column.write(builder), _tables(builder, [])
    offset, number = builder.PrependUOffsetTRelativeSlot, builder.PrependUint8Slot
    return _table(
        builder, 7, (offset, 0, text), (number, 2, column.type), (offset, 3, type_), (offset, 5, children)
    )


def _key_value(builder: Builder, key: str, value: str) -> int:
    texts = builder.CreateString(key), builder.CreateString(value)
    return _table(
        builder, 2, *((builder.PrependUOffsetTRelativeSlot, i, text) for i, text in enumerate(texts))
    )


def _tables(builder: Builder, places: Sequence[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())


def _record_batch(
    builder: Builder, rows: int, nodes: Sequence[tuple[int, int]], buffers: Sequence[tuple[int, int]]
) -> int:
    offset = builder.PrependUOffsetTRelativeSlot
    of_nodes, of_buffers = _pairs(builder, nodes), _pairs(builder, buffers)
    return _table(
        builder, 5, (builder.PrependInt64Slot, 0, rows), (offset, 1, of_nodes), (offset, 2, of_buffers)
    )


def _pairs(builder: Builder, pairs: Sequence[tuple[int, int]]) -> int:
    """A vector of structures of two int64."""
    builder.StartVector(16, len(pairs), 8)
    for first, second in reversed(pairs):
        builder.PrependInt64(second)
        builder.PrependInt64(first)
    return int(builder.EndVector())
