"""PolynomialFeatures in the precision of its input, for skl2onnx, whose own converter is in float32 alone."""

from typing import Any

import numpy as np
from sklearn.preprocessing import PolynomialFeatures

from export.sklearn.transformers.operators import Formulas, Operators


def _products(add: Operators, features: Any) -> str:
    """Products of columns, one factor after the other, each a column or the 1 behind the last of them."""
    powers = features.powers_
    wide = add("Pad", add.rows(), add.constant([0, 0, 0, 1], np.int64), add.constant(1.0))
    columns, total = powers.shape[1], max(1, int(powers.sum(axis=1).max()))
    factors = [np.repeat(np.arange(columns), row).tolist() for row in powers]
    padded = np.array([[*row, *[columns] * (total - len(row))] for row in factors])
    product = add.columns(wide, padded[:, 0])
    for place in padded.T[1:]:
        product = add("Mul", product, add.columns(wide, place))
    return product


POLYNOMIALS: Formulas = {PolynomialFeatures: (lambda made, _: int(made.n_output_features_), _products)}
