"""ONNX files whose batch is fixed to one row, as PyTorch writes by default: the axis made free, and tried."""

from typing import Any

import numpy as np
import onnx

from export.errors import ExportRefused
from export.onnx.source import OnnxSource
from server.errors import first_line

_ROWS = 64


def free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with any number of rows where its inputs say exactly one; else the model itself."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    shapes = [value.type.tensor_type.shape.dim for value in inputs]
    if not any(len(dims) == 2 and dims[0].dim_value == 1 for dims in shapes):
        return model
    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    for value in (*freed.graph.input, *freed.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.name not in weights and dims and dims[0].dim_value == 1:
            dims[0].dim_param = "N"
    del freed.graph.value_info[:]  # shapes inside, of one row
    return freed


def check_freed(original: Any, freed: OnnxSource) -> None:
    """Raise `ExportRefused` unless many rows score as each does in the file as it came, to the bit."""
    rows = np.random.default_rng(0).normal(size=(_ROWS, freed.width))
    advice = 'export it again with a dynamic batch axis (torch.onnx.export(…, dynamic_axes={"x": {0: "N"}}))'
    try:
        together = freed.scores(rows)
        alone = np.concatenate([freed.scores(rows[i : i + 1], original) for i in range(_ROWS)])
    except ExportRefused as error:
        words = f"expected a graph that scores any number of rows, got: {first_line(error)}"
        raise ExportRefused(f"{words}; {advice}") from None
    if together.size != alone.size or not np.array_equal(together.reshape(alone.shape), alone):
        raise ExportRefused(f"expected rows to score alone as they do together, got other scores; {advice}")
