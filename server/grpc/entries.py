"""What a message would become, counted on the wire before protobuf makes anything of it.

Two bytes are an entry there, and some hundred in memory: 16 MiB of them took 1.8 GB and a minute.
Raw contents are left where they lie: each copy of them is another 16 MiB.
"""

from collections.abc import Iterator
from typing import NamedTuple

from server.errors import BodyTooLarge, MalformedBody

#: Inputs, outputs, parameters and dimensions; texts; numbers of `contents`. Raw contents have no such limit.
MAX_PARTS, MAX_TEXTS, MAX_NUMBERS = 2**14, 2**19, 2**21
#: Of the names, ids and parameters of a request together, and of a text of `contents`.
MAX_NAMES_BYTES = MAX_TEXT_BYTES = 2**20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: By the path of its fields, which of them hold others (`open_inference_grpc.proto`).
_INPUTS, _PARAMETERS, _CONTENTS = (5,), ((4,), (5, 4), (6, 4)), (5, 5)
_NESTED = frozenset({_INPUTS, (6,), _CONTENTS, *_PARAMETERS})
_SHAPE, _TEXTS, _RAW = (5, 3), (5, 5, 8), (7,)
#: Members of `contents` that hold numbers, each with its bytes where they have a fixed size.
_FIXED = {6: 4, 7: 8}
#: All bytes but the last of a varint.
_GO_ON = bytes(range(128, 256))
#: Of varints so many bytes are copied at once to count them.
_PIECE_BYTES = 2**16


class _Field(NamedTuple):
    """A field: its number, its bytes if it has a length, and all of it."""

    number: int
    value: memoryview | None
    whole: memoryview


def split(message: bytes) -> tuple[bytes, list[memoryview]]:
    """A request to infer without its raw contents, and these as they lie in the message.

    Raises `BodyTooLarge` for too many entries or too long names, `MalformedBody` for another message.
    """
    parts = texts = numbers = names_bytes = longest = 0
    raw: list[memoryview] = []
    others: list[memoryview] = []
    waiting: list[tuple[tuple[int, ...], memoryview]] = [((), memoryview(message))]
    while waiting:
        path, content = waiting.pop()
        for number, value, whole in _fields(content):
            place = (*path, number)
            if place == _TEXTS:
                texts += 1
                longest = max(longest, len(whole))
            elif path == _CONTENTS:
                numbers += _count(number, value)
            elif place == _SHAPE:
                parts += _count(number, value)
            else:
                parts += 1
            if value is not None and place == _RAW:
                raw.append(value)
            elif not path:
                others.append(whole)
            if value is not None and place in _NESTED:
                waiting.append((place, value))
            elif value is not None and place not in (_RAW, _SHAPE) and path != _CONTENTS:
                names_bytes += len(value)
            if parts > MAX_PARTS or texts > MAX_TEXTS or numbers > MAX_NUMBERS:
                raise BodyTooLarge(
                    f"expected at most {MAX_PARTS:,} inputs, outputs, parameters and dimensions, "
                    f"{MAX_TEXTS:,} texts and {MAX_NUMBERS:,} numbers in contents, got more: "
                    "send raw contents"
                )
            if names_bytes > MAX_NAMES_BYTES or longest > MAX_TEXT_BYTES:
                raise BodyTooLarge(
                    f"expected at most {MAX_NAMES_BYTES:,} bytes of names, ids and parameters, "
                    f"{MAX_TEXT_BYTES:,} of a text in contents, got more"
                )
    return b"".join(others) if raw else message, raw


def _count(number: int, packed: memoryview | None) -> int:
    """How many numbers a field holds: one, or those that are packed in it."""
    if packed is None:
        return 1
    if number in _FIXED:
        return len(packed) // _FIXED[number]
    pieces = (bytes(packed[at : at + _PIECE_BYTES]) for at in range(0, len(packed), _PIECE_BYTES))
    return sum(len(piece.translate(None, _GO_ON)) for piece in pieces)


def _fields(content: memoryview) -> Iterator[_Field]:
    at, end = 0, len(content)
    while at < end:
        start = at
        tag, at = _varint(content, at)
        kind, value = tag & 7, None
        if kind == _VARINT:
            _, at = _varint(content, at)
        elif kind == _BYTES:
            size, at = _varint(content, at)
            value = content[at : at + size]
            at += size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:  # groups, which no message of the protocol has
            raise _malformed()
        if at > end:
            raise _malformed()
        yield _Field(tag >> 3, value, content[start:at])


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and the place behind it."""
    number = 0
    for shift in range(0, 70, 7):
        if at + shift // 7 >= len(content):
            break
        byte = content[at + shift // 7]
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at + shift // 7 + 1
    raise _malformed()


def _malformed() -> MalformedBody:
    return MalformedBody("expected a ModelInferRequest, got another message")
