"""Files that are read in another form than they come in: from a pipe, packed, an archive, a JSON array."""

import contextlib
import shutil
import sys
import zipfile
from pathlib import Path

import msgspec
import polars as pl

from server.batch.formats import (
    ARROW,
    EXCEL,
    LINES,
    STANDARD,
    TEXTS,
    FileFormat,
    TextFile,
    format_found,
    opened,
    pieces,
)
from server.batch.tables import scan_table, without_panics
from server.errors import BatchRefused, listed
from server.tables.encodings import encoding_of

_PIECE_BYTES = 2**20
#: An array is read as a whole; of a longer one the objects are to be written line by line.
MAX_ARRAY_BYTES = 2**30
#: Every workbook of Excel holds it (ECMA-376, part 2).
_WORKBOOK = "[Content_Types].xml"
#: What other programs' documents hold, which are archives, too.
_DOCUMENTS = {
    "META-INF/manifest.xml": "a document of LibreOffice",
    "Index/Document.iwa": "a document of Numbers",
}
_ELSEWISE = 'write each object on a line of its own (pandas: `to_json(path, orient="records", lines=True)`)'


def readable(source: Path, folder: Path) -> tuple[Path, FileFormat]:
    """A file that can be read twice and, of tables, anywhere: the source, or a copy of it in `folder`.

    `-` is standard input. Of an archive it is the one file in it, of a JSON array its objects
    line by line. Raises `BatchRefused`.
    """
    if source == STANDARD or not source.is_file():
        copy = folder / (source.name if source != STANDARD else "input")
        with open(copy, "wb") as out, contextlib.ExitStack() as stack:
            file = sys.stdin.buffer if source == STANDARD else stack.enter_context(open(source, "rb"))
            shutil.copyfileobj(file, out, _PIECE_BYTES)
        source = copy
    found = format_found(source)
    if found.kind in TEXTS:
        return (
            (_lines(source, found, folder), FileFormat(LINES)) if is_array(source, found) else (source, found)
        )
    if found.compression:
        plain = folder / source.with_suffix("").name
        with open(plain, "wb") as out:
            out.writelines(pieces(source, found.compression))
        source, found = plain, found._replace(compression="")
    if found.kind == EXCEL and (member := _member(source, folder)):
        return readable(member, folder)
    if found.kind == ARROW and _has_gaps(source):
        return _with_texts(source, folder), found
    return source, found


def _has_gaps(path: Path) -> bool:
    """Whether categories are missing in an Arrow file as pandas and pyarrow write it.

    The code of a gap is -1, which polars takes for a category.
    """
    try:
        with without_panics():
            scan_table(path, ARROW).select(pl.col(pl.Categorical, pl.Enum)).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        return "dictionary key" in str(error)
    return False


def _with_texts(path: Path, folder: Path) -> Path:
    """A copy whose categories are texts; raises `BatchRefused` without the library that reads them."""
    try:
        import pyarrow.ipc  # whoever writes such files has it
    except ImportError:
        raise BatchRefused(
            f"expected {path} without gaps in columns of categories, got one, which pyarrow alone reads: "
            "install it here, or write the file as .parquet"
        ) from None
    copy = folder / "texts.arrow"
    with pyarrow.OSFile(str(path)) as file:
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        batches = pyarrow.ipc.open_file(file) if is_file else pyarrow.ipc.open_stream(file)
        plain = pyarrow.schema(
            field.with_type(field.type.value_type) if pyarrow.types.is_dictionary(field.type) else field
            for field in batches.schema
        )
        with pyarrow.ipc.new_file(str(copy), plain) as out:
            for batch in map(batches.get_batch, range(batches.num_record_batches)) if is_file else batches:
                out.write_batch(batch.cast(plain))
    return copy


def is_array(path: Path, file_format: FileFormat) -> bool:
    """Whether a file of JSON is one array instead of lines."""
    if file_format.kind != LINES:
        return False
    with opened(path, file_format.compression) as file:
        # Whatever it is encoded in: marks and zeros apart, a bracket is its first character.
        beginning = file.read(64).translate(None, b"\0\xef\xbb\xbf\xff\xfe")
    return beginning.lstrip().startswith(b"[")


def _lines(path: Path, file_format: FileFormat, folder: Path) -> Path:
    """The elements of an array as JSON Lines."""
    encoding = encoding_of(pieces(path, file_format.compression), str(path))
    with TextFile(path, file_format.compression, encoding) as text:
        content = text.read(MAX_ARRAY_BYTES).removeprefix(b"\xef\xbb\xbf")
        while len(content) < MAX_ARRAY_BYTES and (piece := text.read(_PIECE_BYTES)):
            content += piece
    if len(content) >= MAX_ARRAY_BYTES:
        raise BatchRefused(f"expected an array of at most {MAX_ARRAY_BYTES} bytes in {path}: {_ELSEWISE}")
    try:
        elements = msgspec.json.decode(content, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BatchRefused(
            f"expected JSON Lines, or one array of objects, in {path}, got: {error}: {_ELSEWISE}"
        ) from None
    copy = folder / "array.jsonl"
    with open(copy, "wb") as out:
        out.writelines(msgspec.json.format(bytes(element), indent=-1) + b"\n" for element in elements)
    return copy


def _member(path: Path, folder: Path) -> Path | None:
    """A copy of the one file in an archive, None if it is a workbook."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if _WORKBOOK in names:
                return None
            if document := next(filter(None, map(_DOCUMENTS.get, names)), None):
                raise BatchRefused(
                    f"expected a table in {path}, got {document}: save its sheet as .xlsx or CSV"
                )
            # Of the Finder's.
            files = [n for n in names if not n.startswith("__MACOSX/") and Path(n).name != ".DS_Store"]
            if len(files) != 1:
                raise BatchRefused(
                    f"expected one file in the archive {path}, got {len(files)} ({listed(files)}): unpack it"
                )
            copy = folder / f"unpacked-{Path(files[0]).name}"
            with archive.open(files[0]) as member, open(copy, "wb") as out:
                shutil.copyfileobj(member, out, _PIECE_BYTES)
            return copy
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise BatchRefused(f"expected {path} to be a whole xlsx file or archive, got: {error}") from None
