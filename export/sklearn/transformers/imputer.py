"""SimpleImputer and MissingIndicator in the precision of their input, for skl2onnx.

skl2onnx maps the first to the operator `Imputer`, which ONNX Runtime has in float32
alone; a choice between two values needs no operator of its own. It does not know the second.
"""

from typing import Any

import numpy as np
from sklearn.impute import MissingIndicator, SimpleImputer

from export.sklearn.transformers.operators import Formulas, Operators


def _kept(imputer: Any) -> list[int]:
    """The columns that are not dropped for having no value in training."""
    return np.flatnonzero(~np.isnan(imputer.statistics_.astype(np.float64))).tolist()


def _width(imputer: Any, _: int) -> int:
    return len(_kept(imputer)) + (len(imputer.indicator_.features_) if imputer.add_indicator else 0)


def _filled(add: Operators, imputer: Any) -> str:
    rows = add.rows()
    absent = _absent(add, rows, imputer.missing_values)
    kept = _kept(imputer)
    statistics = add.constant(imputer.statistics_[kept].astype(np.float64))
    whole = add("Where", add.columns(absent, kept), statistics, add.columns(rows, kept))
    if not imputer.add_indicator:
        return whole
    return add("Concat", whole, add.as_numbers(add.columns(absent, imputer.indicator_.features_)), axis=1)


def _marked(add: Operators, indicator: Any) -> str:
    absent = _absent(add, add.rows(), indicator.missing_values)
    return add.as_numbers(add.columns(absent, indicator.features_))


def _absent(add: Operators, rows: str, missing_values: Any) -> str:
    if np.isnan(missing_values):
        return add("IsNaN", rows)
    return add("Equal", rows, add.constant([missing_values]))


IMPUTERS: Formulas = {
    SimpleImputer: (_width, _filled),
    MissingIndicator: (lambda indicator, _: len(indicator.features_), _marked),
}
