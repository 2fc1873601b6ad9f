"""What an ONNX file from anywhere must not contain, checked before anything runs it."""

from collections.abc import Iterator
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types

from export.errors import ExportRefused

MAX_ONNX_BYTES = 1 << 30
#: ONNX's own operators; everything else would run code this project does not know.
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
Graph: TypeAlias = onnx.GraphProto


def parse_onnx(content: bytes) -> onnx.ModelProto:
    """The model of a file's bytes; raises `ExportRefused` for what is damaged or not plain ONNX."""
    try:
        model = onnx.load_from_string(content)
    except (DecodeError, ValueError):
        raise ExportRefused(
            "expected an ONNX file, got something that is not ONNX or is damaged: save it again"
        ) from None
    _check_domains(model)
    if any(_is_external(tensor) for graph in graphs(model.graph) for tensor in _tensors(graph)):
        raise ExportRefused(
            "expected all weights inside the ONNX file, got external data: save it as one file"
        )
    return model


def _check_domains(model: onnx.ModelProto) -> None:
    used = {node.domain for graph in graphs(model.graph) for node in graph.node}
    if foreign := sorted(used - DOMAINS):
        raise ExportRefused(
            f"expected operators of ai.onnx and ai.onnx.ml, got the domain {foreign[0]!r}: "
            "convert without custom operators"
        )
    if model.functions or model.training_info:
        raise ExportRefused(
            "expected a graph alone, got functions or training information beside it: convert for inference, "
            "and inline the functions (onnx.inliner.inline_local_functions)"
        )


def graphs(graph: Graph) -> Iterator[Graph]:
    """A graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from graphs(inner)


def _tensors(graph: Graph) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.external_data) or tensor.data_location == onnx.TensorProto.EXTERNAL
