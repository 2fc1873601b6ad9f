"""PowerTransformer in float64, for skl2onnx, whose own converter is in float32 alone.

Formulas: `scipy.stats.yeojohnson` and `scipy.special.boxcox`, on `expm1` and `log1p`. ONNX has neither;
W. Kahan's quotients give both to a few last bits: with w = 1 + x, log1p(x) = x log(w) / (w - 1), and with
e = exp(x), expm1(x) = (e - 1) x / log(e).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.preprocessing import PowerTransformer

_FLOAT, _DOUBLE, _ONE = 1, 11, 1.0
#: As SciPy has it: a power nearer to 0 is the logarithm.
_LEAST_POWER = float(np.finfo(np.float64).eps)
_Values = float | npt.NDArray[np.float64]


def register_powers() -> None:
    """Make skl2onnx convert PowerTransformer in this way."""
    update_registered_converter(PowerTransformer, "HotrowPowers", _shapes, _convert, overwrite=True)


def _shapes(operator: Any) -> None:
    kind = type(operator.inputs[0].type)
    operator.outputs[0].type = kind([None, len(operator.raw_operator.lambdas_)])


class _Formulas:
    """The operators of a formula, added to skl2onnx's container one by one."""

    def __init__(self, scope: Any, container: Any, element: int) -> None:
        self._scope, self._container, self._element = scope, container, element

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        made = str(self._scope.get_unique_variable_name(kind.lower()))
        name = self._scope.get_unique_operator_name(kind)
        self._container.add_node(kind, list(inputs), [made], name=name, **attributes)
        return made

    def constant(self, values: _Values) -> str:
        """The name of a tensor [1] or [F]."""
        name, row = str(self._scope.get_unique_variable_name("constant")), np.atleast_1d(values)
        self._container.add_initializer(name, self._element, [len(row)], row.tolist())
        return name

    def log1p(self, rows: str) -> str:
        """The logarithm of 1 + x, x >= 0; infinity stays."""
        one = self.constant(_ONE)
        above = self("Add", rows, one)
        over = self("Div", self("Mul", rows, self("Log", above)), self("Sub", above, one))
        return self("Where", self("Equal", above, one), rows, over)

    def expm1(self, rows: str) -> str:
        """The exponential less 1."""
        one = self.constant(_ONE)
        power = self("Exp", rows)
        less = self("Sub", power, one)
        over = self("Div", self("Mul", less, rows), self("Log", power))
        # Far from 0 nothing cancels, and the quotient of infinities would be no number.
        near = self("Less", self("Abs", rows), one)
        return self("Where", self("Equal", power, one), rows, self("Where", near, over, less))

    def power(self, logarithm: str, powers: npt.NDArray[np.float64]) -> str:
        """(exp(power x logarithm) - 1) / power by column, of a power of 0 the logarithm."""
        is_zero = np.abs(powers) < _LEAST_POWER
        given = self.constant(np.where(is_zero, 1.0, powers))
        raised = self("Div", self.expm1(self("Mul", given, logarithm)), given)
        marks = self("Greater", self.constant(is_zero.astype(np.float64)), self.constant(0.5))
        return self("Where", marks, logarithm, raised)


def _yeo_johnson(add: _Formulas, rows: str, powers: npt.NDArray[np.float64]) -> str:
    zero = add.constant(0.0)
    above = add.power(add.log1p(add("Max", rows, zero)), powers)
    below = add.power(add.log1p(add("Max", add("Neg", rows), zero)), 2.0 - powers)
    chosen = add("Where", add("Less", rows, zero), add("Neg", below), above)
    return add("Where", add("IsNaN", rows), rows, chosen)


def _box_cox(add: _Formulas, rows: str, powers: npt.NDArray[np.float64]) -> str:
    return add.power(add("Log", rows), powers)


_METHODS: dict[str, Callable[[_Formulas, str, npt.NDArray[np.float64]], str]] = {
    "yeo-johnson": _yeo_johnson,
    "box-cox": _box_cox,
}


def _convert(scope: Any, operator: Any, container: Any) -> None:
    fitted = operator.raw_operator
    add = _Formulas(
        scope, container, _FLOAT if isinstance(operator.inputs[0].type, FloatTensorType) else _DOUBLE
    )
    rows = [variable.full_name for variable in operator.inputs]
    given = rows[0] if len(rows) == 1 else add("Concat", *rows, axis=1)
    made = _METHODS[fitted.method](add, given, np.asarray(fitted.lambdas_, dtype=np.float64))
    if fitted.standardize:
        scaler = fitted._scaler  # as PowerTransformer itself
        made = add("Div", add("Sub", made, add.constant(scaler.mean_)), add.constant(scaler.scale_))
    container.add_node(
        "Identity", [made], [operator.outputs[0].full_name], name=scope.get_unique_operator_name("Identity")
    )
