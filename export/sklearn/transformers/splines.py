"""SplineTransformer for skl2onnx, which has no converter of it: polynomials, one for each interval of knots.

A search tree finds the interval of a number, tables have the coefficients there, and Horner's rule adds up.
"""

from typing import Any

import numpy as np
from onnx import TensorProto
from scipy.interpolate import PPoly  # type: ignore[import-untyped]  # ships no types
from sklearn.preprocessing import SplineTransformer

from export.forest.graph import tree_nodes
from export.forest.trees import Forest
from export.sklearn.transformers.operators import Formulas, Operators
from export.sklearn.transformers.search import search_tree

_CONVERTED = ("constant", "continue", "periodic")


def _transformed(add: Operators, fitted: Any) -> str:
    degree, outside = fitted.degree, fitted.extrapolation
    if outside not in _CONVERTED or degree < 1 or getattr(fitted, "handle_missing", "error") != "error":
        raise NotImplementedError(
            f"SplineTransformer is converted with a degree of 1 and more, an extrapolation of "
            f"{', '.join(_CONVERTED)}, and no missing values"
        )
    knots = np.array([spline.t[degree:-degree] for spline in fitted.bsplines_])
    rows = add.rows()
    if outside == "constant":
        rows = add("Min", add("Max", rows, add.constant(knots[:, 0])), add.constant(knots[:, -1]))
    elif outside == "periodic":
        period = add.constant(knots[:, -1] - knots[:, 0])
        rest = add("Mod", add("Sub", rows, add.constant(knots[:, 0])), period, fmod=1)
        positive = add("Where", add("Less", rest, add.constant([0.0])), add("Add", rest, period), rest)
        rows = add("Add", add.constant(knots[:, 0]), positive)
    intervals = knots.shape[1] - 1
    trees = (search_tree(row[1:-1].tolist(), i, i * intervals) for i, row in enumerate(knots))
    place = add.name("place")
    forest = Forest(tuple(trees), len(knots), targets=len(knots), strict=True)
    add.add_nodes(*tree_nodes(forest, rows, place))
    at = add("Cast", place, to=TensorProto.INT64)
    start = add("Gather", add.constant(knots[:, :-1].ravel()), at)
    off = add("Unsqueeze", add("Sub", rows, start), add.constant([2], np.int64))
    tables = np.concatenate([_polynomials(spline, intervals) for spline in fitted.bsplines_], axis=1)
    tables = tables if fitted.include_bias else tables[:, :, :-1]
    made = add("Gather", add.constant(tables[0]), at)
    for table in tables[1:]:
        made = add("Add", add("Mul", made, off), add("Gather", add.constant(table), at))
    return add("Reshape", made, add.constant([0, len(knots) * tables.shape[2]], np.int64))


def _polynomials(spline: Any, intervals: int) -> Any:
    """The coefficients [degree + 1, intervals, splines] between its inner knots, the highest power first."""
    columns = [PPoly.from_spline((spline.t, column, spline.k)).c for column in spline.c.T]
    return np.stack(columns, axis=2)[:, spline.k : spline.k + intervals]


SPLINES: Formulas = {SplineTransformer: (lambda fitted, _: int(fitted.n_features_out_), _transformed)}
