"""Whether an ONNX file keeps weights in another file, read from its protocol buffers.

ONNX Runtime would open that file, wherever it is. The fields are those of
`onnx.proto`; the encoding is that of protobuf.dev, "Encoding", in which the same
length can be written in several ways, so bytes alone do not tell.
"""

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: For each message the fields that hold messages in which a tensor can be.
_INSIDE = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor
_DEEPEST = 100  # as protobuf itself


def has_external_data(content: bytes) -> bool:
    """Whether a tensor of the file says that its data are elsewhere, or the file is too odd to tell."""
    if b"location" not in content:  # the key that names the other file: no need to read a million numbers
        return False
    try:
        return _has(memoryview(content), "Model", 0)
    except (IndexError, ValueError):
        return True


def _has(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError("messages inside each other without end")
    for field, value in _fields(message):
        if kind == "Tensor" and field in (_EXTERNAL_DATA, _DATA_LOCATION) and value != 0:
            return True
        inner = _INSIDE[kind].get(field)
        if inner and isinstance(value, memoryview) and _has(value, inner, depth + 1):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, "memoryview | int"]]:
    """Number and value of each field: an integer, or the bytes of what has a length."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            length, at = _varint(message, at)
        if length is None or at + length > end:
            raise ValueError("a field of no known form, or beyond its message")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
