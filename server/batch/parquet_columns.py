"""Columns added to a Parquet file: the file's own are copied as they are packed, and never unpacked for it.

The names and numbers are those of Parquet's definition, parquet.thrift in apache/parquet-format.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import polars as pl

from server.batch.formats import PARQUET_LEVEL
from server.batch.source_state import changed
from server.batch.thrift_compact import I64, LIST, STRUCT, Struct, Value, read_struct, written

_MAGIC = b"PAR1"
#: A longer footer, of many thousand columns and groups, takes longer than what it saves.
_MAX_FOOTER_BYTES = 4 * 2**20
_COPIED_BYTES = 2**20
# FileMetaData
_SCHEMA, _ALL_ROWS, _ROW_GROUPS, _KEY_VALUES, _COLUMN_ORDERS, _ENCRYPTION = 2, 3, 4, 5, 7, 8
# SchemaElement
_NUM_CHILDREN = 5
# RowGroup
_COLUMNS, _TOTAL_BYTES, _NUM_ROWS, _GROUP_OFFSET, _TOTAL_COMPRESSED = 1, 2, 3, 5, 6
# ColumnChunk: where it is, and the indexes and keys apart from it
_FILE_PATH, _CHUNK_OFFSET, _METADATA, _APART = 1, 2, 3, (4, 5, 6, 7, 8, 9)
# ColumnMetaData
_UNCOMPRESSED, _COMPRESSED, _DATA_PAGE, _DICTIONARY_PAGE, _BLOOM_FILTER = 6, 7, 9, 11, (14, 15)
_PAGE_OFFSETS = (_DATA_PAGE, 10, _DICTIONARY_PAGE)
#: `TypeDefinedOrder`, the one there is.
_COLUMN_ORDER = Value(STRUCT, {1: Value(STRUCT, {})})
#: What every reader knows from Parquet's own schema. Others are known by what the writer says beside it,
#: which speaks of its own columns.
_PLAIN = (
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64),
    *(pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Date),
)


class _Group(NamedTuple):
    """A row group: its metadata, and where it begins and ends in the file."""

    metadata: Struct
    begin: int
    end: int


class _Unsuitable(Exception):
    """A file that columns cannot be added to in this way."""


_UNREADABLE = (_Unsuitable, LookupError, ValueError, TypeError, AttributeError, RecursionError)


def can_be_added_to(path: Path, schema: dict[str, pl.DataType]) -> bool:
    """Whether columns can be added to a file of this schema without reading it: else it is written anew."""
    if not all(dtype in _PLAIN for dtype in schema.values()):
        return False
    try:
        with open(path, "rb") as file:
            _groups(*_read_footer(file))
    except _UNREADABLE:
        return False
    return True


def add_columns(source: Path, added: Iterator[pl.DataFrame], whole: Path) -> None:
    """Write `source` with more columns to `whole`; `added` has them for each row, some rows at a time.

    Raises `BatchRefused` if these are not the rows of `source`.
    """
    with open(source, "rb") as file, open(whole, "wb") as out:
        try:
            footer, end = _read_footer(file)
            groups = _groups(footer, end)
        except _UNREADABLE:
            raise changed(source) from None
        heights = [group.metadata[_NUM_ROWS].content for group in groups]
        packed: Struct = {}
        out.write(_MAGIC)
        for group, rows in zip(groups, _cut(added, heights, source), strict=True):
            _copied(file, out, group)
            packed = _append(out, group.metadata, rows)
        content = written(_joined(footer, packed))
        out.write(content + len(content).to_bytes(4, "little") + _MAGIC)


def _read_footer(file: BinaryIO) -> tuple[Struct, int]:
    """The file's metadata, and where it begins."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or not 0 < length <= min(_MAX_FOOTER_BYTES, size - 12):
        raise _Unsuitable
    file.seek(size - 8 - length)
    return read_struct(file.read(length)), size - 8 - length


def _groups(footer: Struct, end: int) -> list[_Group]:
    """The row groups in their order, each up to where the next begins; raises `_Unsuitable`."""
    found = [group.content for group in footer[_ROW_GROUPS].content]
    begins = [min(_begin(chunk.content) for chunk in group[_COLUMNS].content) for group in found]
    groups = [_Group(*one) for one in zip(found, begins, [*begins[1:], end], strict=True)]
    rows = sum(group.metadata[_NUM_ROWS].content for group in groups)
    if not groups or _ENCRYPTION in footer or rows != footer[_ALL_ROWS].content:
        raise _Unsuitable
    if not all(map(_is_suitable, groups)):
        raise _Unsuitable
    return groups


def _is_suitable(group: _Group) -> bool:
    """Whether a group has rows, and all its pages in its place."""
    chunks = [chunk.content for chunk in group.metadata[_COLUMNS].content]
    ends = [_begin(chunk) + chunk[_METADATA].content[_COMPRESSED].content for chunk in chunks]
    return (
        group.metadata[_NUM_ROWS].content > 0
        and not any(_FILE_PATH in chunk for chunk in chunks)
        and len(_MAGIC) <= group.begin < max(ends) <= group.end
    )


def _begin(chunk: Struct) -> int:
    """Where the pages of a column begin; a dictionary's offset of 0 is none."""
    offsets = [chunk[_METADATA].content.get(page, Value(I64, 0)).content for page in _PAGE_OFFSETS]
    return int(min(offset for offset in offsets if offset > 0))


def _copied(file: BinaryIO, out: BinaryIO, group: _Group) -> None:
    """Copy the pages of a group, and say in its metadata where they are."""
    _move(group.metadata, out.tell() - group.begin)
    file.seek(group.begin)
    left = group.end - group.begin
    while left and (piece := file.read(min(left, _COPIED_BYTES))):
        out.write(piece)
        left -= len(piece)


def _move(group: Struct, shift: int) -> None:
    """Say that the pages of a group are elsewhere; indexes and filters apart from them are left out."""
    _add(group, _GROUP_OFFSET, shift)
    for chunk in (column.content for column in group[_COLUMNS].content):
        _add(chunk, _CHUNK_OFFSET, shift)
        metadata = chunk[_METADATA].content
        for page in _PAGE_OFFSETS:
            _add(metadata, page, shift)
        for number in _APART:
            chunk.pop(number, None)
        for number in _BLOOM_FILTER:
            metadata.pop(number, None)


def _add(struct: Struct, number: int, amount: int) -> None:
    """To a number that is there and is not 0, which stands for none."""
    if number in struct and struct[number].content:
        struct[number] = struct[number]._replace(content=struct[number].content + amount)


def _append(out: BinaryIO, group: Struct, table: pl.DataFrame) -> Struct:
    """Pack the rows of a group, write them behind it and say so; the metadata of a file of them alone."""
    file = io.BytesIO()
    table.write_parquet(
        file, compression="zstd", compression_level=PARQUET_LEVEL, row_group_size=table.height
    )
    footer, end = _read_footer(file)
    (packed,) = _groups(footer, end)
    _copied(file, out, packed)
    group[_COLUMNS].content.extend(packed.metadata[_COLUMNS].content)
    chunks = [chunk.content[_METADATA].content for chunk in packed.metadata[_COLUMNS].content]
    _add(group, _TOTAL_BYTES, sum(chunk[_UNCOMPRESSED].content for chunk in chunks))
    _add(group, _TOTAL_COMPRESSED, sum(chunk[_COMPRESSED].content for chunk in chunks))
    return footer


def _joined(footer: Struct, packed: Struct) -> Struct:
    """The metadata of a file with the columns of both."""
    root, *columns = packed[_SCHEMA].content
    _add(footer[_SCHEMA].content[0].content, _NUM_CHILDREN, root.content[_NUM_CHILDREN].content)
    footer[_SCHEMA].content.extend(columns)
    if _COLUMN_ORDERS in footer:
        footer[_COLUMN_ORDERS] = Value(LIST, footer[_COLUMN_ORDERS].content + [_COLUMN_ORDER] * len(columns))
    # Writers describe their own columns there, and nothing that a plain type needs.
    footer.pop(_KEY_VALUES, None)
    return footer


def _cut(tables: Iterator[pl.DataFrame], heights: Sequence[int], source: Path) -> Iterator[pl.DataFrame]:
    """The rows of the tables, so many at a time; raises `BatchRefused` where there are more or fewer."""
    waiting: list[pl.DataFrame] = []
    rows = 0
    for height in heights:
        while rows < height:
            if (more := next(tables, None)) is None:
                raise changed(source)
            waiting.append(more)
            rows += more.height
        table = pl.concat(waiting)
        yield table[:height]
        waiting, rows = [table[height:]], rows - height
    if rows or next(tables, None) is not None:
        raise changed(source)
