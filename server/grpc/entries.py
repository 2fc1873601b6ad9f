"""What a message would become, counted on the wire before protobuf makes anything of it.

Two bytes are an entry there, and some hundred in memory: 16 MiB of them took 1.8 GB and a minute.
"""

from collections.abc import Iterator

from server.errors import BodyTooLarge, MalformedBody

#: Inputs, outputs, parameters and dimensions; texts; numbers of `contents`. Raw contents have no such limit.
MAX_PARTS, MAX_TEXTS, MAX_NUMBERS = 2**14, 2**19, 2**21
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: By the path of its fields, which of them hold others (`open_inference_grpc.proto`).
_INPUTS, _PARAMETERS, _CONTENTS = (5,), ((4,), (5, 4), (6, 4)), (5, 5)
_NESTED = frozenset({_INPUTS, (6,), _CONTENTS, *_PARAMETERS})
_SHAPE, _TEXTS = (5, 3), (5, 5, 8)
#: Members of `contents` that hold numbers, each with its bytes where they have a fixed size.
_FIXED = {6: 4, 7: 8}
#: All bytes but the last of a varint.
_GO_ON = bytes(range(128, 256))


def check_entries(message: bytes) -> None:
    """Raise `BodyTooLarge` for a request to infer with too many entries, `MalformedBody` for none."""
    parts = texts = numbers = 0
    waiting: list[tuple[tuple[int, ...], memoryview]] = [((), memoryview(message))]
    while waiting:
        path, content = waiting.pop()
        for number, value in _fields(content):
            place = (*path, number)
            if place == _TEXTS:
                texts += 1
            elif path == _CONTENTS:
                numbers += _count(number, value)
            elif place == _SHAPE:
                parts += _count(number, value)
            else:
                parts += 1
            if place in _NESTED and value is not None:
                waiting.append((place, value))
            if parts > MAX_PARTS or texts > MAX_TEXTS or numbers > MAX_NUMBERS:
                raise BodyTooLarge(
                    f"expected at most {MAX_PARTS:,} inputs, outputs, parameters and dimensions, "
                    f"{MAX_TEXTS:,} texts and {MAX_NUMBERS:,} numbers in contents, got more: "
                    "send raw contents"
                )


def _count(number: int, packed: memoryview | None) -> int:
    """How many numbers a field holds: one, or those that are packed in it."""
    if packed is None:
        return 1
    if number in _FIXED:
        return len(packed) // _FIXED[number]
    return len(bytes(packed).translate(None, _GO_ON))


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """The number of each field, and its bytes if it has a length."""
    at, end = 0, len(content)
    while at < end:
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
        yield tag >> 3, value


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
