"""How far apart a worksheet's cells stand, told from its XML before a reader makes room for all between."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias
from xml.parsers import expat

from server.errors import BatchRefused

#: The reader makes a table of all places up to the last cell: one cell at a sheet's end would be 17 billion.
_MAX_PLACES, _PLACES_A_CELL = 50_000_000, 100
_PIECE_BYTES = 2**20
#: A tag or comment that is not whole is looked at again with each piece: an endless one would take for ever.
_MAX_TAG_BYTES = 2**22
_BOOK, _BOOK_PARTS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
_DIGITS, _COLUMN_LETTERS, _ROW_DIGITS = "0123456789", 3, 8
#: Between a namespace and a name, which has no blank.
_BLANK = " "

_Opens: TypeAlias = Callable[[str, dict[str, str]], None]


def check_places(path: Path) -> None:
    """Raise `BatchRefused` for a first sheet of cells so far apart that a table has no room for them.

    Errors of `zipfile` and `zlib` tell of a damaged file.
    """
    with zipfile.ZipFile(path) as book:
        # As the reader finds them: without regard to case, and by either slash.
        parts = {name.replace("\\", "/").lower(): name for name in book.namelist()}
        for name in _sheets(book, parts, path):
            cells = _Cells()
            _parse(book, name, cells.opens, path)
            if cells.places > max(_MAX_PLACES, _PLACES_A_CELL * cells.count):
                raise BatchRefused(
                    f"expected the {cells.count:,} cells of {name} in {path} side by side, got some among "
                    f"{cells.places:,} places: delete what stands far away from the table, or save it as .csv"
                )


class _Cells:
    """Counts the cells that hold something, and the places up to the last of them."""

    def __init__(self) -> None:
        self.count = 0
        self._row = self._column = self._last_row = self._last_column = 0
        self._row_text = ""
        self._columns = _ColumnNumbers()

    @property
    def places(self) -> int:
        return self._last_row * self._last_column

    def opens(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins: a value is counted where its cell stands. Called three times a cell."""
        tag = _local(name)
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


class _ColumnNumbers(dict[str, int]):
    """Which column a worksheet's letters name, counted from 1: 28 of AB. There are few: each is told once."""

    def __missing__(self, letters: str) -> int:
        if not (len(letters) <= _COLUMN_LETTERS and letters.isascii() and letters.isupper()):
            return 0  # for the reader to refuse
        number = 0
        for letter in letters:
            number = 26 * number + ord(letter) - 64
        self[letters] = number
        return number


def _sheets(book: zipfile.ZipFile, parts: dict[str, str], path: Path) -> list[str]:
    """The part of the first sheet, which alone is read; all of them where the book does not tell."""
    first: list[str] = []
    targets: dict[str, str] = {}

    def in_book(name: str, attributes: dict[str, str]) -> None:
        if _local(name) == "sheet" and not first:
            first.extend(value for key, value in attributes.items() if _local(key) == "id")

    def in_parts(_: str, attributes: dict[str, str]) -> None:
        targets.setdefault(attributes.get("Id", ""), attributes.get("Target", ""))

    for part, opens in ((_BOOK, in_book), (_BOOK_PARTS, in_parts)):
        if part in parts:
            _parse(book, parts[part], opens, path)
    target = targets.get(first[0], "") if first else ""
    below = target.removeprefix("/")
    found = below if below.startswith("xl/") else f"xl/{below}"
    if found.lower() in parts:
        return [parts[found.lower()]]
    return [
        name for part, name in parts.items() if part.startswith("xl/worksheets/") and part.endswith(".xml")
    ]


def _local(name: str) -> str:
    """A name without its namespace, whatever prefix it came with."""
    return name.rpartition(_BLANK)[2]


def _parse(book: zipfile.ZipFile, name: str, opens: _Opens, path: Path) -> None:
    """Tell the elements of a part as they begin, a piece at a time."""
    parser = expat.ParserCreate(namespace_separator=_BLANK)
    parser.StartElementHandler = opens
    size = 0
    try:
        with book.open(name) as file:
            while piece := file.read(_PIECE_BYTES):
                parser.Parse(piece)
                size += len(piece)
                if size - parser.CurrentByteIndex > _MAX_TAG_BYTES:
                    raise BatchRefused(
                        f"expected tags of at most {_MAX_TAG_BYTES:,} bytes in {name} of {path}, got "
                        "a longer one: save it as .csv"
                    )
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise BatchRefused(
            f"expected XML in {name} of {path}, got: {error}: save it again, or as .csv"
        ) from None
