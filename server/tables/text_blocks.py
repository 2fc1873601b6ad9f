"""A text cut into blocks of whole records, however long it is."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from server.errors import TableRefused
from server.tables.csv_records import CR, LF, QUOTE


class Readable(Protocol):
    """A text that is read in pieces."""

    def read(self, size: int, /) -> bytes: ...


def text_blocks(
    text: Readable,
    first_line: int,
    end_of_records: Callable[[bytes], int],
    *,
    block_bytes: int,
    max_record_bytes: int,
    rest: bytes = b"",
) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole records, and the line of the first of each.

    `end_of_records` is behind the last whole one, 0 if there is none; `rest` was read
    before. Raises `TableRefused` at a record of more than `max_record_bytes`.
    """
    while True:
        fresh = text.read(block_bytes)
        content = rest + fresh
        end = end_of_records(content) if fresh else len(content)
        if not content:
            return
        if not end and len(content) > max_record_bytes:
            raise TableRefused(
                f"expected records of at most {max_record_bytes} bytes, got a longer one at line "
                f"{first_line}: look for a quote that is never closed"
            )
        if end:
            yield first_line, content[:end]
            first_line += breaks(content[:end])
        rest = content[end:]


def breaks(text: bytes) -> int:
    """How many line ends there are: LF, CRLF or CR."""
    # A search for what is hardly ever there is faster than counting it, and NumPy counts in vectors.
    returns = text.count(b"\r") - text.count(b"\r\n") if b"\r" in text else 0
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == LF)) + returns


def end_of_lines(text: bytes) -> int:
    """Behind the last line end, 0 if there is none; a CR at the very end may be half of one."""
    return max(text.rfind(b"\n"), text.rfind(b"\r", 0, len(text) - 1)) + 1


def end_outside_quotes(text: bytes) -> int:
    """Behind the last line end that is not inside quotes, 0 if there is none."""
    end = end_of_lines(text)
    if b'"' not in text or text.count(b'"', 0, end) % 2 == 0:
        return end
    content = np.frombuffer(text, np.uint8, end)
    # Sums of bytes wrap at 256, which is even: their last bit is the number's.
    outside = np.cumsum(content == QUOTE, dtype=np.uint8) & 1 == 0
    ends = np.flatnonzero(((content == LF) | (content == CR)) & outside)
    return int(ends[-1]) + 1 if len(ends) else 0
