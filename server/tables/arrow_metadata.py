"""The metadata of Arrow's IPC format: schema, batches and dictionaries as flatbuffers tell them.

https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc,
with the numbers of `Schema.fbs` and `Message.fbs` beside it. Read with `flatbuffers`, which comes with
ONNX Runtime, and not with pyarrow or polars: either is 170 MB, and neither bounds what a compressed
buffer may become.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from flatbuffers import number_types
from flatbuffers.table import Table

from server.errors import MalformedBody, shown

Kind: TypeAlias = Literal["null", "boolean", "number", "decimal", "text", "view", "other"]
SCHEMA, DICTIONARY, BATCH = 1, 2, 3
#: Lists within lists, of a column that is passed over.
_MAX_DEPTH = 8
#: All names together; of a few bytes many fields may have the same.
_MAX_NAME_BYTES = 2**20
#: Buffers of one batch.
_MAX_BUFFERS = 2**16
#: Of `MetadataVersion`, V4 (0.8) and V5 (1.0) have the same buffers in all but unions.
_VERSIONS, _V4 = (3, 4), 3
_CODECS = ("lz4", "zstd")

_I8, _U8, _I16 = number_types.Int8Flags, number_types.Uint8Flags, number_types.Int16Flags
_I32, _I64, _BOOL = number_types.Int32Flags, number_types.Int64Flags, number_types.BoolFlags

# The numbers of `Type`, each with its name and how many buffers it has.
_NULL, _INT, _FLOAT, _UTF8, _BOOLEAN, _DECIMAL, _UNION, _LARGE_UTF8, _UTF8_VIEW = 1, 2, 3, 5, 6, 7, 14, 20, 24
_TYPES = {
    _NULL: ("null", 0), _INT: ("integer", 2), _FLOAT: ("floating point", 2), 4: ("binary", 3),
    _UTF8: ("text", 3), _BOOLEAN: ("boolean", 2), _DECIMAL: ("decimal", 2), 8: ("date", 2), 9: ("time", 2),
    10: ("timestamp", 2), 11: ("interval", 2), 12: ("list", 2), 13: ("struct", 1), _UNION: ("union", 1),
    15: ("binary of fixed size", 2), 16: ("list of fixed size", 1), 17: ("map", 2), 18: ("duration", 2),
    19: ("large binary", 3), _LARGE_UTF8: ("large text", 3), 21: ("large list", 2),
    22: ("run-end encoded", 0), 23: ("binary view", 2), _UTF8_VIEW: ("text view", 2), 25: ("list view", 3),
    26: ("large list view", 3),
}  # fmt: skip
_VIEWS = (23, _UTF8_VIEW)


class Field(NamedTuple):
    """A column: its name, what its values are, and the buffers it has in a batch.

    `dtype` is that of the values, of a text's offsets, or of a decimal's bytes; `values` is
    what a dictionary of the id `dictionary` holds, into which the column's own values point.
    """

    name: str
    type: str
    kind: Kind
    buffers: int
    dtype: np.dtype[Any] = np.dtype(np.float64)
    scale: int = 0
    has_views: bool = False
    children: tuple["Field", ...] = ()
    dictionary: int = 0
    values: "Field | None" = None


class Batch(NamedTuple):
    """Where the columns of some rows lie in a message's body.

    `nodes` are rows and nulls of each field, int64 [n, 2]; `buffers` their places and lengths,
    int64 [m, 2]; `views` how many buffers each column of views has beside its own.
    """

    rows: int
    nodes: npt.NDArray[np.int64]
    buffers: npt.NDArray[np.int64]
    views: npt.NDArray[np.int64]
    codec: str


def damaged(got: str = "one that is damaged") -> MalformedBody:
    """What refuses a stream that breaks off, or says what it does not hold."""
    return MalformedBody(f"expected an Arrow stream or file, whole, got {got}")


@contextmanager
def undamaged() -> Iterator[None]:
    """Turn what flatbuffers and NumPy say of places that are not there into one sentence."""
    try:
        yield
    except (struct.error, ValueError, TypeError, OverflowError, IndexError, KeyError):
        raise damaged() from None


def part_of(data: memoryview, start: int, end: int) -> memoryview:
    """The bytes from `start` to `end`; raises `MalformedBody` if they are not all there."""
    if not 0 <= start <= end <= len(data):
        raise damaged("one that ends before its mark of the end")
    return data[start:end]


class Message:
    """One message: metadata of `size` bytes from `begin` on, and behind them its `body`, up to `end`."""

    def __init__(self, data: memoryview, begin: int, size: int) -> None:
        metadata = part_of(data, begin, begin + size)
        with undamaged():
            root = _FlatTable(metadata, struct.unpack_from("<I", metadata)[0])
            self._version = _version(root)
            self.kind = root.number(1, _U8)
            self.end = begin + size + root.number(3, _I64)
            self._header = root.table(2)
        self.body = part_of(data, begin + size, self.end)

    def fields(self, most: int) -> list[Field]:
        """The columns that a schema names, at most so many, theirs within them included."""
        with undamaged():
            return _fields(self._header, most, self._version)

    def dictionary(self) -> tuple[int, Batch]:
        """The id of a dictionary, and its values as a batch of one column."""
        with undamaged():
            id_, is_delta = self._header.number(0, _I64), self._header.number(2, _BOOL)
            batch = _batch(self._header.table(1))
        if is_delta:
            raise MalformedBody(
                "expected whole dictionaries, got a delta of one: write the stream without deltas"
            )
        return id_, batch

    def batch(self) -> Batch:
        with undamaged():
            return _batch(self._header)


class Footer:
    """What the end of a file says: its columns, and where its dictionaries and batches begin, in order."""

    def __init__(self, metadata: memoryview, most: int) -> None:
        with undamaged():
            root = _FlatTable(metadata, struct.unpack_from("<I", metadata)[0])
            self.fields = _fields(root.table(1), most, _version(root))
            # Blocks of three int64, of which the first is the place.
            blocks = np.concatenate((root.integers(2, 3), root.integers(3, 3)))
        self.places: list[int] = blocks[:, 0].tolist()


def _version(root: "_FlatTable") -> int:
    version = root.number(0, _I16)
    if version not in _VERSIONS:
        raise MalformedBody("expected Arrow of the format version 1.0 (metadata V4 or V5), got another")
    return version


def _fields(schema: "_FlatTable", most: int, version: int) -> list[Field]:
    if schema.number(0, _I16) == 1:
        raise MalformedBody("expected Arrow of little-endian values, got big-endian ones")
    return _Fields(most, is_v4=version == _V4).all(schema, 1, 0)


class _FlatTable:
    """A table of a flatbuffer by the numbers of its fields; raises what `undamaged` words."""

    def __init__(self, metadata: memoryview, position: int) -> None:
        self._table = Table(metadata, position)

    def number(self, field: int, flags: Any, default: int = 0) -> int:
        return int(self._table.GetSlot(4 + 2 * field, default, flags))

    def _place(self, field: int) -> int:
        offset: int = self._table.Offset(4 + 2 * field)
        return offset

    def has(self, field: int) -> bool:
        return bool(self._place(field))

    def table(self, field: int) -> "_FlatTable":
        if not (offset := self._place(field)):
            raise KeyError(field)
        return _FlatTable(self._table.Bytes, self._table.Indirect(self._table.Pos + offset))

    def text(self, field: int) -> str:
        offset = self._place(field)
        return str(self._table.String(self._table.Pos + offset), "utf-8") if offset else ""

    def count(self, field: int) -> int:
        offset = self._place(field)
        return int(self._table.VectorLen(offset)) if offset else 0

    def tables(self, field: int) -> Iterator["_FlatTable"]:
        for i in range(self.count(field)):
            place = self._table.Vector(self._place(field)) + 4 * i
            yield _FlatTable(self._table.Bytes, self._table.Indirect(place))

    def integers(self, field: int, width: int) -> npt.NDArray[np.int64]:
        """A vector of structures of so many int64."""
        count = self.count(field) * width
        if not count:
            return np.zeros((0, width), np.int64)
        place = self._table.Vector(self._place(field))
        return np.frombuffer(self._table.Bytes, "<i8", count, place).reshape(-1, width)


class _Fields:
    """Reads fields, each counted: a few bytes may say that a list is within itself."""

    def __init__(self, most: int, *, is_v4: bool) -> None:
        self._most, self._left, self._is_v4 = most, most, is_v4
        self._name_bytes = _MAX_NAME_BYTES

    def all(self, table: _FlatTable, field: int, depth: int) -> list[Field]:
        if table.count(field) > self._left or depth > _MAX_DEPTH:
            raise MalformedBody(
                f"expected at most {self._most} columns, nested {_MAX_DEPTH} deep at most, got more"
            )
        self._left -= table.count(field)
        return [self._one(child, depth) for child in table.tables(field)]

    def _one(self, table: _FlatTable, depth: int) -> Field:
        number, name = table.number(2, _U8), self._name(table)
        if number not in _TYPES:
            raise MalformedBody(f"expected a column of a known type, got another in column {shown(name)}")
        words, buffers = _TYPES[number]
        field = Field(name, words, "other", buffers, has_views=number in _VIEWS)
        field = field._replace(**_storage(number, table))
        if number == _UNION:
            is_dense = table.table(3).number(0, _I16) == 1
            field = field._replace(buffers=1 + is_dense + self._is_v4)
        children = tuple(self.all(table, 5, depth + 1))
        if not table.has(4):
            return field._replace(children=children)
        encoding = table.table(4)
        indices = _integer(encoding.table(1)) if encoding.has(1) else np.dtype("<i4")
        inner = field._replace(children=children)
        return Field(
            field.name, words, "number", 2, indices, dictionary=encoding.number(0, _I64), values=inner
        )

    def _name(self, table: _FlatTable) -> str:
        self._name_bytes -= table.count(0)  # a text is a vector of bytes
        if self._name_bytes < 0:
            raise MalformedBody(f"expected names of at most {_MAX_NAME_BYTES} bytes in all, got longer ones")
        return table.text(0)


def _storage(number: int, table: _FlatTable) -> dict[str, Any]:
    """What is read from a type whose values can be those of a feature."""
    if number == _INT:
        return {"kind": "number", "dtype": _integer(table.table(3))}
    if number == _FLOAT:
        return {"kind": "number", "dtype": np.dtype(("<f2", "<f4", "<f8")[table.table(3).number(0, _I16)])}
    if number == _DECIMAL:
        width, scale = table.table(3).number(2, _I32, 128), table.table(3).number(1, _I32)
        if width not in (32, 64, 128, 256) or abs(scale) > width:
            raise ValueError(width)
        return {"kind": "decimal", "dtype": np.dtype(f"V{width // 8}"), "scale": scale}
    if number in (_UTF8, _LARGE_UTF8):
        return {"kind": "text", "dtype": np.dtype("<i4" if number == _UTF8 else "<i8")}
    kinds = {_NULL: "null", _BOOLEAN: "boolean", _UTF8_VIEW: "view"}
    return {"kind": kinds[number]} if number in kinds else {}


def _integer(table: _FlatTable) -> np.dtype[Any]:
    width = table.number(0, _I32)
    if width not in (8, 16, 32, 64):
        raise ValueError(width)
    return np.dtype(f"<{'i' if table.number(1, _BOOL) else 'u'}{width // 8}")


def _batch(table: _FlatTable) -> Batch:
    rows, codec = table.number(0, _I64), ""
    nodes, buffers, views = table.integers(1, 2), table.integers(2, 2), table.integers(4, 1)
    if rows < 0 or (len(nodes) and nodes[:, 0].min() < 0) or (len(buffers) and buffers.min() < 0):
        raise ValueError(rows)
    if len(buffers) > _MAX_BUFFERS or (len(views) and views.min() < 0):
        raise ValueError(len(buffers))
    if table.has(3):
        codec = _CODECS[table.table(3).number(0, _I8)]
    return Batch(rows, nodes, buffers, views[:, 0], codec)
