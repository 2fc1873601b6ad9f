"""The kinds of files that are read and written, told by their endings and first bytes; compressed or not."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from server.errors import BatchRefused
from server.tables.encodings import UTF8, other_kind
from server.zstandard import BEGINNINGS, zstd

CSV, LINES, PARQUET, ARROW, EXCEL = ".csv", ".jsonl", ".parquet", ".arrow", ".xlsx"
ENDINGS = {
    ".csv": CSV,
    ".tsv": CSV,
    ".txt": CSV,
    ".jsonl": LINES,
    ".json": LINES,
    ".ndjson": LINES,
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".arrow": ARROW,
    ".feather": ARROW,
    ".ipc": ARROW,
    ".xlsx": EXCEL,
}
GZIP, ZSTANDARD, BZIP2, XZ = COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
TEXTS = (CSV, LINES)
#: What a file begins with, whatever it is called.
_MAGIC = {
    b"\x1f\x8b": GZIP,
    **dict.fromkeys(BEGINNINGS, ZSTANDARD),
    b"BZh91AY&SY": BZIP2,
    b"\xfd7zXZ\0": XZ,
    b"PAR1": PARQUET,
    b"ARROW1\0": ARROW,
    b"\xff\xff\xff\xff": ARROW,
    b"PK\x03\x04": EXCEL,
}
#: What readers of compressed files say of damage.
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)
STANDARD = Path("-")
#: Of Zstandard: 3, which polars would take, needs twice the time of 1 and saves a quarter of the bytes.
PARQUET_LEVEL = 1
_PIECE_BYTES = 2**20
_ESCAPED = re.compile(rb'\\(["\\])')


class FileFormat(NamedTuple):
    """A kind of file, the separator its ending asks for, and how it is compressed ("" if it is not)."""

    kind: str
    separator: str = ""
    compression: str = ""


def format_named(path: Path) -> FileFormat:
    """The format a file's ending names; raises `BatchRefused`."""
    compression = path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""
    ending = _ending(path)
    if ending not in ENDINGS:
        raise BatchRefused(
            f"expected a file that ends in {', '.join(ENDINGS)}, each with {', '.join(COMPRESSIONS)} "
            f"behind it or not, got {path.name}: rename it if it is one of these, or write it as one"
        )
    return FileFormat(ENDINGS[ending], "\t" if ending == ".tsv" else "", compression)


def format_found(path: Path) -> FileFormat:
    """The format of a file by its first bytes, or by its ending where these do not tell.

    Raises `BatchRefused`.
    """
    compression = compression_of(_beginning(path, ""))
    beginning = _beginning(path, compression)
    kind = _magic(beginning)
    dense = beginning.translate(None, b"\xef\xbb\xbf \t\r\n")
    try:
        named = format_named(path)
    except BatchRefused:
        if _ending(path) and path != STANDARD and kind is None:
            raise
        named = FileFormat(LINES if dense.startswith((b"{", b"[{")) else CSV)
    if kind is not None and kind not in COMPRESSIONS:
        named = FileFormat(kind)
    elif named.kind not in TEXTS:
        found = other_kind(beginning) or "another kind of file"
        raise BatchRefused(f"expected {path} to be a {named.kind} file, got {found}")
    elif dense.startswith((b'{"', b'[{"')):  # no header of a table begins so
        named = FileFormat(LINES)
    return named._replace(compression=compression)


def compression_of(beginning: bytes) -> str:
    """How a file is compressed, by its first bytes; "" if it is not."""
    found = _magic(beginning)
    return found if found in COMPRESSIONS else ""


def _ending(path: Path) -> str:
    """What a file's name ends in, without what says how it is packed."""
    return (path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path).suffix.lower()


def _magic(beginning: bytes) -> str | None:
    return next((kind for magic, kind in _MAGIC.items() if beginning.startswith(magic)), None)


def _beginning(path: Path, compression: str) -> bytes:
    with opened(path, compression) as file:
        try:
            return file.read(512)
        except DAMAGED as error:
            raise BatchRefused(f"expected {path} to be whole, got: {error}") from None


def opened(file: Path | BinaryIO, compression: str) -> BinaryIO:
    """A file, or one that is open, decompressed while it is read."""
    return cast(BinaryIO, _OPEN.get(compression, open)(file, "rb"))


_OPEN: dict[str, Callable[..., Any]] = {GZIP: gzip.open, ZSTANDARD: zstd.open, BZIP2: bz2.open, XZ: lzma.open}


def compressed(path: Path, compression: str) -> None:
    """Compress a file in place."""
    if not compression:
        return
    packed = path.with_name(path.name + compression)
    level = {"compresslevel": 6} if compression == GZIP else {}
    with open(path, "rb") as file, _OPEN[compression](packed, "wb", **level) as out:
        shutil.copyfileobj(file, out, _PIECE_BYTES)
    packed.replace(path)


class TextFile(io.RawIOBase):
    """A text file as UTF-8, whatever it is in: read in pieces of whole characters.

    Quotes that are `escaped` by a backslash come out doubled. Raises `BatchRefused`, from
    `read`, for bytes that are none of the encoding's.
    """

    def __init__(self, path: Path, compression: str, encoding: str, *, escaped: bool = False) -> None:
        self._file, self._path, self._encoding = opened(path, compression), path, encoding
        # UTF-8 is handed on as it is: who splits it into records names the line of a wrong byte.
        self._decoder = None if encoding == UTF8 else codecs.getincrementaldecoder(encoding)()
        self._escaped, self._rest = escaped, b""

    def read(self, size: int = -1) -> bytes:
        """Some bytes, b"" at the end."""
        try:
            piece = self._file.read(size)
            while not (text := self._text(piece)) and piece:
                piece = self._file.read(size)
            return text
        except UnicodeError as error:
            raise BatchRefused(f"expected {self._path} in {self._encoding}, got: {error}") from None
        except DAMAGED as error:
            raise BatchRefused(f"expected {self._path} to be whole, got: {error}") from None

    def _text(self, piece: bytes) -> bytes:
        text = piece if self._decoder is None else self._decoder.decode(piece, not piece).encode()
        if not self._escaped:
            return text
        text = self._rest + text
        # A backslash at the very end may be half of a pair.
        odd = piece != b"" and (len(text) - len(text.rstrip(b"\\"))) % 2
        text, self._rest = text[: len(text) - odd], text[len(text) - odd :]
        return _ESCAPED.sub(lambda pair: b'""' if pair[1] == b'"' else pair[1], text)

    def close(self) -> None:
        self._file.close()
        super().close()


def pieces(path: Path, compression: str) -> Iterator[bytes]:
    """The bytes of a file, decompressed; raises `BatchRefused` if it is damaged."""
    with TextFile(path, compression, UTF8) as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
