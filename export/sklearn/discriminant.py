"""LinearDiscriminantAnalysis for skl2onnx, whose own converter takes twice the margin of two classes.

It scores as a logistic regression of the same coefficients does (scikit-learn,
`LinearDiscriminantAnalysis.predict_proba`), and is converted as one.
"""

from typing import Any

from skl2onnx import update_registered_converter
from skl2onnx.operator_converters.linear_classifier import convert_sklearn_linear_classifier
from skl2onnx.shape_calculators.linear_classifier import calculate_linear_classifier_output_shapes
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

_OPTIONS = {"zipmap": [True, False], "nocl": [True, False], "raw_scores": [True, False]}


def register_discriminant() -> None:
    """Make skl2onnx convert it in this way."""
    update_registered_converter(
        LinearDiscriminantAnalysis,
        "HotrowLinearDiscriminantAnalysis",
        calculate_linear_classifier_output_shapes,
        _convert,
        overwrite=True,
        options=_OPTIONS,
    )


def _convert(scope: Any, operator: Any, container: Any) -> None:
    fitted, equal = operator.raw_operator, LogisticRegression()
    equal.coef_, equal.intercept_, equal.classes_ = fitted.coef_, fitted.intercept_, fitted.classes_
    operator.raw_operator = equal
    try:
        convert_sklearn_linear_classifier(scope, operator, container)
    finally:
        operator.raw_operator = fitted
