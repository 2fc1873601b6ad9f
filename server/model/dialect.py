"""How a text table was written: its encoding, separator and decimal mark, recognised from its head.

Excel in most of Europe writes `;`, decimal commas and Windows' code page; SQL tools
write tabs and `\\N`; R writes NA. A reader that knew commas and UTF-8 alone would
take such a file for one of a single unknown column.
"""

import codecs
import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

#: What other programs write for a missing value: R, pandas, SQL, Excel, Hive.
MISSING_WORDS = frozenset(
    ("", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "#N/A", "\\N", "<NA>")
)
SEPARATORS = (",", ";", "\t", "|")
#: So much of a file is looked at; a table of thousands of columns has a long header.
HEAD_BYTES = 1 << 20
_HEAD_RECORDS = 200
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}([.\u00a0\u202f ]\d{3})+),\d+")
_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_SEPARATOR_LINE = re.compile(r"\"?sep=(.)\"?\r?\n?")
_NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text table was written; `skip` lines stand before its header (`sep=;`)."""

    encoding: str = "utf-8"
    separator: str = ","
    decimal: str = "."
    skip: int = 0

    @property
    def words(self) -> str:
        """What is not as usual, for people: `cp1252, semicolons, decimal commas`; empty if all is."""
        unusual = [
            "" if self.encoding.startswith("utf-8") else self.encoding,
            "" if self.separator == "," else _NAMES.get(self.separator, repr(self.separator)),
            "" if self.decimal == "." else "decimal commas",
        ]
        return ", ".join(filter(None, unusual))


def recognise(head: bytes, names: Collection[str] = ()) -> Dialect:
    """The dialect of a table that begins with these bytes; `names` are columns that it should have."""
    encoding = encoding_of(head)
    text = head.decode(encoding, errors="replace")
    lines = text.splitlines(keepends=True)
    if len(head) >= HEAD_BYTES and len(lines) > 1:
        lines.pop()  # cut in its middle
    said = _SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
    if said:
        lines = lines[1:]
    lines = lines[:_HEAD_RECORDS]
    separator = said.group(1) if said else _separator(lines, names)
    return Dialect(encoding, separator, _decimal(lines, separator), 1 if said else 0)


def encoding_of(head: bytes) -> str:
    """The encoding by its mark, else UTF-8 or UTF-16 by their form, else Windows' or ISO's Latin-1."""
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    if b"\0" in head:
        # Latin letters in UTF-16 have a zero byte each: the second of the pair, or the first.
        return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # a letter cut at the end is none that is wrong
    except UnicodeDecodeError:
        # Five bytes mean nothing in cp1252; ISO 8859-1 has control characters there.
        return "latin-1" if any(byte in head for byte in b"\x81\x8d\x8f\x90\x9d") else "cp1252"
    return "utf-8"


def _separator(lines: Sequence[str], names: Collection[str]) -> str:
    """The separator that parts the header into most known names, then the one that parts it evenly."""

    def quality(separator: str) -> tuple[int, float, int]:
        records = _records(lines, separator)
        header = records[0] if records else []
        even = sum(len(record) == len(header) for record in records[1:]) / max(1, len(records) - 1)
        return (len(set(header) & set(names)), even if len(header) > 1 else 0.0, len(header))

    return max(SEPARATORS, key=quality)


def _decimal(lines: Sequence[str], separator: str) -> str:
    if separator == ",":
        return "."
    cells = [cell.strip() for record in _records(lines, separator)[1:] for cell in record]
    commas = sum(_COMMA.fullmatch(cell) is not None for cell in cells)
    return "," if commas > sum(_POINT.fullmatch(cell) is not None for cell in cells) else "."


def _records(lines: Sequence[str], separator: str) -> list[list[str]]:
    try:
        return [record for record in csv.reader(lines, delimiter=separator) if record]
    except csv.Error:  # a cell beyond the csv module's limit: no table in this separator
        return []
