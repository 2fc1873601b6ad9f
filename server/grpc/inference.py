"""An inference between its two forms: protobuf from the client, JSON with binary tensors to the server."""

import struct
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from server.errors import MalformedBody
from server.grpc.messages import MESSAGES

#: For each datatype the member of `contents` that holds it, and an element as `array` packs it.
_CONTENTS = {
    "BOOL": ("bool_contents", "b"), "INT8": ("int_contents", "b"), "INT16": ("int_contents", "h"),
    "INT32": ("int_contents", "i"), "INT64": ("int64_contents", "q"), "UINT8": ("uint_contents", "B"),
    "UINT16": ("uint_contents", "H"), "UINT32": ("uint_contents", "I"), "UINT64": ("uint64_contents", "Q"),
    "FP32": ("fp32_contents", "f"), "FP64": ("fp64_contents", "d"),
}  # fmt: skip
_LENGTH = struct.Struct("<I")
#: Bytes that nobody copies.
Content = bytes | bytearray | memoryview


def to_http(request: Any, raw: Sequence[memoryview]) -> list[Content]:
    """A `ModelInferRequest` and its raw contents as the body of `/v2/…/infer`: JSON, then each tensor.

    Raises `MalformedBody` if tensors and their contents do not belong together.
    """
    inputs, contents = request.inputs, list[Content](raw)
    if contents and len(contents) != len(inputs):
        raise MalformedBody(f"expected raw contents of {len(inputs)} inputs, got {len(contents)}")
    if contents and any(tensor.HasField("contents") for tensor in inputs):
        raise MalformedBody("expected contents of an input or raw contents, got both")
    contents = contents or [_raw(tensor) for tensor in inputs]
    head: dict[str, Any] = {
        "id": request.id or None,
        "parameters": _parameters(request.parameters) | {"binary_data_output": True},
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": _parameters(tensor.parameters) | {"binary_data_size": len(content)},
            }
            for tensor, content in zip(inputs, contents, strict=True)
        ],
        "outputs": [
            {"name": output.name, "parameters": _parameters(output.parameters) | {"binary_data": True}}
            for output in request.outputs
        ],
    }
    return [orjson.dumps(head), *contents]


def from_http(body: bytes, head_length: int) -> Any:
    """The `ModelInferResponse` of what the server answered: all tensors as raw contents."""
    head = orjson.loads(body[:head_length])
    response = MESSAGES["ModelInferResponse"](
        model_name=head["model_name"], model_version=head["model_version"], id=str(head.get("id", ""))
    )
    at = head_length
    for tensor in head["outputs"]:
        end = at + tensor["parameters"]["binary_data_size"]
        response.outputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        response.raw_output_contents.append(body[at:end])
        at = end
    return response


def _parameters(given: Iterable[Any]) -> dict[str, Any]:
    """Parameters by name; those of shared memory are left in, and refused by the server."""
    values = {}
    for parameter in given:
        kind = parameter.value.WhichOneof("choice")
        values[parameter.key] = getattr(parameter.value, kind) if kind is not None else None
    return values


def _raw(tensor: Any) -> Content:
    """What a tensor's typed contents are in the protocol's bytes."""
    if tensor.datatype == "BYTES":
        texts = bytearray()
        for one in tensor.contents.bytes_contents:
            texts += _LENGTH.pack(len(one)) + one
        return texts
    if tensor.datatype not in _CONTENTS:
        raise MalformedBody(
            f"expected raw contents or another datatype, got {tensor.datatype[:20]!r} as contents"
        )
    member, code = _CONTENTS[tensor.datatype]
    values: Sequence[Any] = getattr(tensor.contents, member)
    try:
        return memoryview(array(code, values)).cast("B")
    except OverflowError:
        raise MalformedBody(f"expected values of {tensor.datatype}, got one that does not fit") from None
