"""Where the records of a CSV text lie: found for all of them at once, before any reader splits them.

One rule for every way a file comes in (RFC 4180): LF, CRLF or CR ends a record and
nothing else does; quotes stand around a whole cell and are doubled inside it; a blank
line is no record. Readers are forgiving about different things, so what one of them
makes of a text is only used once its rows have been counted against these.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from server.errors import HotrowError

Places: TypeAlias = npt.NDArray[np.intp]

LF, CR, QUOTE = 10, 13, 34


class MalformedCsv(HotrowError):
    """A quote that is neither around a cell nor doubled; `line` counts from 0, as in `Records`."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


class Records(NamedTuple):
    """The records of a text: where each begins and ends (its line end apart), its line from 0, its cells.

    Arrays of one length; places are in bytes. `quoted` says whether there is a quote in
    the text, `plain` whether the records are its lines: no CR, no blank ones, no line
    end inside quotes.
    """

    starts: Places
    ends: Places
    lines: Places
    cells: Places
    quoted: bool
    plain: bool


def find_records(text: bytes, separator: bytes, *, quotes: bool = True) -> Records:
    """The records of a text that ends with one; without `quotes` these are like any other character.

    Raises `MalformedCsv` at a misplaced or unclosed quote.
    """
    content = np.frombuffer(text, np.uint8)
    if records := _rectangle(text, content, separator):
        return records
    line_ends = content == LF
    returns = b"\r" in text
    if returns:
        line_ends |= content == CR
        # Of CRLF the CR is the end, and the LF belongs to it.
        line_ends[1:] &= ~((content[1:] == LF) & (content[:-1] == CR))
    cell_ends = content == separator[0]
    breaks = np.flatnonzero(line_ends)
    quoted = quotes and b'"' in text
    if quoted:
        inside = _inside_quotes(content, breaks, separator)
        line_ends &= ~inside
        cell_ends &= ~inside
    ends = np.flatnonzero(line_ends) if quoted else breaks
    plain = not returns and len(ends) == len(breaks)
    starts = np.empty(len(ends) + 1, np.intp)
    starts[0] = 0
    starts[1:] = ends + 1
    if returns:
        following = np.minimum(ends + 1, len(content) - 1)
        starts[1:] += (content[ends] == CR) & (content[following] == LF) & (following > ends)
    if starts[-1] >= len(content):
        starts = starts[:-1]
    else:
        ends = np.append(ends, len(content))
    before = np.concatenate([[0], np.cumsum(_counts(cell_ends, ends))])
    lines = np.searchsorted(breaks, starts) if quoted else np.arange(len(starts))
    records = Records(starts, ends, lines, np.diff(before) + 1, quoted, plain)
    filled = ends > starts
    if filled.all():
        return records
    return Records(starts[filled], ends[filled], lines[filled], records.cells[filled], quoted, plain=False)


def _rectangle(text: bytes, content: npt.NDArray[np.uint8], separator: bytes) -> Records | None:
    """The records of a text as programs write it, all of as many cells; None if it is another."""
    if b'"' in text or b"\r" in text or not text.endswith(b"\n"):
        return None
    line_ends = content == LF
    count = np.count_nonzero(line_ends)
    marks = np.flatnonzero(line_ends | (content == separator[0]))
    width = len(marks) // count
    ends = marks[width - 1 :: width]
    if len(marks) != count * width or not line_ends[ends].all():
        return None
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    if (starts == ends).any():  # a blank line
        return None
    return Records(starts, ends, np.arange(count), np.full(count, width), quoted=False, plain=True)


def _counts(marks: npt.NDArray[np.bool_], ends: Places) -> Places:
    """How many of the marks lie before each end and behind the one before."""
    places = np.flatnonzero(marks)
    return np.diff(np.searchsorted(places, ends), prepend=0)


def _inside_quotes(content: npt.NDArray[np.uint8], breaks: Places, separator: bytes) -> npt.NDArray[np.bool_]:
    """Which bytes lie between an opening quote and the closing one; raises `MalformedCsv`."""
    quotes = np.flatnonzero(content == QUOTE)
    # Every other quote opens, one in the middle of a cell (doubled) closes and opens again.
    opening, closing = quotes[::2], quotes[1::2]
    table = np.zeros(256, np.bool_)
    table[[separator[0], LF, CR, QUOTE]] = True
    misplaced = np.concatenate(
        [
            opening[(opening > 0) & ~table[content[opening - 1]]],
            closing[~table[content[np.minimum(closing + 1, len(content) - 1)]]],
        ]
    )
    if len(misplaced):
        raise MalformedCsv(int(np.searchsorted(breaks, misplaced.min())), _MISPLACED)
    if len(quotes) % 2:
        raise MalformedCsv(int(np.searchsorted(breaks, quotes[-1])), _UNCLOSED)
    # Sums of bytes wrap at 256, which is even: their last bit is the number's.
    return (np.cumsum(content == QUOTE, dtype=np.uint8) & 1).astype(np.bool_)


_MISPLACED = "a quote inside a cell: quotes stand around the whole cell, and one in it is doubled"
_UNCLOSED = "a quote that is never closed"
