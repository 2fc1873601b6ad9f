"""What a workbook may hold; what is larger is a file for `python -m server.batch`."""

MAX_ROWS, MAX_CELLS, MAX_TEXT_BYTES = 1_000_000, 3_000_000, 2**26
#: Excel's own limit.
MAX_CELL_CHARACTERS = 32_767
#: What the parts of a workbook may come to when they are unpacked.
MAX_UNPACKED_BYTES = 2**28


class WorkbookRefused(Exception):
    """A sentence for whoever sent the file."""
