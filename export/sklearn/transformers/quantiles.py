"""QuantileTransformer for skl2onnx, whose own converter takes as long as a training and has no normal output.

Where a number lies among the quantiles a search tree finds, one a column, and the operators
after it are those of `numpy.interp`, there and back: `slope * (x - x0) + y0`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto
from sklearn.preprocessing import QuantileTransformer

from export.forest.graph import tree_nodes
from export.forest.trees import Forest
from export.sklearn.transformers.operators import Formulas, Operators
from export.sklearn.transformers.search import search_tree
from server.model.schema import Matrix

#: scikit-learn, `BOUNDS_THRESHOLD`: so near to the ends a number lies on them, of a normal output.
_NEAR = 1e-7
#: Cephes, `ndtri`, which SciPy has: the inverse of the normal distribution function by quotients of
#: polynomials, the first between exp(-2) and 1 - exp(-2), the second outside.
_TAIL = 0.13533528323661269189
_ROOT = 2.50662827463100050242
_INNER = (
    (-5.99633501014107895267e1, 9.80010754185999661536e1, -5.66762857469070293439e1,
     1.39312609387279679503e1, -1.23916583867381258016e0),
    (1.0, 1.95448858338141759834e0, 4.67627912898881538453e0, 8.63602421390890590575e1,
     -2.25462687854119370527e2, 2.00260212380060660359e2, -8.20372256168333339912e1,
     1.59056225126211695515e1, -1.18331621121330003142e0),
)  # fmt: skip
_OUTER = (
    (4.05544892305962419923e0, 3.15251094599893866154e1, 5.71628192246421288162e1,
     4.40805073893200834700e1, 1.46849561928858024014e1, 2.18663306850790267539e0,
     -1.40256079171354495875e-1, -3.50424626827848203418e-2, -8.57456785154685413611e-4),
    (1.0, 1.57799883256466749731e1, 4.53907635128879210584e1, 4.13172038254672030440e1,
     1.50425385692907503408e1, 2.50464946208309415979e0, -1.42182922854787788574e-1,
     -3.80806407691578277194e-2, -9.33259480895457427372e-4),
)  # fmt: skip


def _transformed(add: Operators, fitted: Any) -> str:
    quantiles = np.asarray(fitted.quantiles_, dtype=np.float64)
    rows, place = add.rows(), add.name("place")
    add.add_nodes(*tree_nodes(_places(quantiles), rows, place))
    at = add("Cast", place, to=TensorProto.INT64)
    tables = [_intervals(column, np.asarray(fitted.references_)) for column in quantiles.T]
    x0, x1, y0, y1, slope, at_x0 = (
        add("Gather", add.constant(np.concatenate(values)), at) for values in zip(*tables, strict=True)
    )
    there = add("Add", add("Mul", slope, add("Sub", rows, x0)), y0)
    back = add("Sub", add("Mul", slope, add("Sub", x1, rows)), y1)
    between = add("Mul", add.constant([0.5]), add("Sub", there, back))
    share = add("Where", add("Equal", rows, x0), at_x0, between)
    if fitted.output_distribution == "uniform":
        return share
    near, zero, one = (add.constant([value]) for value in (_NEAR, 0.0, 1.0))
    above = add("Greater", add("Add", rows, near), add.constant(quantiles[-1]))
    below = add("Less", add("Sub", rows, near), add.constant(quantiles[0]))
    ended = add("Where", below, zero, add("Where", above, one, share))
    return add("Where", add("IsNaN", rows), rows, _normal(add, ended))


def _places(quantiles: Matrix) -> Forest:
    """By column how many of its quantiles are no more than a number, behind those of the columns before."""
    count, width = quantiles.shape
    trees = (search_tree(column.tolist(), i, i * (count + 1)) for i, column in enumerate(quantiles.T))
    return Forest(tuple(trees), width, targets=width, strict=True)


def _intervals(x: Matrix, y: Matrix) -> list[Matrix]:
    """Of a number with 0 to all quantiles [m] below: x0, x1, y0, y1 and slope of its interval, and y at x0.

    Beyond the ends the line is flat. Of equal quantiles the last begins an interval; the answer at
    them is the mean of the first's and the last's, and 1 and 0 at the ends.
    """
    left = np.maximum(np.arange(-1, len(x)), 0)
    right = np.minimum(left + 1, len(x) - 1)
    right[0], right[-1] = left[0], left[-1]
    x0, x1, y0, y1 = x[left], x[right], y[left], y[right]
    width = np.where(x1 > x0, x1 - x0, 1.0)
    at_x0 = 0.5 * (y0 + y[np.searchsorted(x, x0)])
    at_x0[x0 == x[-1]] = 1.0
    at_x0[x0 == x[0]] = 0.0
    return [x0, x1, y0, y1, (y1 - y0) / width, at_x0]


def _normal(add: Operators, share: str) -> str:
    """The number below which this share of a normal distribution lies."""
    least = _NEAR - float(np.spacing(1))  # as scikit-learn clips what would be infinite
    share = add("Clip", share, add.constant(least), add.constant(1.0 - least))
    half, one, tail = (add.constant([value]) for value in (0.5, 1.0, _TAIL))
    off = add("Sub", share, half)
    square = add("Mul", off, off)
    curve = add("Div", add("Mul", square, _polynomial(add, square, _INNER[0])),
                _polynomial(add, square, _INNER[1]))  # fmt: skip
    inner = add("Mul", add("Add", off, add("Mul", off, curve)), add.constant([_ROOT]))
    is_high = add("Greater", share, add.constant([1.0 - _TAIL]))
    rest = add("Where", is_high, add("Sub", one, share), share)
    root = add("Sqrt", add("Mul", add("Log", rest), add.constant([-2.0])))
    inverse = add("Div", one, root)
    more = add("Div", add("Mul", inverse, _polynomial(add, inverse, _OUTER[0])),
               _polynomial(add, inverse, _OUTER[1]))  # fmt: skip
    outer = add("Sub", add("Sub", root, add("Div", add("Log", root), root)), more)
    signed = add("Where", is_high, outer, add("Neg", outer))
    return add("Where", add("Greater", rest, tail), inner, signed)


def _polynomial(add: Operators, x: str, coefficients: Sequence[float]) -> str:
    """By Horner's rule, the highest power first."""
    made = add.constant([coefficients[0]])
    for coefficient in coefficients[1:]:
        made = add("Add", add("Mul", made, x), add.constant([coefficient]))
    return made


QUANTILES: Formulas = {QuantileTransformer: (lambda fitted, _: fitted.quantiles_.shape[1], _transformed)}
