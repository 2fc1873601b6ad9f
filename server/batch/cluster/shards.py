"""A data set cut into shards: the same cuts every time, and each can be read without the ones before it."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from server.batch.blocks import BOM, MAX_RECORD_BYTES, Block, first_record_end
from server.batch.formats import CSV, LINES, TEXTS, format_found
from server.batch.layout import FileLayout, Reading, layout_of
from server.batch.tables import table_height, table_schema, table_slice
from server.batch.unpacked import is_array
from server.errors import BatchRefused, listed
from server.model.bundle import Bundle
from server.tables.encodings import UTF8
from server.tables.text_blocks import breaks

#: Folders in which a format of tables keeps which files are rows of now: others lie beside them.
_TABLE_LOGS = {"_delta_log": "a table of Delta Lake", ".hoodie": "a table of Hudi"}
#: What a shard holds of its input unless the command says otherwise: some seconds of work for one
#: core and a file of tens of MB, which is what readers of many files like.
SHARD_BYTES, SHARD_ROWS = 32 * 2**20, 250_000
_READ_BYTES = 2**16


class Cut(NamedTuple):
    """A range of one file: bytes of text, rows of Parquet; `end` is exclusive.

    Of a range of text, `lines` and `quotes` are what the file holds before it: with
    them a reader knows where it stands, though a cut may fall into a record.
    """

    number: int
    path: str
    begin: int
    end: int
    lines: int = 0
    quotes: int = 0


class Count(NamedTuple):
    """How many line breaks and quotes a range of text holds."""

    lines: int
    quotes: int


def files_of(source: Path) -> list[Path]:
    """The file, or the files of a folder by name.

    Raises `BatchRefused` where something would be passed over.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise BatchRefused(f"expected a file or a folder of files to score, got none at {source}")
    table = next((what for name, what in _TABLE_LOGS.items() if (source / name).is_dir()), None)
    if table is not None:
        raise BatchRefused(
            f"expected a folder of files that are all rows, got {source}, {table}, which keeps rows that "
            "were changed or deleted, too: write it as Parquet with what reads such tables"
        )
    # Names that begin so are no data by the convention of Hadoop, Spark and Arrow.
    entries = sorted(path for path in source.iterdir() if not path.name.startswith((".", "_")))
    other = next((path for path in entries if not path.is_file()), None)
    if other is not None:
        what = "a folder" if other.is_dir() else "a link to nothing" if other.is_symlink() else "no file"
        raise BatchRefused(
            f"expected nothing but files in {source}, got {other.name}, which is {what}: score it apart, "
            "or move what is in it up; or give it a name that begins with _"
        )
    # A writer without rows for it leaves a file without a byte: no record is in it.
    files = [path for path in entries if path.stat().st_size]
    if not files:
        raise BatchRefused(f"expected files to score in {source}, got none with a byte in it")
    return files


def layouts_of(files: Sequence[Path], bundle: Bundle, reading: Reading) -> list[FileLayout]:
    """The layout of each file: all of the same columns, written in the same way; raises `BatchRefused`."""
    if reading.options.escaped:  # where a record begins is told by its quotes alone
        raise BatchRefused(
            "expected doubled quotes for --engine ray, got --quotes escaped: use --engine local"
        )
    formats = [format_found(path) for path in files]
    for path, found in zip(files, formats, strict=True):
        if found.compression:
            raise BatchRefused(
                f"expected plain files for --engine ray, got {path.name}, which is compressed: "
                "decompress it, or use --engine local for one file"
            )
        if is_array(path, found):
            raise BatchRefused(
                f"expected JSON Lines for --engine ray, got an array in {path.name}: use --engine local, "
                "or write each object on a line of its own"
            )
        if found.kind != formats[0].kind:
            raise BatchRefused(f"expected files of one kind, got {files[0].name} and {path.name}")
    layouts = [layout_of(p, f, bundle, reading, str(p)) for p, f in zip(files, formats, strict=True)]
    for path, layout in zip(files, layouts, strict=True):
        _check_same(files[0], layouts[0], path, layout)
    if layouts[0].kind == LINES:
        every = dict.fromkeys(name for layout in layouts for name in layout.names)
        return [layout._replace(names=tuple(every)) for layout in layouts]
    return layouts


def _check_same(first: Path, expected: FileLayout, path: Path, layout: FileLayout) -> None:
    if layout.encoding.startswith(("utf-16", "utf-32")):
        raise BatchRefused(
            f"expected UTF-8 for --engine ray, got {path.name} in {layout.encoding}: use --engine local"
        )
    if layout.kind == LINES:
        return
    if layout.names != expected.names:
        others = [name for name in layout.names if name not in expected.names]
        lacks = [name for name in expected.names if name not in layout.names]
        words = [f"{listed(others)} more"] if others else []
        words += [f"none of {listed(lacks)}"] if lacks else []
        got = " and ".join(words) or f"them in another order ({listed(layout.names)})"
        raise BatchRefused(f"expected the columns of {first.name} in {path.name}, got {got}")
    ours, theirs = (one._replace(begin=0, first_line=1, notes=(), dialect=one.dialect._replace(notes=()))
                    for one in (layout, expected))  # fmt: skip
    if ours != theirs:
        raise BatchRefused(
            f"expected {path.name} to be written as {first.name} ({', '.join(expected.notes) or 'plain'}), "
            f"got {', '.join(layout.notes) or 'plain'}: score them apart, or say --separator, --encoding "
            "and --decimal"
        )
    _check_types(first, path, layout.kind)


def _check_types(first: Path, path: Path, kind: str) -> None:
    if kind == CSV or first == path:
        return
    expected, got = table_schema(first, kind), table_schema(path, kind)
    for name, dtype in got.items():
        if dtype != expected[name]:
            raise BatchRefused(
                f"expected the types of {first.name} in {path.name}, got {name} as {dtype} where it is "
                f"{expected[name]}: shards of both could not be read together"
            )


def cuts_of(files: Iterable[Path], layouts: Iterable[FileLayout], size: int) -> Iterator[Cut]:
    """Ranges of about `size` bytes or rows; those of text still lack what stands before them."""
    number = 0
    for path, layout in zip(files, layouts, strict=True):
        for begin, end in _ranges(path, layout, size):
            yield Cut(number, str(path), begin, end)
            number += 1


def count(cut: Cut) -> Count:
    """What a range of text holds, read from the file: line ends (LF, CRLF or CR) and quotes."""
    lines = quotes = 0
    with open(cut.path, "rb") as file:
        file.seek(max(0, cut.begin - 1))
        turned = cut.begin > 0 and file.read(1) == b"\r"  # an LF behind it ends no further line
        for text in _pieces(file, cut.end - cut.begin):
            lines += breaks(text) - (turned and text.startswith(b"\n"))
            quotes += text.count(b'"')
            turned = text.endswith(b"\r")
    return Count(lines, quotes)


def placed(cuts: Sequence[Cut], counts: Sequence[Count]) -> list[Cut]:
    """The ranges of text with what stands before each, summed from the counts of all."""
    found: list[Cut] = []
    before = Count(0, 0)
    for i, cut in enumerate(cuts):
        if i and cuts[i - 1].path == cut.path:
            before = Count(before.lines + counts[i - 1].lines, before.quotes + counts[i - 1].quotes)
        else:  # a file's header is in none of its ranges
            before = count(cut._replace(begin=0, end=cut.begin))
        found.append(cut._replace(lines=before.lines, quotes=before.quotes))
    return found


def read(cut: Cut, layout: FileLayout) -> Block:
    """The records that begin in a range; of text also the rest of the last one, beyond its end."""
    path = Path(cut.path)
    if layout.kind not in TEXTS:
        table = table_slice(path, layout.kind, cut.begin, cut.end - cut.begin)
        return Block(cut.number, cut.begin + 1, table.height, table)
    quoted = layout.kind == CSV and layout.dialect.quotes
    with open(path, "rb") as file:
        first = _record_start(file, cut.begin, quoted and cut.quotes % 2 == 1, quoted, path)
        file.seek(cut.begin)
        text = file.read(cut.end - cut.begin)
        odd = quoted and (cut.quotes + text.count(b'"')) % 2 == 1
        last = _record_start(file, cut.end, odd, quoted, path)
        file.seek(cut.end)
        text += file.read(max(0, last - cut.end))
    content = text[first - cut.begin :]
    line = cut.lines + breaks(text[: first - cut.begin]) + 1
    if layout.encoding != UTF8:
        content = content.decode(layout.encoding).encode()
    return Block(cut.number, line, cut.end - cut.begin, content if cut.begin else content.removeprefix(BOM))


def _ranges(path: Path, layout: FileLayout, size: int) -> Iterator[tuple[int, int]]:
    begin, end = 0, path.stat().st_size
    if layout.kind not in TEXTS:
        end = table_height(path, layout.kind)
    elif layout.kind == CSV:
        begin = _header_end(path, layout)
    for first in range(begin, end, size):
        yield first, min(first + size, end)


def _header_end(path: Path, layout: FileLayout) -> int:
    """Where the first record begins in the bytes of the file: the layout counts those of its UTF-8 form."""
    if layout.encoding == UTF8:
        return layout.begin
    with open(path, "rb") as file:
        head = file.read(layout.begin).decode(layout.encoding)
    return len(head.encode()[: layout.begin].decode().encode(layout.encoding))


def _record_start(file: BinaryIO, at: int, odd: bool, quoted: bool, path: Path) -> int:
    """The first record that begins at `at` or later; `odd`: inside quotes there."""
    file.seek(at - 1 if at else 0)
    if at == 0 or (file.read(1) == b"\n" and not odd):
        return at
    return _scan(file, at, odd, quoted, path)


def _scan(file: BinaryIO, at: int, odd: bool, quoted: bool, path: Path) -> int:
    """Behind the first line break from `at` on that ends a record, or the end of the file."""
    file.seek(at)
    size = 0
    while text := file.read(_READ_BYTES):
        if end := first_record_end(text, odd) if quoted else text.find(b"\n") + 1:
            return at + size + end
        size += len(text)
        odd ^= text.count(b'"') % 2 == 1
        if size > MAX_RECORD_BYTES:
            raise BatchRefused(
                f"expected records of at most {MAX_RECORD_BYTES} bytes in {path}, got a longer one "
                f"at byte {at}: look for a quote that is never closed"
            )
    return at + size


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (text := file.read(min(size, 2**20))):
        size -= len(text)
        yield text
