"""Isotonic calibration and scaling by a temperature as scikit-learn computes them.

Of an isotonic table skl2onnx takes the nearest point, which is a staircase. Here a search tree finds
the interval, and the operators after it are those of SciPy's `interp1d` (of float64 those of
`numpy.interp`): `slope * (x - x0) + y0`. A temperature it does not know at all.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common.data_types import Int64TensorType
from skl2onnx.operator_converters import calibrated_classifier_cv as converter

from export.errors import ExportRefused
from export.forest.graph import tree_nodes
from export.forest.trees import Forest
from export.sklearn.parts import parts
from export.sklearn.transformers.operators import Operators
from export.sklearn.transformers.search import search_tree

_FLOAT, _WHOLE, _DOUBLE = 1, 7, 11
#: What scikit-learn adds to a probability before it takes the logarithm (`_convert_to_logits`).
_LEAST = 1e-12


@contextmanager
def exact_calibrations(estimator: Any) -> Iterator[None]:
    """Let skl2onnx ask us for the isotonic calibrators and the temperatures inside `estimator` meanwhile.

    It has private functions for them: raises `ExportRefused` where they are others, and leaves alone
    those of methods that do not occur.
    """
    methods = {
        one.method for part in parts(estimator) for one in getattr(part, "calibrated_classifiers_", ())
    }
    with ExitStack() as stack:
        for method in sorted(methods & _OURS.keys()):
            stack.enter_context(_taken_over(*_OURS[method]))
        yield


@contextmanager
def _taken_over(name: str, parameters: tuple[str, ...], ours: Callable[..., str]) -> Iterator[None]:
    theirs = getattr(converter, name, None)
    if theirs is None or tuple(inspect.signature(theirs).parameters) != parameters:
        raise ExportRefused(
            f"expected skl2onnx with {converter.__name__}.{name}({', '.join(parameters)}) for calibrations, "
            f"got {version('skl2onnx')} without: install the version of requirements/tools.txt"
        )
    setattr(converter, name, ours)
    try:
        yield
    finally:
        setattr(converter, name, theirs)


def _transform_isotonic(
    scope: Any, container: Any, model: Any, column: str, k: int, _dtype: Any, element: int
) -> str:
    """The name of a tensor [N, 1] with calibrator k's answers to scores [N, 1] or [N]."""
    calibrator = model.calibrators[k]
    x, y = np.asarray(calibrator.X_thresholds_), np.asarray(calibrator.y_thresholds_)
    # Scores of float32, as XGBoost gives them, stay so; there SciPy has another rule for a point itself.
    is_narrow = x.dtype == np.float32

    add = Operators(scope, (), container)
    scores = add("Reshape", column, add.constant([-1, 1], np.int64))
    scores = add("Cast", scores, to=_FLOAT if is_narrow else _DOUBLE)
    inside = add("Clip", scores, add.constant(x[0], x.dtype), add.constant(x[-1], x.dtype))
    place = add.name("place")
    # The interval begins at the last point that is no more than the score; in float32 less than it.
    inner = (x[1:-1] if is_narrow else x[1:]).tolist()
    add.add_nodes(*tree_nodes(Forest((search_tree(inner),), 1, strict=not is_narrow), inside, place))
    at = add("Cast", add("Reshape", place, add.constant([-1], np.int64)), to=_WHOLE)
    slopes = np.append(np.diff(y) / np.diff(x), x.dtype.type(0.0))
    x0, y0, slope = (
        add("Unsqueeze", add("Gather", add.constant(values, x.dtype), at), add.constant([1], np.int64))
        for values in (x, y, slopes)
    )
    line = add("Add", add("Mul", slope, add("Sub", inside, x0)), y0)
    return add("Cast", line, to=element)


_theirs: Callable[..., str] | None = getattr(converter, "convert_calibrated_classifier_base_estimator", None)


def _calibrated(scope: Any, operator: Any, container: Any, calibrated: Any, number: int) -> str:
    """The name of the probabilities [N, K] of one classifier and its calibrator: a softmax of logits."""
    if calibrated.method != "temperature":
        assert _theirs is not None
        return _theirs(scope, operator, container, calibrated, number)
    estimator, temperature = calibrated.estimator, calibrated.calibrators[0]
    is_margin = hasattr(estimator, "decision_function")
    add = Operators(scope, operator.inputs, container)
    asked = scope.declare_local_operator(sklearn_operator_name_map[type(estimator)], estimator)
    if is_margin and container.has_options(estimator, "raw_scores"):
        for options in (container, scope):
            options.add_options(id(estimator), {"raw_scores": True})
    asked.inputs = operator.inputs
    scores = scope.declare_local_variable("scores", type(operator.inputs[0].type)())
    asked.outputs.extend([scope.declare_local_variable("label", Int64TensorType()), scores])
    # scikit-learn computes in the precision of the scores it was fitted on.
    precision = np.asarray(temperature.beta_).dtype
    logits = add("Cast", scores.full_name, to=_FLOAT if precision == np.float32 else _DOUBLE)
    if not is_margin:
        logits = add("Log", add("Add", logits, add.constant(_LEAST, precision)))
    scaled = add("Mul", logits, add.constant(temperature.beta_, precision))
    return add.as_numbers(add("Softmax", scaled, axis=1))


#: By the method of a calibration: the function of skl2onnx's converter, its parameters, and ours.
_OURS: dict[str, tuple[str, tuple[str, ...], Callable[..., str]]] = {
    "isotonic": (
        "_transform_isotonic",
        ("scope", "container", "model", "T", "k", "dtype", "proto_type"),
        _transform_isotonic,
    ),
    "temperature": (
        "convert_calibrated_classifier_base_estimator",
        ("scope", "operator", "container", "model", "model_index"),
        _calibrated,
    ),
}
