"""`python -m ui.workbook.child read|write`: standard input to standard output, within limits of the kernel.

`read` takes a workbook and gives its first sheet as CSV, `write SEPARATOR DECIMAL` the other way
round. It exits with 4 and a sentence for what is refused, and with a traceback for what openpyxl
cannot read.
"""

import csv
import io
import re
import resource
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from typing import Any
from zipfile import BadZipFile, ZipFile

#: What is larger is a file for `python -m server.batch`.
MAX_ROWS, MAX_CELLS, MAX_TEXT_BYTES = 1_000_000, 3_000_000, 2**26
#: Excel's own limit.
MAX_CELL_CHARACTERS = 32_767
#: What the parts of a workbook may come to when they are unpacked.
MAX_UNPACKED_BYTES = 2**28
MEMORY_BYTES, CPU_SECONDS = 2**30, 90
REFUSED = 4
#: A number that is written back as it stands: no leading zeros, no more digits than a float64 has.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,17})?(?:e[-+]?\d{1,3})?", re.ASCII)
#: As Excel writes what XML has no place for (ECMA-376 part 1, 22.9.2.19), and what looks like that.
_OUTSIDE_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_SHEET = "Scored"


class WorkbookRefused(Exception):
    """A sentence for whoever sent the file."""


def main() -> None:
    """Do as the argument says."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    content = sys.stdin.buffer.read()
    try:
        made = csv_of(content) if sys.argv[1] == "read" else workbook_of(content, *sys.argv[2:4])
    except (WorkbookRefused, MemoryError) as refusal:
        sys.stderr.write(str(refusal) or "it needs more memory than a workbook should")
        sys.exit(REFUSED)
    sys.stdout.buffer.write(made)


def csv_of(content: bytes) -> bytes:
    """The first sheet of a workbook as CSV in UTF-8; raises `WorkbookRefused`."""
    import openpyxl  # the limits hold for it too

    _check_size(content)
    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    sheet = book.worksheets[0]
    sheet.reset_dimensions()
    return _csv(sheet.iter_rows(values_only=True))


def _check_size(content: bytes) -> None:
    """Look at what the parts say of themselves before anything is unpacked."""
    try:
        with ZipFile(io.BytesIO(content)) as file:
            size = sum(part.file_size for part in file.infolist())
    except (BadZipFile, ValueError, OSError, NotImplementedError):
        raise WorkbookRefused("it is no .xlsx workbook: save it as .xlsx or CSV") from None
    if size > MAX_UNPACKED_BYTES:
        raise WorkbookRefused(
            f"it unpacks to {size:,} bytes, more than {MAX_UNPACKED_BYTES:,}: save it as CSV"
        )


def _csv(rows: Iterator[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    # A lone carriage return ends a record too, and is left bare.
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    cells = width = 0
    for number, row in enumerate(rows):
        values = [_text(value) for value in row]
        while values and not values[-1]:
            values.pop()
        cells += len(values)
        if number >= MAX_ROWS or cells > MAX_CELLS or text.tell() > MAX_TEXT_BYTES:
            raise WorkbookRefused(
                f"it has more than {MAX_ROWS:,} rows, {MAX_CELLS:,} cells or {MAX_TEXT_BYTES:,} bytes of "
                "text: save it as CSV"
            )
        if values:
            width = width or len(values)  # the header's: a sheet's empty ends are no cells
            is_broken = any("\r" in value for value in values)
            (quoting if is_broken else writer).writerow([*values, *[""] * (width - len(values))])
    return text.getvalue().encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return _ESCAPED.sub(_unescaped, value) if isinstance(value, str) else str(value)


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


def _unescaped(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return found[0] if 0xD800 <= code < 0xE000 else chr(code)  # half a character is none


if __name__ == "__main__":
    main()
