"""SimpleImputer in the precision of its input, for skl2onnx.

skl2onnx maps it to the operator `Imputer`, which ONNX Runtime has in float32
alone; a choice between two values needs no operator of its own.
"""

from typing import Any

import numpy as np
from skl2onnx import update_registered_converter
from skl2onnx.algebra.onnx_ops import OnnxIdentity, OnnxIsNaN, OnnxWhere
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.impute import SimpleImputer


def register_imputer() -> None:
    """Make skl2onnx convert SimpleImputer in this way."""
    update_registered_converter(SimpleImputer, "SklearnSimpleImputer", _shapes, _convert, overwrite=True)


def _shapes(operator: Any) -> None:
    kind = type(operator.inputs[0].type)
    operator.outputs[0].type = kind([None, len(operator.raw_operator.statistics_)])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    imputer = operator.raw_operator
    if imputer.add_indicator or not np.isnan(imputer.missing_values) or np.isnan(imputer.statistics_).any():
        raise NotImplementedError("SimpleImputer with an indicator, another missing value or an empty column")
    dtype = np.float64 if isinstance(operator.inputs[0].type, DoubleTensorType) else np.float32
    version = container.target_opset
    rows = operator.inputs[0]
    chosen = OnnxWhere(
        OnnxIsNaN(rows, op_version=version),
        imputer.statistics_.astype(dtype),
        rows,
        op_version=version,
    )
    OnnxIdentity(chosen, op_version=version, output_names=operator.outputs[:1]).add_to(scope, container)
