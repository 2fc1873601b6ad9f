"""`python -m ui.workbook.child read|write`: standard input to standard output, within limits of the kernel.

`read` takes a workbook and gives its first sheet as CSV, `write SEPARATOR DECIMAL` the other way
round. It exits with 4 and a sentence for what is refused.
"""

import csv
import io
import re
import resource
import sys
import zlib
from collections.abc import Iterable, Sequence
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from server.errors import BatchRefused
from ui.workbook.limits import (
    MAX_CELL_CHARACTERS,
    MAX_CELLS,
    MAX_ROWS,
    MAX_TEXT_BYTES,
    MAX_UNPACKED_BYTES,
    WorkbookRefused,
)

MEMORY_BYTES = 2**30
#: Three million cells take 20 to read and 60 to write.
CPU_SECONDS = {"read": 40, "write": 90}
REFUSED = 4
#: A number that is written back as it stands: no leading zeros, no more digits than a float64 has.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,17})?(?:e[-+]?\d{1,3})?", re.ASCII)
#: As Excel writes what XML has no place for (ECMA-376 part 1, 22.9.2.19), and what looks like that.
_OUTSIDE_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_SHEET = "Scored"


def main() -> None:
    """Do as the argument says."""
    what = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS[what], CPU_SECONDS[what] + 1))
    content = sys.stdin.buffer.read()
    try:
        made = csv_of(content) if what == "read" else workbook_of(content, *sys.argv[2:4])
    except (WorkbookRefused, MemoryError) as refusal:
        why = str(refusal) or "it needs more memory than a workbook should"
        sys.stderr.write(f"expected an Excel workbook (.xlsx) or CSV: {why}")
        sys.exit(REFUSED)
    except BatchRefused as refusal:  # a sentence of its own
        sys.stderr.write(str(refusal))
        sys.exit(REFUSED)
    sys.stdout.buffer.write(made)


def csv_of(content: bytes) -> bytes:
    """The first sheet of a workbook as CSV in UTF-8; raises `WorkbookRefused` or `BatchRefused`."""
    from ui.workbook.sheet import read_sheet  # the limits hold for its libraries too

    table = _CsvText()
    try:
        with ZipFile(io.BytesIO(content)) as book:
            _check_parts(book)
            read_sheet(book, table.take)
    except (BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, OSError):
        raise WorkbookRefused("it is no whole .xlsx workbook: save it as .xlsx or CSV") from None
    return table.text()


def _check_parts(book: ZipFile) -> None:
    """Look at what the parts say of themselves before anything is unpacked: no more of them is read."""
    size = sum(part.file_size for part in book.infolist())
    if size > MAX_UNPACKED_BYTES:
        raise WorkbookRefused(
            f"it unpacks to {size:,} bytes, more than {MAX_UNPACKED_BYTES:,}: save it as CSV"
        )
    # Of others `zipfile` unpacks as much at once as comes out; ECMA-376 part 2 names these two.
    if any(part.compress_type not in (ZIP_STORED, ZIP_DEFLATED) for part in book.infolist()):
        raise WorkbookRefused("it is packed as no workbook is: save it again, or as CSV")


class _CsvText:
    """Rows that become CSV, counted as they come."""

    def __init__(self) -> None:
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        # A lone carriage return ends a record too, and is left bare.
        self._quoting = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._rows = self._cells = self._width = 0

    def take(self, values: Sequence[str]) -> None:
        """A row without empty cells at its end."""
        self._rows += 1
        self._cells += len(values)
        if self._rows > MAX_ROWS or self._cells > MAX_CELLS or self._text.tell() > MAX_TEXT_BYTES:
            raise WorkbookRefused(
                f"it has more than {MAX_ROWS:,} rows, {MAX_CELLS:,} cells or {MAX_TEXT_BYTES:,} bytes of "
                "text: save it as CSV"
            )
        self._width = self._width or len(values)  # the header's: a sheet's empty ends are no cells
        is_broken = any("\r" in value for value in values)
        padding = [""] * (self._width - len(values))
        (self._quoting if is_broken else self._writer).writerow([*values, *padding])

    def text(self) -> bytes:
        """All of them, in UTF-8."""
        return self._text.getvalue().encode()


def workbook_of(content: bytes, separator: str, decimal: str) -> bytes:
    """A workbook of one sheet from CSV in UTF-8: numbers as numbers, all else as text, nothing runs."""
    import openpyxl

    text = content.decode("utf-8-sig")
    _check_table(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet(_SHEET)
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
        sheet.append([_cell(sheet, cell, decimal) for cell in row])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _check_table(rows: Iterable[Sequence[str]]) -> None:
    count = cells = 0
    for count, row in enumerate(rows, start=1):
        cells += len(row)
        if count > MAX_ROWS or cells > MAX_CELLS:
            raise WorkbookRefused(
                f"it has more than {MAX_ROWS:,} rows or {MAX_CELLS:,} cells: take it as CSV"
            )
        if max(map(len, row), default=0) > MAX_CELL_CHARACTERS:
            raise WorkbookRefused(
                f"it has a text of more than {MAX_CELL_CHARACTERS:,} characters: take it as CSV"
            )


def _cell(sheet: Any, text: str, decimal: str) -> Any:
    from openpyxl.cell import WriteOnlyCell

    if _NUMBER.fullmatch(figure := text.replace(decimal, ".")):
        return int(figure) if figure.lstrip("-").isdigit() else float(figure)
    cell = WriteOnlyCell(sheet, value=_OUTSIDE_XML.sub(_escaped, text))
    cell.data_type = "s"  # never a formula
    return cell


def _escaped(found: re.Match[str]) -> str:
    return f"_x{ord(found[0]):04X}_"


if __name__ == "__main__":
    main()
