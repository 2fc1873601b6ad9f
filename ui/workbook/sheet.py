"""The first sheet of a workbook, row by row as texts: each element counted, none kept without need.

A library that makes objects of styles, names and strings makes them of a million as well, which a
file of 9 kB has room for.
"""

import re
from collections.abc import Callable
from zipfile import ZipFile

from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format, is_timedelta_format
from openpyxl.utils.datetime import MAC_EPOCH, WINDOWS_EPOCH, from_excel

from server.tables.workbook_xml import MAX_COLUMNS, ColumnNumbers, Enough, Parts, local, parts_of, tell
from ui.workbook.limits import MAX_CELL_CHARACTERS, WorkbookRefused

#: Of all parts that are read: of three million cells each may have a value, and a text of its own.
MAX_ELEMENTS = 12_000_000
_WHERE = "the workbook"
#: More than any number needs: 17 digits, two signs, a point, an exponent.
_MAX_NUMBER_CHARACTERS = 64
#: Excel's own limit.
_MAX_FORMAT_CHARACTERS = 255
#: What XML has no place for is written in seven characters (ECMA-376 part 1, 22.9.2.19).
_MAX_CHARACTERS = 7 * MAX_CELL_CHARACTERS
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_DIGITS, _ROW_DIGITS = "0123456789", 7

TakeRow = Callable[[list[str]], None]


def read_sheet(book: ZipFile, take: TakeRow) -> None:
    """Hand on each row that holds something; raises `WorkbookRefused`, `BatchRefused` for what is no XML."""
    parts = parts_of(book, _WHERE)
    if not parts.sheets:
        raise WorkbookRefused("it has no sheet: save it again, or as CSV")
    counted = _Elements()
    strings = _Strings(counted)
    if parts.strings:
        tell(book, parts.strings, _WHERE, strings.begins, strings.ends, strings.text)
    cells = _SheetCells(counted, strings.found, _dates_of(book, parts, counted), take)
    tell(book, parts.sheets[0], _WHERE, cells.begins, cells.ends, cells.text)


class _Elements:
    """Counts elements over all parts: each costs some time, however few bytes it came in."""

    def __init__(self) -> None:
        self._count = 0

    def add(self) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise WorkbookRefused(f"it has more than {MAX_ELEMENTS:,} elements: save it as CSV")


class _Characters:
    """The text of one cell, which may come in parts."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def add(self, part: str) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > _MAX_CHARACTERS:
            raise WorkbookRefused(
                f"it has a text of more than {MAX_CELL_CHARACTERS:,} characters: save it as CSV"
            )

    def taken(self) -> str:
        """All of it; the next begins."""
        text = "".join(self._parts)
        self._parts, self._size = [], 0
        return text


class _Strings:
    """The texts that cells share, without what tells how they are spoken."""

    def __init__(self, counted: _Elements) -> None:
        self.found: list[str] = []
        self._counted, self._characters = counted, _Characters()
        self._is_text = self._is_spoken = False

    def begins(self, name: str, _: dict[str, str]) -> None:
        self._counted.add()
        tag = local(name)
        if tag == "t":
            self._is_text = not self._is_spoken
        elif tag == "rPh":
            self._is_spoken = True

    def ends(self, name: str) -> None:
        tag = local(name)
        if tag == "t":
            self._is_text = False
        elif tag == "rPh":
            self._is_spoken = False
        elif tag == "si":
            self.found.append(_plain(self._characters.taken()))

    def text(self, part: str) -> None:
        if self._is_text:
            self._characters.add(part)


class _SheetCells:
    """The cells of a sheet as texts, row by row: with every digit, dates as ISO 8601 writes them."""

    def __init__(self, counted: _Elements, strings: list[str], dates: "_Dates", take: TakeRow) -> None:
        self._counted, self._strings, self._dates, self._take = counted, strings, dates, take
        self._columns, self._characters = ColumnNumbers(), _Characters()
        self._row_number = self._column = 0
        self._row: dict[int, str] = {}
        self._kind, self._style, self._text_tag = "n", "", "v"
        self._is_text = self._is_spoken = False

    def begins(self, name: str, attributes: dict[str, str]) -> None:
        self._counted.add()
        tag = local(name)
        if tag == self._text_tag:
            self._is_text = not self._is_spoken
        elif tag == "c":
            reference = attributes.get("r")
            self._column = self._columns[reference.rstrip(_DIGITS)] if reference else self._column + 1
            if not 0 < self._column <= MAX_COLUMNS:
                raise WorkbookRefused("it has a cell that is in no column: save it again, or as CSV")
            self._kind, self._style = attributes.get("t", "n"), attributes.get("s", "0")
            self._text_tag = "t" if self._kind == "inlineStr" else "v"
        elif tag == "row":
            self._begin_row(attributes.get("r", ""))
        elif tag == "rPh":
            self._is_spoken = True

    def ends(self, name: str) -> None:
        tag = local(name)
        if tag == self._text_tag:
            self._is_text = False
        elif tag == "c":
            if text := self._value(self._characters.taken()):
                self._row[self._column] = text
        elif tag == "row":
            if self._row:
                self._take([self._row.get(i, "") for i in range(1, max(self._row) + 1)])
        elif tag == "rPh":
            self._is_spoken = False
        elif tag == "sheetData":
            raise Enough

    def text(self, part: str) -> None:
        if self._is_text:
            self._characters.add(part)

    def _begin_row(self, reference: str) -> None:
        number = self._row_number + 1
        if reference:
            is_number = len(reference) <= _ROW_DIGITS and reference.isascii() and reference.isdigit()
            if not is_number or int(reference) < number:
                raise WorkbookRefused("its rows are not in their order: save it again, or as CSV")
            number = int(reference)
        self._row_number, self._column, self._row = number, 0, {}

    def _value(self, text: str) -> str:
        if not text:
            return ""
        try:
            match self._kind:
                case "s":
                    return self._strings[_whole(text)]
                case "n":
                    return self._dates.text(_number(text), self._style)
                case "b":
                    return "true" if _whole(text) else "false"
                case "inlineStr" | "str":
                    return _plain(text)
                case _:  # an error, or a date as it is written here
                    return text
        except (ValueError, IndexError):
            raise WorkbookRefused("it has a cell of something else than it says: save it as CSV") from None


class _Dates:
    """Which formats of cells, by their index, make dates of numbers; and which of these durations."""

    def __init__(self, is_from_1904: bool) -> None:
        self._epoch = MAC_EPOCH if is_from_1904 else WINDOWS_EPOCH
        self.formats: dict[str, bool] = {}

    def text(self, number: float, style: str) -> str:
        """A number as it is, or as the date that its format makes of it."""
        if style in self.formats:
            return self._date(number, self.formats[style])
        if isinstance(number, float) and number.is_integer() and abs(number) < 2**53:
            return str(int(number))
        return repr(number)

    def _date(self, number: float, is_duration: bool) -> str:
        try:
            found = from_excel(number, self._epoch, timedelta=is_duration)
        except (OverflowError, ValueError):
            return "#VALUE!"  # as Excel shows it
        return str(found) if is_duration else str(found.isoformat())


def _dates_of(book: ZipFile, parts: Parts, counted: _Elements) -> _Dates:
    dates = _Dates(parts.is_from_1904)
    codes = {str(number): code for number, code in BUILTIN_FORMATS.items()}
    of_cells, count = False, 0

    def begins(name: str, attributes: dict[str, str]) -> None:
        nonlocal of_cells, count
        counted.add()
        tag = local(name)
        if tag == "numFmt":
            code = attributes.get("formatCode", "")
            codes[attributes.get("numFmtId", "")] = code[:_MAX_FORMAT_CHARACTERS]
        elif tag == "cellXfs":
            of_cells = True
        elif tag == "xf" and of_cells:
            code = codes.get(attributes.get("numFmtId", ""), "")
            if is_date_format(code):
                dates.formats[str(count)] = is_timedelta_format(code)
            count += 1

    def ends(name: str) -> None:
        if local(name) == "cellXfs":
            raise Enough

    if parts.styles:
        tell(book, parts.styles, _WHERE, begins, ends)
    return dates


def _number(text: str) -> float:
    """An integer where it is written as one; raises `ValueError`."""
    if len(text) > _MAX_NUMBER_CHARACTERS:
        raise ValueError
    return float(text) if any(sign in text for sign in ".eE") else int(text)


def _whole(text: str) -> int:
    if not (len(text) <= _MAX_NUMBER_CHARACTERS and text.isascii() and text.isdigit()):
        raise ValueError
    return int(text)


def _plain(text: str) -> str:
    return _ESCAPED.sub(_unescaped, text) if "_x" in text else text


def _unescaped(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return found[0] if 0xD800 <= code < 0xE000 else chr(code)  # half a character is none
