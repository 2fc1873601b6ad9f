"""XGBoost's `gblinear` as a graph: a sum in float32, term by term, as `GBLinear::Pred` adds it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from export.forest.graph import OPSETS, serialize
from server.model.files import INPUT, OUTPUT


def linear_graph(
    weights: npt.NDArray[np.float32], absent: float | None, metadata: Mapping[str, str]
) -> bytes:
    """The ONNX file of weights float32 [F + 1, K], the last row where the sums start.

    A missing value adds nothing, and so does `absent`. `CumSum` adds one column after
    the other, which a matrix product does not promise.
    """
    width, targets = len(weights) - 1, weights.shape[1]
    constants: dict[str, Any] = {
        "nothing": np.float32(0.0),
        "absent": np.float32(math.nan if absent is None else absent),
        "axis": np.int64(1),
        "last": np.array([width], dtype=np.int64),
    }
    make = helper.make_node
    nodes = [
        make("Cast", [INPUT], ["narrow"], to=TensorProto.FLOAT),
        make("IsNaN", ["narrow"], ["is_nan"]),
        make("Equal", ["narrow", "absent"], ["is_absent"]),
        make("Or", ["is_nan", "is_absent"], ["is_missing"]),
        make("Where", ["is_missing", "nothing", "narrow"], ["rows"]),
        make("Slice", ["rows", "zero", "one", "second"], ["column"]),
        make("Mul", ["column", "nothing"], ["zeros"]),
    ]
    for target in range(targets):
        constants |= {f"weights{target}": weights[:-1, target], f"start{target}": weights[-1:, target]}
        nodes += [
            make("Add", ["zeros", f"start{target}"], [f"first{target}"]),
            make("Mul", ["rows", f"weights{target}"], [f"terms{target}"]),
            make("Concat", [f"first{target}", f"terms{target}"], [f"row{target}"], axis=1),
            make("CumSum", [f"row{target}", "axis"], [f"sums{target}"]),
            make("Gather", [f"sums{target}", "last"], [f"margin{target}"], axis=1),
        ]
    constants |= {
        "zero": np.array([0], dtype=np.int64),
        "one": np.array([1], dtype=np.int64),
        "second": np.array([1], dtype=np.int64),
    }
    nodes.append(make("Concat", [f"margin{target}" for target in range(targets)], [OUTPUT], axis=1))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, ["N", width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", targets])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return serialize(graph, OPSETS, metadata)
