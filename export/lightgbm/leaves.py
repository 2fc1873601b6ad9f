"""The linear leaves of a tree in the text of a LightGBM model.

Format: `Tree::ToString` in LightGBM's `tree.cpp`.
"""

from collections.abc import Mapping
from itertools import islice

import numpy as np

from export.forest.trees import LinearLeaf


def linear_leaves(block: Mapping[str, str], leaves: int) -> tuple[LinearLeaf, ...]:
    """The leaves of a tree of the text, none of one whose leaves are constants; `ValueError` if damaged."""
    if block.get("is_linear", "0").strip() == "0":
        return ()
    counts = list(map(int, block["num_features"].split()))
    constants = list(map(float, block["leaf_const"].split()))
    features = list(map(int, block["leaf_features"].split()))
    coefficients = list(map(float, block["leaf_coeff"].split()))
    if not len(counts) == len(constants) == leaves or not sum(counts) == len(features) == len(coefficients):
        raise ValueError("the linear leaves do not fit their number")
    if not np.isfinite([*constants, *coefficients]).all() or min(features, default=0) < 0:
        raise ValueError("a linear leaf has a number that is none")
    feature, coefficient = iter(features), iter(coefficients)
    return tuple(
        LinearLeaf(constant, tuple(islice(feature, count)), tuple(islice(coefficient, count)))
        for constant, count in zip(constants, counts, strict=True)
    )
