"""The columns of Arrow batches as Python's values, each buffer looked at before it is believed."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from server.errors import BodyTooLarge, MalformedBody, UnsupportedMedia, shown
from server.tables.arrow_metadata import Batch, Field, damaged, undamaged
from server.zstandard import zstd

#: Entries of one dictionary: those of 1,000,000 take 20 MB.
MAX_DICTIONARY = 2**20
#: A buffer is one frame, whose window is no larger than what it holds.
_ZSTD_OPTIONS: Mapping[int, int] = {zstd.DecompressionParameter.window_log_max: 25}
_VIEW = np.dtype([("size", "<i4"), ("inline", "<i4"), ("buffer", "<i4"), ("start", "<i4")])
_INLINE_BYTES = 12

_Mask: TypeAlias = npt.NDArray[np.bool_]
_Index: TypeAlias = slice | npt.NDArray[Any]
_Integers: TypeAlias = npt.NDArray[np.int64]


class _Numbers(NamedTuple):
    """Integers, floating-point numbers or truths; float16 and float32 are exact as float64.

    With a `scale` integers of 4 to 32 bytes, of which so many digits are behind the point.
    """

    array: npt.NDArray[Any]
    scale: int | None = None

    def __len__(self) -> int:
        return len(self.array)

    def take(self, index: _Index) -> "_Numbers":
        return _Numbers(self.array[index], self.scale)

    def sizes(self) -> _Integers:
        return np.zeros(len(self.array), np.int64)

    def listed(self) -> list[Any]:
        values: list[Any] = self.array.tolist()
        if self.scale is None:
            return values
        whole = (int.from_bytes(value, "little", signed=True) for value in values)
        return [orjson.Fragment(str(Decimal(f"{value}E{-self.scale}"))) for value in whole]


class _Texts(NamedTuple):
    """Texts as the places of their bytes: the buffer of each, where it starts there and how long it is."""

    buffers: list[memoryview]
    which: npt.NDArray[np.int32]
    starts: _Integers
    lengths: _Integers

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, index: _Index) -> "_Texts":
        return _Texts(self.buffers, self.which[index], self.starts[index], self.lengths[index])

    def sizes(self) -> _Integers:
        return self.lengths

    def listed(self) -> list[Any]:
        places = zip(self.which.tolist(), self.starts.tolist(), self.lengths.tolist(), strict=True)
        return [str(self.buffers[which][start : start + size], "utf-8") for which, start, size in places]


_Values: TypeAlias = _Numbers | _Texts


class ArrowColumn(NamedTuple):
    """The values of a column and which of them are there, all if `valid` is None.

    With a dictionary the values are places in it.
    """

    name: str
    values: _Values
    valid: _Mask | None
    dictionary: "ArrowColumn | None" = None

    def part(self, rows: slice) -> "ArrowColumn":
        """Some rows, of a dictionary the values themselves; raises `MalformedBody` for a place it has not."""
        values, valid = self.values.take(rows), None if self.valid is None else self.valid[rows]
        if self.dictionary is None:
            return ArrowColumn(self.name, values, valid)
        assert isinstance(values, _Numbers)
        places = values.array.astype(np.int64)
        there = places if valid is None else places[valid]
        if len(there) and not (there.min() >= 0 and there.max() < len(self.dictionary.values)):
            raise damaged("one whose dictionary lacks an entry")
        if not len(self.dictionary.values):
            return ArrowColumn(self.name, _Numbers(places), np.zeros(len(places), np.bool_))
        if valid is not None:
            places = np.where(valid, places, 0)
        if self.dictionary.valid is not None:
            among = self.dictionary.valid[places]
            valid = among if valid is None else valid & among
        return ArrowColumn(self.name, self.dictionary.values.take(places), valid)

    def sizes(self) -> _Integers:
        """The bytes of each text; others have few."""
        sizes = self.values.sizes()
        return sizes if self.valid is None else np.where(self.valid, sizes, 0)

    def first_infinite(self) -> int | None:
        """The place of the first infinite number, which JSON has no way to write."""
        if not (isinstance(self.values, _Numbers) and self.values.array.dtype.kind == "f"):
            return None
        infinite = np.isinf(self.values.array)
        places = np.flatnonzero(infinite if self.valid is None else infinite & self.valid)
        return int(places[0]) if len(places) else None

    def cells(self) -> list[Any]:
        """What `orjson.dumps` writes as the JSON value that each cell means, None for a missing one."""
        try:
            if self.valid is None:
                return self.values.listed()
            cells: list[Any] = [None] * len(self.valid)
            there = np.flatnonzero(self.valid)
            for place, value in zip(there.tolist(), self.values.take(there).listed(), strict=True):
                cells[place] = value
        except UnicodeDecodeError:
            raise MalformedBody(f"expected texts in UTF-8 in column {shown(self.name)}, got others") from None
        return cells


class Buffers:
    """The buffers of a message's body; all that are compressed may hold `most` bytes, of all messages."""

    def __init__(self, most: int) -> None:
        self._most, self._left = most, most

    def read(self, body: memoryview, place: int, length: int, codec: str) -> memoryview:
        """One buffer; raises `MalformedBody` if it is not there whole, `BodyTooLarge` beyond the limit."""
        if place + length > len(body):
            raise damaged("a buffer beyond the end of its message")
        buffer = body[place : place + length]
        if not codec or not length:
            return buffer
        size = int.from_bytes(buffer[:8], "little", signed=True)
        if size == -1:  # as it is: packing did not make it smaller
            return buffer[8:]
        if length < 8 or size < 0:
            raise damaged()
        if size > self._left:
            raise BodyTooLarge(f"expected buffers of at most {self._most} bytes, unpacked, got more")
        self._left -= size
        unpacked = _UNPACK[codec](buffer[8:], size) if size else b""
        if len(unpacked) != size:
            raise damaged(f"a buffer of {codec} that is not as long as it says")
        return memoryview(unpacked)


def _zstd(packed: memoryview, size: int) -> bytes:
    frame = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
    try:
        return frame.decompress(packed, size + 1)
    except zstd.ZstdError:
        raise damaged("a buffer that is not of zstd") from None


def _lz4(packed: memoryview, size: int) -> bytes:
    try:
        from lz4.frame import LZ4FrameDecompressor
    except ImportError:
        raise UnsupportedMedia(
            "expected Arrow buffers that are not compressed, or of zstd, got some of lz4, for which this "
            "server lacks the library lz4: write them with compression='zstd' or 'uncompressed' "
            "(or pip install 'hotrow[arrow]' where the server is)"
        ) from None
    try:
        unpacked: bytes = LZ4FrameDecompressor().decompress(packed, max_length=size + 1)
    except (RuntimeError, ValueError):
        raise damaged("a buffer that is not of lz4") from None
    return unpacked


_UNPACK: dict[str, Callable[[memoryview, int], bytes]] = {"zstd": _zstd, "lz4": _lz4}


class Cursor:
    """Reads the columns of a batch one behind the other, or passes over them."""

    def __init__(self, batch: Batch, body: memoryview, buffers: Buffers) -> None:
        self._batch, self._body, self._unpacked = batch, body, buffers
        self._node = self._buffer = self._view = 0

    def pass_over(self, field: Field) -> None:
        """Go on behind a column and all that it is made of."""
        self._node += 1
        self._buffer += field.buffers
        if field.has_views:
            self._buffer += self._views()
        for child in field.children:
            self.pass_over(child)

    def column(self, field: Field, rows: int, dictionaries: Mapping[int, ArrowColumn]) -> ArrowColumn:
        """A column of so many rows; raises `MalformedBody` if its buffers do not hold them."""
        with undamaged():
            length, nulls = self._batch.nodes[self._node].tolist()
            self._node += 1
            if length != rows:
                raise damaged("columns of different lengths")
            if field.kind == "null":
                return ArrowColumn(field.name, _Numbers(np.zeros(rows)), np.zeros(rows, np.bool_))
            valid = self._valid(rows, nulls)
            values = self._values(field, rows, valid)
        if field.values is None:
            return ArrowColumn(field.name, values, valid)
        if field.dictionary not in dictionaries:
            raise damaged("a column before its dictionary")
        return ArrowColumn(field.name, values, valid, dictionaries[field.dictionary])

    def end(self) -> None:
        """Raise `MalformedBody` if the batch has other columns than its schema."""
        batch = self._batch
        read = (self._node, self._buffer, self._view)
        if read != (len(batch.nodes), len(batch.buffers), len(batch.views)):
            raise damaged("a batch of other columns than its schema's")

    def _next(self) -> memoryview:
        place, length = self._batch.buffers[self._buffer].tolist()
        self._buffer += 1
        return self._unpacked.read(self._body, place, length, self._batch.codec)

    def _views(self) -> int:
        with undamaged():
            self._view += 1
            return int(self._batch.views[self._view - 1])

    def _valid(self, rows: int, nulls: int) -> _Mask | None:
        buffer = self._next()
        if not nulls or not rows:
            return None
        valid = _bits(buffer, rows)
        if nulls != rows - np.count_nonzero(valid):
            raise damaged("a column of other gaps than it says")
        return valid

    def _values(self, field: Field, rows: int, valid: _Mask | None) -> _Values:
        if field.kind == "boolean":
            return _Numbers(_bits(self._next(), rows))
        if field.kind == "text":
            return self._texts(field, rows)
        if field.kind == "view":
            return self._text_views(rows, valid)
        array = np.frombuffer(self._next(), field.dtype, rows)
        return _Numbers(array, field.scale if field.kind == "decimal" else None)

    def _texts(self, field: Field, rows: int) -> _Texts:
        offsets, data = self._next(), self._next()
        if not rows:  # nor an offset, as some write it
            offsets = memoryview(bytes(field.dtype.itemsize))
        ends = np.frombuffer(offsets, field.dtype, rows + 1).astype(np.int64)
        lengths = np.diff(ends)
        if ends[0] < 0 or ends[-1] > len(data) or (rows and lengths.min() < 0):
            raise damaged("texts beyond the end of their buffer")
        return _Texts([data], np.broadcast_to(np.int32(0), rows), ends[:-1], lengths)

    def _text_views(self, rows: int, valid: _Mask | None) -> _Texts:
        own = self._next()
        buffers = [own, *(self._next() for _ in range(self._views()))]
        views = np.frombuffer(own, _VIEW, rows)
        lengths = views["size"].astype(np.int64)
        if valid is not None:
            lengths = np.where(valid, lengths, 0)  # whatever is written where nothing is
        is_inline = (lengths >= 0) & (lengths <= _INLINE_BYTES)
        which = np.where(is_inline, 0, views["buffer"].astype(np.int64) + 1)
        if rows and (which.min() < 0 or which.max() >= len(buffers)):
            raise damaged("texts in a buffer that is not there")
        starts = np.where(is_inline, np.arange(rows) * _VIEW.itemsize + 4, views["start"])
        ends = np.array([len(buffer) for buffer in buffers])[which]
        if rows and (lengths.min() < 0 or starts.min() < 0 or (starts + lengths > ends).any()):
            raise damaged("texts beyond the end of their buffer")
        return _Texts(buffers, which.astype(np.int32), starts.astype(np.int64), lengths)


def _bits(buffer: memoryview, count: int) -> _Mask:
    """The first bits of a buffer, the lowest of a byte first; raises ValueError if there are fewer."""
    octets = np.frombuffer(buffer, np.uint8, -(-count // 8))
    return np.unpackbits(octets, count=count, bitorder="little").astype(np.bool_)
