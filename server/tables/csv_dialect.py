"""How a CSV file is written, told by its content: encoding, separator, decimal sign, header.

What is recognised is said in one line, and every option overrules it. Nothing is taken
for likely that the file itself contradicts: it is asked for then.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from server.errors import HotrowError
from server.tables.cells import CellRules, number, parted_by
from server.tables.csv_records import UTF8, MalformedCsv, find_records

_LINE_END = re.compile(rb"\r\n|\n|\r")

SEPARATORS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
#: Records that are looked at to tell how the others are written.
SAMPLE_RECORDS = 2000
SAMPLE_BYTES = 2**20
CP1252 = "cp1252"
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_BOM = b"\xef\xbb\xbf"
#: Bytes that Windows-1252 leaves undefined (Unicode's CP1252.TXT).
_NOT_CP1252 = bytes((0x81, 0x8D, 0x8F, 0x90, 0x9D))


_BEYOND_ASCII = bytes(range(0x80, 0x100))


class CsvRefused(HotrowError):
    """A text that is no table, or could be read in two ways; `option` is what `server.batch` offers."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True)
class Options:
    """What the user said about a file: None and empty where it is to be recognised.

    `columns` are the names of the columns in order, where the file has no header.
    """

    separator: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    missing: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    quotes: bool = True


class Dialect(NamedTuple):
    """How a table is written; `notes` say what is unusual about it, in words for the user."""

    separator: str = ","
    quotes: bool = True
    rules: CellRules = CellRules()
    notes: tuple[str, ...] = ()


class Head(NamedTuple):
    """The header of a text: its names, and where the first record begins: bytes, and line from 1."""

    dialect: Dialect
    names: tuple[str, ...]
    begin: int
    first_line: int


def encoding_of(pieces: Iterable[bytes], where: str) -> str:
    """The encoding of a text that comes in pieces: utf-8, utf-16-le, utf-16-be or cp1252.

    UTF-16 needs its mark (or shows itself by its zero bytes). What is no UTF-8 is taken for
    Windows-1252 only if nothing in it is UTF-8 beyond ASCII. Raises `CsvRefused` otherwise.
    """
    count = _Utf8Count()
    for index, piece in enumerate(pieces):
        if not index and (encoding := _utf16(piece)):
            return encoding
        count.add(piece)
    count.end()
    if not count.bad:
        return UTF8
    if not count.good and not count.undefined:
        return CP1252
    raise CsvRefused(
        f"expected {where} in UTF-8, UTF-16 or Windows-1252, got bytes of none of them from line "
        f"{count.bad_line} on",
        ": say which it is with --encoding",
    )


def _utf16(beginning: bytes) -> str:
    if beginning[:2] in _UTF16:
        return _UTF16[beginning[:2]]
    # Of Western text in UTF-16 every other byte is zero; of UTF-8 hardly any ever is.
    sample = beginning[:1024]
    for order, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(sample) >= 4 and sample[order::2].count(0) > len(sample) // 4:
            return encoding
    return ""


class _Utf8Count:
    """How many characters beyond ASCII are UTF-8, how many bytes are none, and where the first is."""

    def __init__(self) -> None:
        self.good = self.bad = self.bad_line = 0
        self.undefined = False
        self._rest, self._lines = b"", 1

    def add(self, piece: bytes) -> None:
        if not self._rest and piece.isascii():
            self._lines += piece.count(b"\n")
            return
        whole = self._rest + piece
        # A character may go on in the next piece: at most three bytes of it are here.
        keep = next((i for i in (1, 2, 3) if whole[-i : -i + 1 or None] >= b"\xc0"), 0)
        self._rest = whole[len(whole) - keep :] if keep else b""
        self._count(whole[: len(whole) - keep])

    def end(self) -> None:
        self._count(self._rest)

    def _count(self, text: bytes) -> None:
        try:
            self.good += len(text.decode()) != len(text)
        except UnicodeDecodeError as error:
            if not self.bad:
                self.bad_line = self._lines + text.count(b"\n", 0, error.start)
            self.bad += 1
            self.good += len(text.decode(errors="ignore")) != len(text.translate(None, _BEYOND_ASCII))
            self.undefined |= any(text.count(byte) for byte in _NOT_CP1252)
        self._lines += text.count(b"\n")


def read_head(text: bytes, known: Callable[[str], bool], options: Options, where: str) -> Head:
    """The header of a text in UTF-8, and how the records after it are written.

    `text` is the file, or its beginning of whole records; `known` says which names mean
    something. Raises `CsvRefused`.
    """
    begin, line, said = _skip(text)
    separator = options.separator or said or _separator(text[begin:], known, options.quotes)
    dialect = Dialect(separator, options.quotes)
    names = options.columns
    if not names:
        cells, size = _first_record(text, begin, dialect, where, line)
        names = tuple(cell.strip() for cell in cells)
        line += _breaks(text[begin : begin + size])
        begin += size
    rules = _rules(text[begin:], names, known, dialect, options)
    notes = _notes(separator, rules, options, bool(said))
    return Head(dialect._replace(rules=rules, notes=notes), names, begin, line)


def _skip(text: bytes) -> tuple[int, int, str]:
    """Where the header begins, its line, and the separator that Excel's `sep=` line names."""
    begin, line, said = len(_BOM) if text.startswith(_BOM) else 0, 1, ""
    while begin < len(text):
        end = _line_end(text, begin)
        content = text[begin:end].strip(b"\r\n")
        if content.lower().startswith(b"sep=") and len(content) == 5 and not said:
            said = chr(content[4])
        elif content:
            break
        begin, line = end, line + 1
    return begin, line, said


def _line_end(text: bytes, begin: int) -> int:
    """Behind the line that begins there: LF, CRLF or CR ends it."""
    # Not two finds: the one for a sign that the text lacks would go to its end for every line.
    found = _LINE_END.search(text, begin)
    return found.end() if found else len(text)


def _breaks(text: bytes) -> int:
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def _first_record(text: bytes, begin: int, dialect: Dialect, where: str, line: int) -> tuple[list[str], int]:
    """The cells of the first record, and its size in bytes with its line end."""
    end, quotes = begin, 0
    while True:
        counted, end = end, _line_end(text, end)
        quotes += text.count(b'"', counted, end) if dialect.quotes else 0
        if quotes % 2 == 0 or end >= len(text):
            break
    record = text[begin:end]
    if not record:
        raise CsvRefused(f"expected {where} to begin with a CSV header, got nothing")
    try:
        find_records(record, dialect.separator.encode(), quotes=dialect.quotes)
        (cells,) = cells_of(record, dialect)
    except (MalformedCsv, csv.Error, UnicodeDecodeError, ValueError) as error:
        raise CsvRefused(
            f"expected {where} to begin with a CSV header, got in line {line}: {error}"
        ) from None
    return cells, end - begin


def cells_of(text: bytes, dialect: Dialect) -> Iterator[list[str]]:
    """The cells of each record of a text in UTF-8; blank lines are none. Raises `csv.Error`."""
    lines = io.StringIO(text.decode(), newline="")
    if dialect.quotes:
        return filter(None, csv.reader(lines, delimiter=dialect.separator, strict=True))
    return filter(None, csv.reader(lines, delimiter=dialect.separator, strict=True, quoting=csv.QUOTE_NONE))


def _separator(text: bytes, known: Callable[[str], bool], quotes: bool) -> str:
    """The separator by which the first record has most known names; without any, most cells."""
    scores = {}
    for separator in SEPARATORS:
        try:
            names, _ = _first_record(text, 0, Dialect(separator, quotes), "it", 1)
        except CsvRefused:
            continue
        scores[separator] = (sum(known(name.strip()) for name in names), len(names) > 1 and len(names))
    return max(scores, key=scores.__getitem__, default=",")


def _rules(
    text: bytes, names: Sequence[str], known: Callable[[str], bool], dialect: Dialect, options: Options
) -> CellRules:
    """How numbers are written in the columns that are known, by the first records."""
    rules = CellRules() if options.missing is None else CellRules(missing=("", *options.missing))
    columns = [i for i, name in enumerate(names) if known(name)]
    cells = {cell for cell in _sample(text, columns, dialect) if "," in cell or "." in cell}
    commas = {cell for cell in cells if _is_number(cell, ",") and "," in cell}
    points = {cell for cell in cells if _is_number(cell, ".") and "." in cell}
    decimal = options.decimal or _decimal(commas, points, dialect)
    other = "." if decimal == "," else ","
    both = [cell for cell in cells if parted_by(cell) == other]
    unlike = commas if decimal == "." else points
    thousands = other if both and not any(parted_by(cell) != other for cell in unlike) else ""
    return rules._replace(decimal=decimal, thousands=thousands)


def _is_number(cell: str, decimal: str) -> bool:
    rules = CellRules(decimal, "," if decimal == "." else ".")
    return not isinstance(number(cell, rules), str)


def _decimal(commas: set[str], points: set[str], dialect: Dialect) -> str:
    """Which sign is the decimal one: the one of cells that can be read in one way only."""
    only_commas, only_points = commas - points, points - commas
    if only_commas and only_points:
        raise CsvRefused(
            f"expected numbers with one decimal sign, got {min(only_commas)!r} and {min(only_points)!r}: "
            "write all of them with a point, or all with a comma",
            ", or say which it is with --decimal",
        )
    if only_commas or only_points:
        return "," if only_commas else "."
    # Cells such as 1,234 alone: no file parted by commas has decimal commas.
    return "," if commas and dialect.separator != "," else "."


def _sample(text: bytes, columns: list[int], dialect: Dialect) -> Iterator[str]:
    try:
        for _, record in zip(range(SAMPLE_RECORDS), cells_of(_whole_lines(text), dialect), strict=False):
            yield from (record[i].strip() for i in columns if i < len(record))
    except (csv.Error, UnicodeDecodeError):
        return  # it is told with its line when its turn comes


def _whole_lines(text: bytes) -> bytes:
    """So much of a text as is looked at, cut behind a line."""
    if len(text) <= SAMPLE_BYTES:
        return text
    return text[: text.rfind(b"\n", 0, SAMPLE_BYTES) + 1 or SAMPLE_BYTES]


def _notes(separator: str, rules: CellRules, options: Options, said: bool) -> tuple[str, ...]:
    notes = []
    if separator != ",":
        notes.append(f"separated by {SEPARATORS.get(separator, repr(separator))}")
    if rules.decimal != ".":
        notes.append("decimal comma")
    if rules.thousands:
        notes.append(f"thousands parted by {rules.thousands!r}")
    if options.columns:
        notes.append("without a header")
    if said:
        notes.append("after a sep= line")
    return tuple(notes)
