"""Tensors of the Open Inference Protocol, in JSON and binary: bytes in, arrays out, and back.

Sources: `specification/protocol/inference_rest.md` of kserve/open-inference-protocol;
`docs/protocol/extension_binary_data.md` of triton-inference-server/server. Nothing
here knows a model or HTTP.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from server.errors import MalformedBody
from server.model.json_text import has_more, nan_as_null

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
#: Of a shape's text: so many sizes of 20 digits, and room for blanks.
MAX_SHAPE_BYTES = 256
#: Beside an object or two for each input a request has some for its outputs, and what others add.
MAX_OTHER_OBJECTS = 1000
#: Characters of a request's id, which comes back, and may be logged.
MAX_ID = 256
_NULL = msgspec.Raw(b"null")
_LENGTH_BYTES = 4  # before each element of a BYTES tensor


class Tensor(NamedTuple):
    """One tensor; `values` are flat and in row-major order, objects (str or None) of BYTES."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Array


class InputParameters(msgspec.Struct):
    """The parameters of an input; those that are not named here are ignored, and not built."""

    binary_data_size: int | None = None


class OutputParameters(msgspec.Struct):
    """The parameters of an output that is asked for."""

    binary_data: bool | None = None
    classification: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    shared_memory_region: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class RequestParameters(msgspec.Struct):
    """The parameters of a request; `timeout` is in microseconds, as Triton has it."""

    binary_data_output: bool | None = None
    timeout: int | None = None


# null is an optional member that is absent: many serialisers write it by default.


class InputHead(msgspec.Struct):
    """What a request's JSON says of one input; members that are not named here are ignored."""

    name: str
    datatype: str
    #: Parsed by `shape_of`, which looks at its length first.
    shape: msgspec.Raw
    parameters: InputParameters | None = None
    data: msgspec.Raw = _NULL

    @property
    def binary_bytes(self) -> int | None:
        """The length of the binary data, None if the data is JSON."""
        return self.parameters.binary_data_size if self.parameters is not None else None


class OutputHead(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: OutputParameters | None = None


class RequestHead(msgspec.Struct):
    """The JSON of an inference request."""

    inputs: list[InputHead]
    id: Annotated[str, msgspec.Meta(max_length=MAX_ID)] | int | None = None
    parameters: RequestParameters | None = None
    outputs: list[OutputHead] | None = None


_request = msgspec.json.Decoder(RequestHead)
_shapes = msgspec.json.Decoder(list[int])
# An element or a row of elements: deeper data belongs to no tensor of ours.
_numbers = msgspec.json.Decoder(list[float | list[float | None] | None])
_integers = msgspec.json.Decoder(list[int | list[int | None] | None])
_booleans = msgspec.json.Decoder(list[bool | list[bool | None] | None])
_texts = msgspec.json.Decoder(list[str | list[str | None] | None])


def read_head(text: bytes, max_inputs: int, *, nan: bool = False) -> RequestHead:
    """The head of a request, of at most about so many inputs, whose data is not looked at yet.

    With `nan` the word NaN, which JSON does not have and Triton's clients send, is
    a missing value. Raises `MalformedBody`.
    """
    if has_more(text, b"{", 2 * max_inputs + MAX_OTHER_OBJECTS):
        raise MalformedBody(f"expected at most {max_inputs} inputs, got more objects than they have")
    head: RequestHead = _decode(_request, nan_as_null(text) if nan else text, "the request")
    return head


def read_tensors(inputs: Sequence[InputHead], content: memoryview) -> list[Tensor]:
    """The input tensors, of which the binary ones lie in `content` and are views into it.

    The shapes are believed: who calls has checked what `shape_of` says. Raises
    `MalformedBody`.
    """
    tensors, start = [], 0
    for given in inputs:
        size = given.binary_bytes
        if (size is None) == (given.data == _NULL):
            raise MalformedBody(
                f"expected data or binary_data_size in input {_quoted(given.name)}, got both or neither"
            )
        if size is None:
            tensors.append(_json_tensor(given))
            continue
        if not 0 <= size <= len(content) - start:
            raise MalformedBody(
                f"expected a binary_data_size within the body for input {_quoted(given.name)}, got another"
            )
        tensors.append(_binary_tensor(given, content[start : start + size]))
        start += size
    if start != len(content):
        raise MalformedBody(f"expected {start} bytes of binary data after the JSON, got {len(content)}")
    return tensors


def shape_of(given: InputHead) -> tuple[int, ...]:
    """The shape of an input; raises `MalformedBody` for what is none."""
    text = memoryview(given.shape)
    shape = tuple(_decode(_shapes, text, "a shape")) if len(text) <= MAX_SHAPE_BYTES else ()
    if not 0 < len(shape) <= MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise MalformedBody(f"expected a shape of sizes from 0 for input {_quoted(given.name)}, got another")
    return shape


def _decode(decoder: "msgspec.json.Decoder[Any]", text: Any, what: str) -> Any:
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedBody(f"expected {what} as the protocol writes it, got: {error}") from None
    except RecursionError:
        raise MalformedBody(f"expected {what} as the protocol writes it, got deeper nesting") from None


def _counted(given: InputHead) -> tuple[tuple[int, ...], int]:
    shape = shape_of(given)
    # Python's integers: a product beyond 2^64 is large, not small.
    return shape, math.prod(shape)


def _json_tensor(given: InputHead) -> Tensor:
    shape, count = _counted(given)
    what = f"data of input {_quoted(given.name)} ({given.datatype})"
    decoder, text = _decoder_of(given), bytes(given.data)
    # In rows or not, there is a comma between two elements.
    if has_more(text, b",", max(count - 1, 0)):
        raise MalformedBody(f"expected {count} elements in {what}, got more")
    flat = _flat(_decode(decoder, text, what), shape, what)
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
    shape, count = _counted(given)
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
        while start < len(content) and len(texts) < count:
            end = start + _LENGTH_BYTES + int.from_bytes(content[start : start + _LENGTH_BYTES], "little")
            if end > len(content):
                raise ValueError
            texts.append(bytes(content[start + _LENGTH_BYTES : end]).decode())
            start = end
        if len(texts) != count or start != len(content):
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
    texts = tensor.values.tolist()
    written = {text: _with_length(text.encode()) for text in set(texts)}  # few words, once each
    return b"".join(map(written.__getitem__, texts))


def _with_length(text: bytes) -> bytes:
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text
