"""Thrift's compact protocol as far as footers of Parquet use it: read, changed, written again.

The rules are those of Apache Thrift's doc/specs/thrift-compact-protocol.md. What a
structure means is not known here, so members of newer versions come out as they went in.
"""

from typing import Any, NamedTuple, TypeAlias

I32, I64, LIST, STRUCT = 5, 6, 9, 12
_TRUE, _FALSE, _I8, _I16, _DOUBLE, _BINARY, _SET = 1, 2, 3, 4, 7, 8, 10
_INTEGERS = (_I16, I32, I64)
#: A list of so many elements or more has its size apart from its kind.
_LONG_LIST = 15


class Value(NamedTuple):
    """A value and its kind; of a list `content` is a list of values, of a structure a `Struct`."""

    kind: int
    content: Any


#: The members of a structure by their numbers.
Struct: TypeAlias = dict[int, Value]


def read_struct(content: bytes) -> Struct:
    """The structure that `content` begins with; raises `IndexError` or `ValueError` if it is none."""
    return _Reader(content).struct()


def written(struct: Struct) -> bytes:
    """The bytes of a structure."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def _byte(self) -> int:
        byte = self._content[self._at]
        self._at += 1
        return byte

    def _bytes(self, size: int) -> bytes:
        found = self._content[self._at : self._at + size]
        if len(found) < size:
            raise IndexError
        self._at += size
        return found

    def _unsigned(self) -> int:
        number, shift = 0, 0
        while (byte := self._byte()) >= 0x80:
            number |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("expected a number of 64 bits, got a longer one")
        return number | byte << shift

    def _signed(self) -> int:
        number = self._unsigned()
        return number >> 1 ^ -(number & 1)

    def struct(self) -> Struct:
        members: Struct = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            # Of a boolean member the kind is the value.
            members[number] = Value(kind, None if kind in (_TRUE, _FALSE) else self._value(kind))
        return members

    def _value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self._signed()
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind == STRUCT:
            return self.struct()
        if kind in (LIST, _SET):
            head = self._byte()
            size = head >> 4 if head >> 4 < _LONG_LIST else self._unsigned()
            return [Value(head & 15, self._value(head & 15)) for _ in range(size)]
        if kind in (_TRUE, _FALSE, _I8):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        raise ValueError(f"expected a kind of value that Parquet uses, got {kind}")


def _write_struct(out: bytearray, struct: Struct) -> None:
    before = 0
    for number, value in sorted(struct.items()):
        if 0 < number - before <= 15:
            out.append(number - before << 4 | value.kind)
        else:
            out.append(value.kind)
            _write_signed(out, number)
        before = number
        if value.content is not None:
            _write(out, value)
    out.append(0)


def _write(out: bytearray, value: Value) -> None:
    kind, content = value
    if kind in _INTEGERS:
        _write_signed(out, content)
    elif kind == _BINARY:
        _write_unsigned(out, len(content))
        out += content
    elif kind == STRUCT:
        _write_struct(out, content)
    elif kind in (LIST, _SET):
        inner = content[0].kind if content else STRUCT
        if len(content) < _LONG_LIST:
            out.append(len(content) << 4 | inner)
        else:
            out.append(_LONG_LIST << 4 | inner)
            _write_unsigned(out, len(content))
        for element in content:
            _write(out, element)
    elif kind == _DOUBLE:
        out += content
    else:
        out.append(content)


def _write_unsigned(out: bytearray, number: int) -> None:
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _write_signed(out: bytearray, number: int) -> None:
    _write_unsigned(out, number << 1 ^ number >> 63)
