"""How a CSV file is written, told by its content: separator, decimal sign, header.

What is recognised is said in one line, and every option overrules it. Nothing is taken
for likely that the file itself contradicts: it is asked for then.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from server.errors import TableRefused
from server.tables.cells import CellRules, number, parted_by
from server.tables.csv_records import MalformedCsv, find_records

_LINE_END = re.compile(rb"\r\n|\n|\r")
_LINE_ENDS = re.compile(rb"[\r\n]++")

SEPARATORS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
#: Records that are looked at to tell how the others are written.
SAMPLE_RECORDS = 2000
SAMPLE_CELLS, SAMPLE_SHAPES = 50_000, 1000
SAMPLE_BYTES = 2**20
#: Names may have line breaks, in quotes.
MAX_HEADER_LINES = 1000
#: So much is looked through for a header below titles.
_TITLE_LINES, _TITLE_BYTES = 30, 2**16
_SHAPE = str.maketrans("023456789", "111111111")
_CELL_END = re.compile(r"[,;\t|]")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Options:
    """What the user said about a file: None and empty where it is to be recognised.

    `columns` are the names of the columns in order, where the file has no header. `escaped`
    quotes stand behind a backslash within a cell, where others are doubled.
    """

    separator: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    missing: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    quotes: bool = True
    escaped: bool = False


class Dialect(NamedTuple):
    """How a table is written; `notes` say what is unusual about it, in words for the user.

    Of a file of `escaped` quotes this is said of the text in which they are doubled.
    """

    separator: str = ","
    quotes: bool = True
    rules: CellRules = CellRules()
    notes: tuple[str, ...] = ()
    escaped: bool = False


class Head(NamedTuple):
    """The header of a text: its names, and where the first record begins: bytes, and line from 1."""

    dialect: Dialect
    names: tuple[str, ...]
    begin: int
    first_line: int


def read_head(
    text: bytes, known: Callable[[str], bool], options: Options, where: str, most_columns: int = 0
) -> Head:
    """The header of a text in UTF-8, and how the records after it are written.

    `text` is the file, or its beginning of whole records; `known` says which names mean
    something. Raises `TableRefused`, for more than `most_columns`, if that is not 0, before
    any is looked at.
    """
    begin, line, said = _skip(text)
    if most_columns:
        end = _header_end(text, begin, options.quotes, where)
        if max(text.count(separator.encode(), begin, end) for separator in SEPARATORS) >= most_columns:
            raise TableRefused(f"expected at most {most_columns} columns in {where}, got more")
    separator = options.separator or said or _separator(text[begin:], known, options.quotes)
    dialect = Dialect(separator, options.quotes, escaped=options.escaped)
    names = options.columns
    if not names:
        cells, size = _first_record(text, begin, dialect, where, line)
        names = tuple(cell.strip() for cell in cells)
        _refuse_strange_header(names, text[begin + size :], line + 1, known, where)
        line += _breaks(text[begin : begin + size])
        begin += size
    rules = _rules(text[begin:], names, known, dialect, options)
    notes = _notes(separator, rules, options, bool(said))
    return Head(dialect._replace(rules=rules, notes=notes), names, begin, line)


def _skip(text: bytes) -> tuple[int, int, str]:
    """Where the header begins, its line, and the separator that Excel's `sep=` line names."""
    begin, line, said = len(_BOM) if text.startswith(_BOM) else 0, 1, ""
    while True:
        blank = _LINE_ENDS.match(text, begin)
        line += _breaks(blank[0]) if blank else 0
        begin = blank.end() if blank else begin
        end = _line_end(text, begin)
        content = text[begin:end].strip(b"\r\n")
        if said or len(content) != 5 or not content.lower().startswith(b"sep="):
            return begin, line, said
        said, begin, line = chr(content[4]), end, line + 1


def _line_end(text: bytes, begin: int) -> int:
    """Behind the line that begins there: LF, CRLF or CR ends it."""
    # Not two finds: the one for a sign that the text lacks would go to its end for every line.
    found = _LINE_END.search(text, begin)
    return found.end() if found else len(text)


def _breaks(text: bytes) -> int:
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def _header_end(text: bytes, begin: int, quotes: bool, where: str) -> int:
    """Behind the record that begins there, and its line end; raises `TableRefused` for an endless one."""
    end, count = begin, 0
    for _ in range(MAX_HEADER_LINES):
        counted, end = end, _line_end(text, end)
        count += text.count(b'"', counted, end) if quotes else 0
        if count % 2 == 0 or end >= len(text):
            return end
    raise TableRefused(
        f"expected a header of at most {MAX_HEADER_LINES} lines in {where}, got a longer one: "
        "is a quote not closed?"
    )


def _first_record(text: bytes, begin: int, dialect: Dialect, where: str, line: int) -> tuple[list[str], int]:
    """The cells of the first record, and its size in bytes with its line end."""
    end = _header_end(text, begin, dialect.quotes, where)
    record = text[begin:end]
    if not record:
        raise TableRefused(f"expected {where} to begin with a CSV header, got nothing")
    try:
        find_records(record, dialect.separator.encode(), quotes=dialect.quotes)
        (cells,) = cells_of(record, dialect)
    except (MalformedCsv, csv.Error, UnicodeDecodeError, ValueError) as error:
        raise TableRefused(
            f"expected {where} to begin with a CSV header, got in line {line}: {error}"
        ) from None
    return cells, end - begin


def _refuse_strange_header(
    names: Sequence[str], following: bytes, line: int, known: Callable[[str], bool], where: str
) -> None:
    """Raise `TableRefused` for what is no text, and for titles above the names.

    The `following` text begins on `line`.
    """
    if any("\0" in name for name in names):
        raise TableRefused(f"expected text in {where}, got bytes of another kind of file")
    if any(map(known, names)):
        return
    lines = _LINE_END.split(following[:_TITLE_BYTES])[:_TITLE_LINES]
    for later, text in enumerate(lines, start=line):
        cells = _CELL_END.split(text.decode("utf-8", "replace"))
        if sum(known(cell.strip(' "')) for cell in cells) > 1:
            raise TableRefused(
                f"expected {where} to begin with the names of its columns, got them in line {later}: "
                "remove the lines above"
            )


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
        except TableRefused:
            continue
        scores[separator] = (sum(known(name.strip()) for name in names), len(names) > 1 and len(names))
    return max(scores, key=scores.__getitem__, default=",")


def _rules(
    text: bytes, names: Sequence[str], known: Callable[[str], bool], dialect: Dialect, options: Options
) -> CellRules:
    """How numbers are written in the columns that are known, by the first records."""
    rules = CellRules() if options.missing is None else CellRules(missing=("", *options.missing))
    columns = [i for i, name in enumerate(names) if known(name)]
    cells = _shapes(_sample(text, columns, dialect))
    commas = {cell for cell in cells if _is_number(cell, ",")}
    points = {cell for cell in cells if _is_number(cell, ".")}
    decimal = options.decimal or _decimal(commas, points, dialect)
    other = "." if decimal == "," else ","
    parted = [cell for cell in cells if parted_by(cell) == other]
    unlike = [cell for cell in (commas if decimal == "." else points) if other in cell]
    thousands = other if parted and all(parted_by(cell) == other for cell in unlike) else ""
    return rules._replace(decimal=decimal, thousands=thousands)


def _shapes(cells: Iterable[str]) -> list[str]:
    """Of the cells with a point or comma one of each shape: digits tell nothing, but for a first 0."""
    shapes: dict[tuple[bool, str], str] = {}
    for cell in islice(cells, SAMPLE_CELLS):
        if "," in cell or "." in cell:
            shapes.setdefault((cell.lstrip("+-").startswith("0"), cell.translate(_SHAPE)), cell)
            if len(shapes) == SAMPLE_SHAPES:
                break
    return list(shapes.values())


def _is_number(cell: str, decimal: str) -> bool:
    rules = CellRules(decimal, "," if decimal == "." else ".")
    return not isinstance(number(cell, rules), str)


def _shape(cells: Iterable[str]) -> str:
    """How the first of some numbers is written; a message repeats no value."""
    return min(cells).translate(_SHAPE)


def _decimal(commas: set[str], points: set[str], dialect: Dialect) -> str:
    """Which sign is the decimal one: that of the cells that can be read in one way only."""
    only_commas, only_points = commas - points, points - commas
    if only_commas and only_points:
        shapes = f"{_shape(only_commas)!r} and {_shape(only_points)!r}"
        raise TableRefused(
            f"expected numbers with one decimal sign, got {shapes}: "
            "write all of them with a point, or all with a comma",
            ", or say which it is with --decimal",
        )
    usual = "," if dialect.separator == ";" else "."
    either = [cell for cell in commas & points if usual not in cell]
    if either and not only_commas and not only_points:
        shape = _shape(either)
        raise TableRefused(
            f"expected numbers that can be read in one way, got {shape!r}, whose {shape[-4]!r} may part "
            "thousands or be the decimal sign: write them without what parts thousands",
            ", or say which sign is the decimal one with --decimal",
        )
    if only_commas or only_points:
        return "," if only_commas else "."
    return usual if commas else "."


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
