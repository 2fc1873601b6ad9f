"""The kinds of files that are read and written, told by their endings and first bytes; compressed or not."""

import codecs
import contextlib
import gzip
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import zstandard

from server.errors import BatchRefused
from server.tables.csv_records import UTF8

CSV, LINES, PARQUET, ARROW, EXCEL = ".csv", ".jsonl", ".parquet", ".arrow", ".xlsx"
ENDINGS = {
    ".csv": CSV,
    ".tsv": CSV,
    ".txt": CSV,
    ".jsonl": LINES,
    ".ndjson": LINES,
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".arrow": ARROW,
    ".feather": ARROW,
    ".ipc": ARROW,
    ".xlsx": EXCEL,
}
GZIP, ZSTANDARD = ".gz", ".zst"
TEXTS = (CSV, LINES)
#: What a file begins with, whatever it is called.
_MAGIC = {
    b"\x1f\x8b": GZIP,
    b"\x28\xb5\x2f\xfd": ZSTANDARD,
    b"PAR1": PARQUET,
    b"ARROW1": ARROW,
    b"\xff\xff\xff\xff": ARROW,
    b"PK\x03\x04": EXCEL,
}
STANDARD = Path("-")
_PIECE_BYTES = 2**20


class Format(NamedTuple):
    """A kind of file, the separator its ending asks for, and how it is compressed ("" if it is not)."""

    kind: str
    separator: str = ""
    compression: str = ""


def format_named(path: Path) -> Format:
    """The format a file's ending names; raises `BatchRefused`."""
    compression = path.suffix.lower() if path.suffix.lower() in (GZIP, ZSTANDARD) else ""
    ending = (path.with_suffix("") if compression else path).suffix.lower()
    if ending not in ENDINGS:
        raise BatchRefused(
            f"expected a file that ends in {', '.join(ENDINGS)}, each with {GZIP} or {ZSTANDARD} behind it "
            f"or not, got {path.name}: rename it"
        )
    return Format(ENDINGS[ending], "\t" if ending == ".tsv" else "", compression)


def format_found(path: Path) -> Format:
    """The format of a file by its first bytes, or by its ending where these do not tell.

    Raises `BatchRefused`.
    """
    compression = _magic(_beginning(path, "")) or ""
    compression = compression if compression in (GZIP, ZSTANDARD) else ""
    beginning = _beginning(path, compression)
    kind = _magic(beginning)
    try:
        named = format_named(path)
    except BatchRefused:
        if path.suffix and path != STANDARD and kind is None:
            raise
        named = Format(LINES if beginning.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else CSV)
    if kind is not None and kind not in (GZIP, ZSTANDARD):
        named = Format(kind)
    elif named.kind not in TEXTS:
        raise BatchRefused(f"expected {path} to be a {named.kind[1:]} file, got another kind of file")
    return named._replace(compression=compression)


def _magic(beginning: bytes) -> str | None:
    return next((kind for magic, kind in _MAGIC.items() if beginning.startswith(magic)), None)


def _beginning(path: Path, compression: str) -> bytes:
    with opened(path, compression) as file:
        try:
            return file.read(512)
        except (OSError, EOFError, zstandard.ZstdError) as error:
            raise BatchRefused(f"expected {path} to be whole, got: {error}") from None


def opened(path: Path, compression: str) -> BinaryIO:
    """A file, decompressed while it is read."""
    if compression == GZIP:
        return cast(BinaryIO, gzip.open(path, "rb"))
    if compression == ZSTANDARD:
        file = open(path, "rb")  # noqa: SIM115  # the reader closes it
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=True)
        return cast(BinaryIO, reader)
    return open(path, "rb")


def readable(source: Path, folder: Path) -> tuple[Path, Format]:
    """A file that can be read twice and, of tables, anywhere: the source, or a copy of it in `folder`.

    `-` is standard input.
    """
    if source == STANDARD or not source.is_file():
        copy = folder / (source.name if source != STANDARD else "input")
        with open(copy, "wb") as out, contextlib.ExitStack() as stack:
            file = sys.stdin.buffer if source == STANDARD else stack.enter_context(open(source, "rb"))
            shutil.copyfileobj(file, out, _PIECE_BYTES)
        source = copy
    found = format_found(source)
    if found.kind in TEXTS or not found.compression:
        return source, found
    plain = folder / source.with_suffix("").name
    with open(plain, "wb") as out:
        out.writelines(pieces(source, found.compression))
    return plain, found._replace(compression="")


def compressed(path: Path, compression: str) -> None:
    """Compress a file in place."""
    if not compression:
        return
    packed = path.with_name(path.name + compression)
    with open(path, "rb") as file:
        if compression == GZIP:
            with gzip.open(packed, "wb", 6) as out:
                shutil.copyfileobj(file, out, _PIECE_BYTES)
        else:
            with open(packed, "wb") as out_file:
                zstandard.ZstdCompressor().copy_stream(file, out_file)
    packed.replace(path)


class Text(io.RawIOBase):
    """A text file as UTF-8, whatever it is in: read in pieces of whole characters.

    Raises `BatchRefused`, from `read`, for bytes that are none of the encoding's.
    """

    def __init__(self, path: Path, compression: str, encoding: str) -> None:
        self._file, self._path, self._encoding = opened(path, compression), path, encoding
        # UTF-8 is handed on as it is: who splits it into records names the line of a wrong byte.
        self._decoder = None if encoding == UTF8 else codecs.getincrementaldecoder(encoding)()

    def read(self, size: int = -1) -> bytes:
        """Some bytes, b"" at the end."""
        try:
            piece = self._file.read(size)
            if self._decoder is None:
                return piece
            while not (text := self._decoder.decode(piece, not piece)) and piece:
                piece = self._file.read(size)
            return text.encode()
        except UnicodeError as error:
            raise BatchRefused(f"expected {self._path} in {self._encoding}, got: {error}") from None
        except (EOFError, zstandard.ZstdError, gzip.BadGzipFile) as error:
            raise BatchRefused(f"expected {self._path} to be whole, got: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def pieces(path: Path, compression: str) -> Iterator[bytes]:
    """The bytes of a file, decompressed; raises `BatchRefused` if it is damaged."""
    with Text(path, compression, UTF8) as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
