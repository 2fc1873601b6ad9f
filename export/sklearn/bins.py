"""KBinsDiscretizer in float64, for skl2onnx: scorecards are made of it.

skl2onnx compares in float32, which puts a large number beside an edge into another
bin, and has no one-hot bins of the default kind.
"""

from typing import Any

import numpy as np
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.preprocessing import KBinsDiscretizer

_INT64, _DOUBLE = 7, 11  # onnx.TensorProto


def register_bins() -> None:
    """Make skl2onnx convert KBinsDiscretizer in this way."""
    update_registered_converter(
        KBinsDiscretizer, "SklearnKBinsDiscretizer", _shapes, _convert, overwrite=True
    )


def _shapes(operator: Any) -> None:
    bins = operator.raw_operator
    width = len(bins.n_bins_) if bins.encode == "ordinal" else int(bins.n_bins_.sum())
    operator.outputs[0].type = type(operator.inputs[0].type)([None, width])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """A mark for each bin, whose lower edge is in it and whose upper one is not; ordinal: their numbers."""
    bins = operator.raw_operator
    if not isinstance(operator.inputs[0].type, DoubleTensorType):
        raise ValueError("a KBinsDiscretizer would put numbers beside an edge into another bin in float32")

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        made = str(scope.get_unique_variable_name(kind.lower()))
        container.add_node(kind, inputs, [made], name=scope.get_unique_operator_name(kind), **attributes)
        return made

    def constant(kind: int, values: Any, shape: list[int]) -> str:
        name = str(scope.get_unique_variable_name("constant"))
        container.add_initializer(name, kind, shape, values)
        return name

    rows = operator.inputs[0].full_name
    if len(operator.inputs) > 1:
        rows = add("Concat", [variable.full_name for variable in operator.inputs], axis=1)
    width = int(bins.n_bins_.sum())
    columns = np.repeat(np.arange(len(bins.n_bins_)), bins.n_bins_)
    inner = [edges[1:-1] for edges in bins.bin_edges_]
    lower = np.concatenate([[-np.inf, *edges] for edges in inner])
    upper = np.concatenate([[*edges, np.inf] for edges in inner])
    values = add("Gather", [rows, constant(_INT64, columns.tolist(), [width])], axis=1)
    below = add("Less", [values, constant(_DOUBLE, lower.tolist(), [width])])
    inside = add("Less", [values, constant(_DOUBLE, upper.tolist(), [width])])
    marks = add("Cast", [add("And", [add("Not", [below]), inside])], to=_DOUBLE)
    if bins.encode == "ordinal":
        numbers = np.zeros((width, len(bins.n_bins_)))
        numbers[np.arange(width), columns] = np.concatenate([np.arange(count) for count in bins.n_bins_])
        marks = add("MatMul", [marks, constant(_DOUBLE, numbers.ravel().tolist(), list(numbers.shape))])
    container.add_node(
        "Identity", [marks], [operator.outputs[0].full_name], name=scope.get_unique_operator_name("Identity")
    )
