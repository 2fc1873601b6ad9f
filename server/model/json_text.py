"""JSON texts of anybody: the object in one, and what stands outside of its strings, without building it.

A parser makes an object of each element before anybody can say that there are too
many; a look at the text, in linear time, needs none.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

#: Looked at in one go: what NumPy makes of it stays in the processor's cache.
CHUNK_BYTES = 2**17
_QUOTE, _N = b'"N'

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Mask: TypeAlias = npt.NDArray[np.bool_]


def object_or_empty(text: bytes) -> dict[str, Any]:
    """The JSON object of a text, an empty one of what is none, as half a line that a crash left."""
    try:
        members = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return members if isinstance(members, dict) else {}


def has_more(text: bytes, character: bytes, limit: int) -> bool:
    """Whether one character stands more than `limit` times outside of the strings of a text."""
    if count_of(text, character) <= limit:  # with those in strings: nearly always
        return False
    count = 0
    for _, content, inside in _chunks(text):
        count += int(np.count_nonzero((content == character[0]) & ~inside))
        if count > limit:
            return True
    return False


def count_of(text: bytes, character: bytes) -> int:
    """How often one character stands in a text, in strings too: `bytes.count` takes three times as long."""
    content = np.frombuffer(text, np.uint8)
    chunks = (content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES))
    return sum(int(np.count_nonzero(chunk == character[0])) for chunk in chunks)


def nan_as_null(text: bytes) -> bytes | bytearray:
    """The text with null for each NaN outside of its strings, which are left as they are."""
    # NUL stands in no JSON: it keeps the place of each N within a string.
    if b"NaN" not in text or b"\0" in text:
        return text
    marked = bytearray(text)
    for start, content, inside in _chunks(text):
        np.frombuffer(marked, np.uint8, len(content), start)[inside & (content == _N)] = 0
    replaced = marked.replace(b"NaN", b"null")
    for start in range(0, len(replaced), CHUNK_BYTES):  # in place: a copy more is a body more
        there = np.frombuffer(memoryview(replaced)[start : start + CHUNK_BYTES], np.uint8)
        there[there == 0] = _N
    return replaced


def _chunks(text: bytes) -> Iterator[tuple[int, _Bytes, _Mask]]:
    """Where a chunk starts, its bytes, and which of them are inside of a string."""
    odd, start = np.uint8(0), 0
    while start < len(text):
        piece = text[start : start + CHUNK_BYTES]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # what the last one escapes belongs to it
            piece = text[start : start + CHUNK_BYTES + 1]
        if b"\\" in piece:  # pairs from the left, as JSON reads them; then a quote behind one is escaped
            piece = piece.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        content = np.frombuffer(piece, np.uint8)
        # Only whether the count of quotes is odd matters: it may go around at 256.
        inside = (np.cumsum(content == _QUOTE, dtype=np.uint8) + odd) & 1
        odd = inside[-1]
        yield start, content, inside.astype(np.bool_)
        start += len(piece)
