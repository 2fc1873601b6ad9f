"""The XML of a workbook (ECMA-376), told an element at a time: nothing of it becomes a tree.

What a file says costs time by its bytes alone, whatever is repeated or nested in it.
"""

import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias
from xml.parsers import expat

from server.errors import BatchRefused

#: The reader makes a table of all places up to the last cell: one cell at a sheet's end would be 17 billion.
_MAX_PLACES, _PLACES_A_CELL = 50_000_000, 100
_DIGITS, _ROW_DIGITS = "0123456789", 8
#: A sheet's last column, XFD.
MAX_COLUMNS = 16_384
_COLUMN_LETTERS = 3
_PIECE_BYTES = 2**16
#: A tag or comment that is not whole is looked at again with each piece: an endless one would take for ever.
_MAX_TAG_BYTES = 2**18
_BOOK, _BOOK_PARTS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
#: Between a namespace and a name, which has no blank.
_BLANK = " "

Begins: TypeAlias = Callable[[str, dict[str, str]], None]
Ends: TypeAlias = Callable[[str], None]
TextOf: TypeAlias = Callable[[str], None]


class Enough(Exception):
    """Raised by who is told: what follows in the part does not matter."""


class Parts(NamedTuple):
    """Where a workbook has what; "" for what it has not.

    `sheets` is the part of the first sheet, or all of them where the book does not tell.
    """

    sheets: list[str]
    strings: str = ""
    styles: str = ""
    is_from_1904: bool = False


def check_places(path: Path) -> None:
    """Raise `BatchRefused` for a first sheet of cells so far apart that a table has no room for them.

    Errors of `zipfile` and `zlib` tell of a damaged file.
    """
    with zipfile.ZipFile(path) as book:
        for name in parts_of(book, str(path)).sheets:
            cells = _Cells()
            tell(book, name, str(path), cells.begins)
            if cells.places > max(_MAX_PLACES, _PLACES_A_CELL * cells.count):
                raise BatchRefused(
                    f"expected the {cells.count:,} cells of {name} in {path} side by side, got some among "
                    f"{cells.places:,} places: delete what stands far away from the table, or save it as .csv"
                )


def parts_of(book: zipfile.ZipFile, where: str) -> Parts:
    """The parts that make the first sheet; raises `BatchRefused` for what is no XML."""
    # As readers find them: without regard to case, and by either slash.
    parts = {name.replace("\\", "/").lower(): name for name in book.namelist()}
    first: list[str] = []
    targets: dict[str, str] = {}
    kinds: dict[str, str] = {}
    is_from_1904 = False

    def in_book(name: str, attributes: dict[str, str]) -> None:
        nonlocal is_from_1904
        if (tag := local(name)) == "sheet":
            first.extend(value for key, value in attributes.items() if local(key) == "id")
            raise Enough
        if tag == "workbookPr":
            is_from_1904 = attributes.get("date1904") in ("1", "true")

    def in_parts(_: str, attributes: dict[str, str]) -> None:
        target = attributes.get("Target", "")
        targets.setdefault(attributes.get("Id", ""), target)
        kinds.setdefault(attributes.get("Type", "").rpartition("/")[2], target)

    for part, begins in ((_BOOK, in_book), (_BOOK_PARTS, in_parts)):
        if part in parts:
            tell(book, parts[part], where, begins)

    def part_of(target: str) -> str:
        below = target.removeprefix("/")
        return parts.get((below if below.startswith("xl/") else f"xl/{below}").lower(), "")

    sheet = part_of(targets.get(first[0], "")) if first else ""
    sheets = [n for part, n in parts.items() if part.startswith("xl/worksheets/") and part.endswith(".xml")]
    strings, styles = (part_of(kinds.get(kind, "")) for kind in ("sharedStrings", "styles"))
    return Parts([sheet] if sheet else sheets, strings, styles, is_from_1904)


class ColumnNumbers(dict[str, int]):
    """Which column a worksheet's letters name, counted from 1: 28 of AB. There are few: each is told once."""

    def __missing__(self, letters: str) -> int:
        if not (
            len(letters) <= _COLUMN_LETTERS and letters.isascii() and letters.isalpha() and letters.isupper()
        ):
            return 0  # it names none
        number = 0
        for letter in letters:
            number = 26 * number + ord(letter) - 64
        self[letters] = number
        return number


def local(name: str) -> str:
    """A name without its namespace, whatever prefix it came with."""
    return name.rpartition(_BLANK)[2]


def tell(
    book: zipfile.ZipFile,
    part: str,
    where: str,
    begins: Begins,
    ends: Ends | None = None,
    text: TextOf | None = None,
) -> None:
    """Tell the elements of a part as they begin and end, and their text, a piece at a time.

    Raises `BatchRefused` for what is no XML; errors of `zipfile` and `zlib` tell of a damaged file.
    """

    def no_types(*_: object) -> None:  # no workbook has one, and its entities repeat themselves
        raise BatchRefused(f"expected no DTD in {part} of {where}, got one: save it again, or as .csv")

    parser = expat.ParserCreate(namespace_separator=_BLANK)
    parser.StartElementHandler = begins
    parser.EndElementHandler = ends
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = no_types
    size = 0
    try:
        with suppress(Enough), book.open(part) as file:
            while piece := file.read(_PIECE_BYTES):
                parser.Parse(piece)
                size += len(piece)
                if size - parser.CurrentByteIndex > _MAX_TAG_BYTES:
                    raise BatchRefused(
                        f"expected tags of at most {_MAX_TAG_BYTES:,} bytes in {part} of {where}, got "
                        "a longer one: save it as .csv"
                    )
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise BatchRefused(
            f"expected XML in {part} of {where}, got: {error}: save it again, or as .csv"
        ) from None


class _Cells:
    """Counts the cells that hold something, and the places up to the last of them."""

    def __init__(self) -> None:
        self.count = 0
        self._row = self._column = self._last_row = self._last_column = 0
        self._row_text = ""
        self._columns = ColumnNumbers()

    @property
    def places(self) -> int:
        return self._last_row * self._last_column

    def begins(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins: a value is counted where its cell stands. Called three times a cell."""
        tag = local(name)
        if tag == "c":
            if reference := attributes.get("r"):
                letters = reference.rstrip(_DIGITS)
                self._column = self._columns[letters]
                if (text := reference[len(letters) :]) != self._row_text:
                    self._go_to(text)
            else:  # the next one
                self._column += 1
        elif tag in ("v", "is"):
            self.count += 1
            self._last_row = max(self._last_row, self._row)
            self._last_column = max(self._last_column, self._column)
        elif tag == "row":
            self._row, self._row_text, self._column = self._row + 1, "", 0
            self._go_to(attributes.get("r", ""))

    def _go_to(self, text: str) -> None:
        if len(text) < _ROW_DIGITS and text.isdecimal():  # another is for the reader to refuse
            self._row, self._row_text = int(text), text
