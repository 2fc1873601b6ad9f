"""PolynomialFeatures in the precision of its input, for skl2onnx, whose own converter is in float32 alone."""

from typing import Any

import numpy as np
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.preprocessing import PolynomialFeatures

_FLOAT, _INT64, _DOUBLE = 1, 7, 11  # onnx.TensorProto


def register_polynomials() -> None:
    """Make skl2onnx convert PolynomialFeatures in this way."""
    update_registered_converter(PolynomialFeatures, "HotrowPolynomials", _shapes, _convert, overwrite=True)


def _shapes(operator: Any) -> None:
    kind = type(operator.inputs[0].type)
    operator.outputs[0].type = kind([None, operator.raw_operator.n_output_features_])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Products of columns, one factor after the other, each a column or the 1 behind the last of them."""
    powers = operator.raw_operator.powers_

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        made = str(scope.get_unique_variable_name(kind.lower()))
        container.add_node(kind, inputs, [made], name=scope.get_unique_operator_name(kind), **attributes)
        return made

    def constant(kind: int, values: Any, shape: list[int]) -> str:
        name = str(scope.get_unique_variable_name("constant"))
        container.add_initializer(name, kind, shape, values)
        return name

    rows = [variable.full_name for variable in operator.inputs]
    given = rows[0] if len(rows) == 1 else add("Concat", rows, axis=1)
    element = _FLOAT if isinstance(operator.inputs[0].type, FloatTensorType) else _DOUBLE
    after = constant(_INT64, [0, 0, 0, 1], [4])
    wide = add("Pad", [given, after, constant(element, [1.0], [])])
    columns, total = powers.shape[1], max(1, int(powers.sum(axis=1).max()))
    factors = [np.repeat(np.arange(columns), row).tolist() for row in powers]
    padded = np.array([[*row, *[columns] * (total - len(row))] for row in factors])
    product = add("Gather", [wide, constant(_INT64, padded[:, 0].tolist(), [len(padded)])], axis=1)
    for place in padded.T[1:].tolist():
        factor = add("Gather", [wide, constant(_INT64, place, [len(padded)])], axis=1)
        product = add("Mul", [product, factor])
    output = operator.outputs[0].full_name
    container.add_node("Identity", [product], [output], name=scope.get_unique_operator_name("Identity"))
