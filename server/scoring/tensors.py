"""Tensors of the Open Inference Protocol, in JSON and binary: bytes in, arrays out, and back.

Sources: `specification/protocol/inference_rest.md` of kserve/open-inference-protocol;
`docs/protocol/extension_binary_data.md` of triton-inference-server/server. Nothing
here knows a model or HTTP.
"""

import math
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from server.errors import MalformedBody

#: One-dimensional, in row-major order.
Array: TypeAlias = npt.NDArray[Any]

#: The protocol's datatypes as NumPy's, little-endian as the extension asks.
DTYPES = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
BYTES = "BYTES"
MAX_DIMENSIONS = 8
_STRING_OR_NAN = re.compile(rb'"(?:[^"\\]|\\.)*"|NaN')
_LENGTH_BYTES = 4  # before each element of a BYTES tensor


class Tensor(NamedTuple):
    """One tensor; `values` are flat and in row-major order, objects (str or None) of BYTES."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Array


class InputHead(msgspec.Struct):
    """What a request's JSON says of one input; members that are not named here are ignored."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class OutputHead(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class RequestHead(msgspec.Struct):
    """The JSON of an inference request."""

    inputs: list[InputHead]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[OutputHead] = []


_request = msgspec.json.Decoder(RequestHead)
# An element or a row of elements: deeper data belongs to no tensor of ours.
_numbers = msgspec.json.Decoder(list[float | list[float | None] | None])
_integers = msgspec.json.Decoder(list[int | list[int | None] | None])
_booleans = msgspec.json.Decoder(list[bool | list[bool | None] | None])
_texts = msgspec.json.Decoder(list[str | list[str | None] | None])


def read_request(body: bytes, head_bytes: int, *, nan: bool = False) -> tuple[RequestHead, list[Tensor]]:
    """The head and the input tensors of a request whose JSON is `head_bytes` long.

    With `nan` the word NaN, which JSON does not have and Triton's clients send, is
    a missing value. Binary tensors are views into `body`, not copies. Raises
    `MalformedBody`.
    """
    text = memoryview(body)[:head_bytes]
    if nan and body.find(b"NaN", 0, head_bytes) >= 0:
        text = memoryview(_STRING_OR_NAN.sub(_null_for_nan, text))
    head = _decode(_request, text, "the request")
    tensors, start = [], head_bytes
    for given in head.inputs:
        size = given.parameters.get("binary_data_size")
        if (size is None) == (given.data is msgspec.UNSET):
            raise MalformedBody(
                f"expected data or binary_data_size in input {_quoted(given.name)}, got both or neither"
            )
        if size is None:
            tensors.append(_json_tensor(given))
            continue
        if type(size) is not int or not 0 <= size <= len(body) - start:
            raise MalformedBody(
                f"expected a binary_data_size within the body for input {_quoted(given.name)}, got another"
            )
        tensors.append(_binary_tensor(given, memoryview(body)[start : start + size]))
        start += size
    if start != len(body):
        raise MalformedBody(f"expected a body of {start} bytes after its JSON, got {len(body)}")
    return head, tensors


def _null_for_nan(found: "re.Match[bytes]") -> bytes:
    return b"null" if found.group() == b"NaN" else found.group()


def _decode(decoder: "msgspec.json.Decoder[Any]", text: Any, what: str) -> Any:
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedBody(f"expected {what} as the protocol writes it, got: {error}") from None
    except RecursionError:
        raise MalformedBody(f"expected {what} as the protocol writes it, got deeper nesting") from None


def _shape(given: InputHead) -> tuple[tuple[int, ...], int]:
    shape = tuple(given.shape)
    if not 0 < len(shape) <= MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise MalformedBody(f"expected a shape of sizes from 0 for input {_quoted(given.name)}, got another")
    # Python's integers: a product beyond 2^64 is large, not small.
    return shape, math.prod(shape)


def _json_tensor(given: InputHead) -> Tensor:
    shape, count = _shape(given)
    what = f"data of input {_quoted(given.name)} ({given.datatype})"
    flat = _flat(_decode(_decoder_of(given), given.data, what), shape, what)
    if len(flat) != count:
        raise MalformedBody(f"expected {count} elements in {what}, got {len(flat)}")
    return Tensor(given.name, given.datatype, shape, _array(flat, given.datatype, what))


def _decoder_of(given: InputHead) -> "msgspec.json.Decoder[Any]":
    if given.datatype == BYTES:
        return _texts
    if given.datatype not in DTYPES:
        raise _unknown(given)
    if given.datatype == "FP16":
        raise MalformedBody("expected FP16 as a binary tensor, got JSON, which has no such numbers")
    if given.datatype == "BOOL":
        return _booleans
    return _numbers if given.datatype.startswith("FP") else _integers


def _flat(data: list[Any], shape: tuple[int, ...], what: str) -> list[Any]:
    """The elements of flat data, or of rows of the last dimension's size."""
    if not data or type(data[0]) is not list:
        if any(type(element) is list for element in data):
            raise MalformedBody(f"expected elements or rows in {what}, got both")
        return data
    if any(type(row) is not list or len(row) != shape[-1] for row in data) or len(shape) != 2:
        raise MalformedBody(f"expected rows of {shape[-1]} elements in {what}, got others")
    return list(chain.from_iterable(data))


def _array(flat: list[Any], datatype: str, what: str) -> Array:
    if datatype == BYTES:
        return np.array(flat, dtype=object)
    if datatype.startswith("FP"):
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which no feature takes
            return np.array(flat, dtype=DTYPES[datatype])  # None becomes NaN
    if None in flat:
        raise MalformedBody(f"expected no null in {what}, got one: only FP and BYTES can lack a value")
    try:
        return np.array(flat, dtype=DTYPES[datatype])
    except OverflowError:
        raise MalformedBody(f"expected numbers of the datatype in {what}, got larger ones") from None


def _binary_tensor(given: InputHead, content: memoryview) -> Tensor:
    shape, count = _shape(given)
    if given.datatype == BYTES:
        return Tensor(given.name, BYTES, shape, _read_texts(given, content, count))
    if given.datatype not in DTYPES:
        raise _unknown(given)
    dtype = DTYPES[given.datatype]
    if len(content) != count * dtype.itemsize:
        raise MalformedBody(
            f"expected {count * dtype.itemsize} bytes for input {_quoted(given.name)}, got {len(content)}"
        )
    return Tensor(given.name, given.datatype, shape, np.frombuffer(content, dtype=dtype))


def _read_texts(given: InputHead, content: memoryview, count: int) -> Array:
    texts: list[str] = []
    start = 0
    try:
        while start < len(content):
            end = start + _LENGTH_BYTES + int.from_bytes(content[start : start + _LENGTH_BYTES], "little")
            if end > len(content):
                raise ValueError
            texts.append(bytes(content[start + _LENGTH_BYTES : end]).decode())
            start = end
        if len(texts) != count:
            raise ValueError
    except ValueError:
        raise MalformedBody(
            f"expected {count} texts with their lengths in input {_quoted(given.name)}, got other bytes"
        ) from None
    return np.array(texts, dtype=object)


def _unknown(given: InputHead) -> MalformedBody:
    return MalformedBody(f"expected a datatype of the protocol for input {_quoted(given.name)}, got another")


def _quoted(name: str) -> str:
    """A name as it may stand in a message: bounded."""
    return repr(name if len(name) <= 64 else name[:64] + "…")


def write_response(
    head: dict[str, Any], outputs: Sequence[Tensor], binary: Iterable[bool]
) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON if binary tensors follow it."""
    described, contents = [], []
    for tensor, as_binary in zip(outputs, binary, strict=True):
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if as_binary:
            content = _bytes_of(tensor)
            entry["parameters"] = {"binary_data_size": len(content)}
            contents.append(content)
        else:
            entry["data"] = tensor.values.tolist() if tensor.datatype == BYTES else tensor.values
        described.append(entry)
    text = orjson.dumps(head | {"outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not contents:
        return text, None
    return b"".join([text, *contents]), len(text)


def _bytes_of(tensor: Tensor) -> bytes:
    if tensor.datatype != BYTES:
        return tensor.values.astype(DTYPES[tensor.datatype], copy=False).tobytes()
    texts = [text.encode() for text in tensor.values.tolist()]
    return b"".join(len(text).to_bytes(_LENGTH_BYTES, "little") + text for text in texts)
