"""Training data as people have it: any of the usual files to a table of columns, over the whole file."""

import gzip
import io
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import polars
import zstandard

from export.errors import ExportRefused
from server.errors import first_line
from server.model.dialect import HEAD_BYTES, Dialect, recognise

_SUFFIXES = {
    ".csv": "text",
    ".tsv": "text",
    ".tab": "text",
    ".txt": "text",
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
}
_PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".zst": lambda content: (
        zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True).read()
    ),
}


@dataclass(frozen=True)
class Table:
    """The columns of a file; those of a text file are texts, with `dialect.decimal` in their numbers."""

    path: Path
    columns: polars.DataFrame
    dialect: Dialect | None = None

    @property
    def first_row(self) -> int:
        """What the first record is called: line 2 of a text, else row 1."""
        return 1 if self.dialect is None else 2 + self.dialect.skip


def read_table(path: Path, names: Collection[str] = ()) -> Table:
    """The rows of a CSV, TSV, JSON Lines, Parquet or Arrow file, packed by gzip or zstd or not.

    `names` are columns that it should have; they help to tell how a text is
    separated. Raises `ExportRefused`.
    """
    try:
        return _read(path, names)
    except OSError as error:
        raise ExportRefused(f"expected readable data at {path}, got: {error.strerror or error}") from None
    except (zlib.error, EOFError, zstandard.ZstdError, polars.exceptions.PolarsError, UnicodeError) as error:
        line = first_line(error)
        raise ExportRefused(f"expected a whole table in {path}, got: {line}") from None


def _read(path: Path, names: Collection[str]) -> Table:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    unpack = _PACKED.get(suffixes[-1]) if suffixes else None
    form = (
        _SUFFIXES.get((suffixes[:-1] if unpack else suffixes)[-1]) if suffixes[unpack is not None :] else None
    )
    if form is None:
        raise ExportRefused(
            f"expected data in a file that ends in {', '.join(_SUFFIXES)}, also with .gz or .zst, "
            f"got {path.name}"
        )
    content = path.read_bytes()
    if unpack is not None:
        content = unpack(content)
    if form == "text":
        return _text(path, content, names)
    stream = io.BytesIO(content)
    if form == "lines":
        return Table(path, polars.read_ndjson(stream, infer_schema_length=None))
    return Table(path, polars.read_parquet(stream) if form == "parquet" else polars.read_ipc(stream))


def _text(path: Path, content: bytes, names: Collection[str]) -> Table:
    dialect = recognise(content[:HEAD_BYTES], names)
    if dialect.encoding != "utf-8":
        content = content.decode(dialect.encoding).encode()
    if not content.strip():
        raise ExportRefused(f"expected a header and rows in {path}, got an empty file")
    frame = polars.read_csv(
        io.BytesIO(content),
        separator=dialect.separator,
        skip_lines=dialect.skip,
        infer_schema=False,
    )
    return Table(path, frame, dialect)
