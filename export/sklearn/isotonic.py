"""Isotonic calibration as it is: a line between two points of a table.

skl2onnx takes the nearest point instead, which is a staircase. A search tree finds the
interval, and the operators after it are those of SciPy's `interp1d` (of float64 those of
`numpy.interp`): `slope * (x - x0) + y0`.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from onnx import numpy_helper
from skl2onnx.operator_converters import calibrated_classifier_cv as converter

from export.errors import ExportRefused
from export.forest.graph import tree_nodes
from export.forest.trees import Forest
from export.sklearn.parts import parts
from export.sklearn.transformers.search import search_tree

_FLOAT, _WHOLE, _DOUBLE = 1, 7, 11


#: What is taken over of `skl2onnx.operator_converters.calibrated_classifier_cv`, with its parameters.
_THEIRS = "_transform_isotonic"
_PARAMETERS = ("scope", "container", "model", "T", "k", "dtype", "proto_type")


@contextmanager
def exact_isotonic(estimator: Any) -> Iterator[None]:
    """Let skl2onnx ask us for the isotonic calibrators inside `estimator` meanwhile.

    That is a private function of skl2onnx: raises `ExportRefused` where it is another one, and
    leaves alone what has no such calibrator.
    """
    if not any(_is_isotonic(part) for part in parts(estimator)):
        yield
        return
    theirs = getattr(converter, _THEIRS, None)
    if theirs is None or tuple(inspect.signature(theirs).parameters) != _PARAMETERS:
        raise ExportRefused(
            f"expected skl2onnx with {converter.__name__}.{_THEIRS}({', '.join(_PARAMETERS)}) for isotonic "
            f"calibrations, got {version('skl2onnx')} without: install the version of requirements/tools.txt"
        )
    setattr(converter, _THEIRS, _transform_isotonic)
    try:
        yield
    finally:
        setattr(converter, _THEIRS, theirs)


def _is_isotonic(part: Any) -> bool:
    inside = getattr(part, "calibrated_classifiers_", ())
    return any(type(c).__name__ == "IsotonicRegression" for one in inside for c in one.calibrators)


def _transform_isotonic(
    scope: Any, container: Any, model: Any, column: str, k: int, _dtype: Any, element: int
) -> str:
    """The name of a tensor [N, 1] with calibrator k's answers to scores [N, 1] or [N]."""
    calibrator = model.calibrators[k]
    x, y = np.asarray(calibrator.X_thresholds_), np.asarray(calibrator.y_thresholds_)
    # Scores of float32, as XGBoost gives them, stay so; there SciPy has another rule for a point itself.
    is_narrow = x.dtype == np.float32

    def constant(values: Any) -> str:
        name = str(scope.get_unique_variable_name("isotonic"))
        container.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(kind: str, *inputs: str, **attributes: Any) -> str:
        output = str(scope.get_unique_variable_name(kind.lower()))
        name = scope.get_unique_operator_name(kind)
        container.add_node(kind, list(inputs), [output], name=name, **attributes)
        return output

    scores = add("Reshape", column, constant(np.array([-1, 1])))
    scores = add("Cast", scores, to=_FLOAT if is_narrow else _DOUBLE)
    inside = add("Clip", scores, constant(x[0]), constant(x[-1]))
    place = str(scope.get_unique_variable_name("place"))
    # The interval begins at the last point that is no more than the score; in float32 less than it.
    inner = (x[1:-1] if is_narrow else x[1:]).tolist()
    search = Forest((search_tree(inner),), 1, strict=not is_narrow)
    nodes, constants = tree_nodes(search, inside, place)
    container.nodes.extend(nodes)
    container.initializers.extend(constants)
    at = add("Cast", add("Reshape", place, constant(np.array([-1]))), to=_WHOLE)
    slopes = np.append(np.diff(y) / np.diff(x), x.dtype.type(0.0))
    x0, y0, slope = (
        add("Unsqueeze", add("Gather", constant(values), at), constant(np.array([1])))
        for values in (x, y.astype(x.dtype), slopes.astype(x.dtype))
    )
    line = add("Add", add("Mul", slope, add("Sub", inside, x0)), y0)
    return add("Cast", line, to=element)
