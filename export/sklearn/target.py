"""TransformedTargetRegressor for skl2onnx: the regressor inside, and the way back to the target's unit."""

from typing import Any

from skl2onnx import update_registered_converter
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.compose import TransformedTargetRegressor

from export.sklearn.functions import applied, steps_of
from export.sklearn.transformers.operators import Operators


def register_target() -> None:
    """Make skl2onnx convert it where the transformer's inverse is a function of NumPy or a scale."""
    update_registered_converter(
        TransformedTargetRegressor, "HotrowTransformedTarget", _shapes, _convert, overwrite=True
    )


def _shapes(operator: Any) -> None:
    kind = FloatTensorType if isinstance(operator.inputs[0].type, FloatTensorType) else DoubleTensorType
    operator.outputs[0].type = kind([None, 1])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    kind = type(operator.outputs[0].type)
    inner = scope.declare_local_operator(sklearn_operator_name_map[type(model.regressor_)], model.regressor_)
    inner.inputs = operator.inputs
    value = scope.declare_local_variable("transformed", kind([None, 1]))
    inner.outputs.append(value)
    made = applied(
        Operators(scope, operator.inputs, container), value.full_name, _inverse(model.transformer_)
    )
    output = operator.outputs[0].full_name
    container.add_node("Identity", [made], [output], name=scope.get_unique_operator_name("Identity"))


def _inverse(transformer: Any) -> list[tuple[str, float | None]]:
    """The operators of `inverse_transform`, each with the number that stands second."""
    kind = type(transformer).__name__
    if kind == "FunctionTransformer":
        return [] if transformer.inverse_func is None else steps_of(transformer.inverse_func)
    if kind == "StandardScaler":
        scale = [] if transformer.scale_ is None else [("Mul", float(transformer.scale_[0]))]
        return [*scale, ("Add", float(transformer.mean_[0]))] if transformer.with_mean else [*scale]
    if kind == "MinMaxScaler" and not transformer.clip:
        return [("Sub", float(transformer.min_[0])), ("Div", float(transformer.scale_[0]))]
    if kind == "RobustScaler":
        scale = [("Mul", float(transformer.scale_[0]))] if transformer.with_scaling else []
        return [*scale, ("Add", float(transformer.center_[0]))] if transformer.with_centering else [*scale]
    raise NotImplementedError(
        f"a target transformed back by NumPy's functions or a scaler is converted, not by {kind}"
    )
