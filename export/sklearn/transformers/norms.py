"""Normalizer for skl2onnx, whose own converter is in float32 and divides rows of zeros by zero."""

from typing import Any

import numpy as np
from sklearn.preprocessing import Normalizer

from export.sklearn.transformers.operators import Formulas, Operators

#: scikit-learn, `_handle_zeros_in_scale`: a smaller norm counts as 1.
_LEAST = 10 * float(np.finfo(np.float64).eps)


def _divided(add: Operators, fitted: Any) -> str:
    rows, axis = add.rows(), add.constant([1], np.int64)
    if fitted.norm == "l2":
        norm = add("Sqrt", add("ReduceSum", add("Mul", rows, rows), axis, keepdims=1))
    else:
        kind = "ReduceSum" if fitted.norm == "l1" else "ReduceMax"
        norm = add(kind, add("Abs", rows), axis, keepdims=1)
    is_small = add("Less", norm, add.constant([_LEAST]))
    return add("Div", rows, add("Where", is_small, add.constant([1.0]), norm))


NORMS: Formulas = {Normalizer: (lambda fitted, _: fitted.n_features_in_, _divided)}
