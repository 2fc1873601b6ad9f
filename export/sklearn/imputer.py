"""SimpleImputer in the precision of its input, for skl2onnx.

skl2onnx maps it to the operator `Imputer`, which ONNX Runtime has in float32
alone; a choice between two values needs no operator of its own.
"""

from typing import Any

import numpy as np
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import SimpleImputer


def register_imputer() -> None:
    """Make skl2onnx convert SimpleImputer in this way."""
    update_registered_converter(SimpleImputer, "SklearnSimpleImputer", _shapes, _convert, overwrite=True)


def _kept(imputer: Any) -> list[int]:
    """The columns that are not dropped for having no value in training."""
    return np.flatnonzero(~np.isnan(imputer.statistics_.astype(np.float64))).tolist()


def _shapes(operator: Any) -> None:
    kind, imputer = type(operator.inputs[0].type), operator.raw_operator
    marks = len(imputer.indicator_.features_) if imputer.add_indicator else 0
    operator.outputs[0].type = kind([None, len(_kept(imputer)) + marks])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    imputer, output = operator.raw_operator, operator.outputs[0].full_name
    is_narrow = isinstance(operator.inputs[0].type, FloatTensorType)
    element, dtype = (1, np.float32) if is_narrow else (11, np.float64)

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        made = str(scope.get_unique_variable_name(kind.lower()))
        container.add_node(kind, inputs, [made], name=scope.get_unique_operator_name(kind), **attributes)
        return made

    def constant(kind: int, values: Any) -> str:
        name = str(scope.get_unique_variable_name("constant"))
        container.add_initializer(name, kind, [len(values)], values)
        return name

    def columns(rows: str, places: list[int]) -> str:
        return add("Gather", [rows, constant(7, places)], axis=1)

    rows = operator.inputs[0].full_name
    if len(operator.inputs) > 1:
        rows = add("Concat", [variable.full_name for variable in operator.inputs], axis=1)
    if np.isnan(imputer.missing_values):
        absent = add("IsNaN", [rows])
    else:
        absent = add("Equal", [rows, constant(element, [dtype(imputer.missing_values)])])
    kept = _kept(imputer)
    statistics = imputer.statistics_.astype(dtype)[kept].tolist()
    whole = add("Where", [columns(absent, kept), constant(element, statistics), columns(rows, kept)])
    if imputer.add_indicator:
        marks = add("Cast", [columns(absent, imputer.indicator_.features_.tolist())], to=element)
        whole = add("Concat", [whole, marks], axis=1)
    container.add_node("Identity", [whole], [output], name=scope.get_unique_operator_name("Identity"))
