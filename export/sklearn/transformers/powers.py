"""PowerTransformer in float64, for skl2onnx, whose own converter is in float32 alone.

Formulas: `scipy.stats.yeojohnson` and `scipy.special.boxcox`, on `expm1` and `log1p`. ONNX has neither;
W. Kahan's quotients give both to a few last bits: with w = 1 + x, log1p(x) = x log(w) / (w - 1), and with
e = exp(x), expm1(x) = (e - 1) x / log(e).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import PowerTransformer

from export.sklearn.transformers.operators import Formulas, Operators

_ONE = 1.0
#: As SciPy has it: a power nearer to 0 is the logarithm.
_LEAST_POWER = float(np.finfo(np.float64).eps)


def _log1p(add: Operators, rows: str) -> str:
    """The logarithm of 1 + x, x >= 0; infinity stays."""
    one = add.constant([_ONE])
    above = add("Add", rows, one)
    over = add("Div", add("Mul", rows, add("Log", above)), add("Sub", above, one))
    return add("Where", add("Equal", above, one), rows, over)


def _expm1(add: Operators, rows: str) -> str:
    """The exponential less 1."""
    one = add.constant([_ONE])
    power = add("Exp", rows)
    less = add("Sub", power, one)
    over = add("Div", add("Mul", less, rows), add("Log", power))
    # Far from 0 nothing cancels, and the quotient of infinities would be no number.
    near = add("Less", add("Abs", rows), one)
    return add("Where", add("Equal", power, one), rows, add("Where", near, over, less))


def _power(add: Operators, logarithm: str, powers: npt.NDArray[np.float64]) -> str:
    """(exp(power x logarithm) - 1) / power by column, of a power of 0 the logarithm."""
    is_zero = np.abs(powers) < _LEAST_POWER
    given = add.constant(np.where(is_zero, 1.0, powers))
    raised = add("Div", _expm1(add, add("Mul", given, logarithm)), given)
    return add("Where", add.constant(is_zero, np.bool_), logarithm, raised)


def _yeo_johnson(add: Operators, rows: str, powers: npt.NDArray[np.float64]) -> str:
    zero = add.constant([0.0])
    above = _power(add, _log1p(add, add("Max", rows, zero)), powers)
    below = _power(add, _log1p(add, add("Max", add("Neg", rows), zero)), 2.0 - powers)
    chosen = add("Where", add("Less", rows, zero), add("Neg", below), above)
    return add("Where", add("IsNaN", rows), rows, chosen)


def _box_cox(add: Operators, rows: str, powers: npt.NDArray[np.float64]) -> str:
    return _power(add, add("Log", rows), powers)


_METHODS: dict[str, Callable[[Operators, str, npt.NDArray[np.float64]], str]] = {
    "yeo-johnson": _yeo_johnson,
    "box-cox": _box_cox,
}


def _transformed(add: Operators, fitted: Any) -> str:
    made = _METHODS[fitted.method](add, add.rows(), np.asarray(fitted.lambdas_, dtype=np.float64))
    if not fitted.standardize:
        return made
    scaler = fitted._scaler  # as PowerTransformer itself
    return add("Div", add("Sub", made, add.constant(scaler.mean_)), add.constant(scaler.scale_))


POWERS: Formulas = {PowerTransformer: (lambda fitted, _: len(fitted.lambdas_), _transformed)}
