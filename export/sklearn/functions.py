"""FunctionTransformer of NumPy's functions that ONNX has, for skl2onnx."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.preprocessing import FunctionTransformer

from export.sklearn.parts import parts
from export.sklearn.tables import column_transformers
from export.sklearn.transformers.operators import Formulas, Operators

#: By NumPy's function the operators in their order, with the number that stands second (None: none does).
_STEPS: dict[Any, list[tuple[str, float | None]]] = {
    np.log: [("Log", None)],
    np.log1p: [("Add", 1.0), ("Log", None)],
    np.log2: [("Log", None), ("Mul", 1.0 / float(np.log(2.0)))],
    np.log10: [("Log", None), ("Mul", 1.0 / float(np.log(10.0)))],
    np.exp: [("Exp", None)],
    np.expm1: [("Exp", None), ("Sub", 1.0)],
    np.sqrt: [("Sqrt", None)],
    np.cbrt: [("Pow", 1.0 / 3.0)],
    np.square: [("Pow", 2.0)],
    np.abs: [("Abs", None)],
    np.negative: [("Neg", None)],
    np.reciprocal: [("Reciprocal", None)],
    np.sign: [("Sign", None)],
    np.sin: [("Sin", None)],
    np.cos: [("Cos", None)],
    np.tanh: [("Tanh", None)],
}
#: Where a function has real values: the least number it takes.
LEAST: dict[Any, float] = {
    **dict.fromkeys((np.log, np.log2, np.log10), float(np.finfo(np.float64).tiny)),
    np.log1p: 0.0,
    np.sqrt: 0.0,
    np.cbrt: 0.0,
}


def _width(_: Any, inputs: Any) -> int:
    return sum(variable.type.shape[1] for variable in inputs)


def _applied(add: Operators, transformer: Any) -> str:
    return applied(add, add.rows(), [] if transformer.func is None else steps_of(transformer.func))


def applied(add: Operators, rows: str, steps: Sequence[tuple[str, float | None]]) -> str:
    """The name of what operators, one after the other, make of rows."""
    for kind, second in steps:
        rows = add(kind, rows, *([] if second is None else [add.constant([second])]))
    return rows


def steps_of(function: Any) -> list[tuple[str, float | None]]:
    """The operators of a function, each with the number that stands second; raises for another function."""
    found = _STEPS.get(function)
    if found is None:
        raise NotImplementedError(
            f"of functions {', '.join(f.__name__ for f in _STEPS)} of NumPy are converted, not {function}"
        )
    return found


def least_values(estimator: Any, names: Sequence[str]) -> dict[str, float]:
    """By column the least number that a function inside an estimator takes: below, it gives no number."""
    found: dict[str, float] = {}
    for part in parts(estimator):
        of_all = [(part, names)] if getattr(part, "n_features_in_", 0) == len(names) else []
        for transformer, columns in (*column_transformers(part, names), *of_all):
            steps = [step for _, step in getattr(transformer, "steps", ())] or [transformer]
            # Of all columns the first step alone: a later one may read others.
            for function in map(_function_of, steps[:1] if transformer is part else steps):
                found |= dict.fromkeys(columns, LEAST[function]) if function in LEAST else {}
    return found


def _function_of(step: Any) -> Any:
    return np.log if getattr(step, "method", "") == "box-cox" else getattr(step, "func", None)


FUNCTIONS: Formulas = {FunctionTransformer: (_width, _applied)}
