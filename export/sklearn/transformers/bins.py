"""KBinsDiscretizer in float64, for skl2onnx: scorecards are made of it.

skl2onnx compares in float32, which puts a large number beside an edge into another
bin, and has no one-hot bins of the default kind.
"""

from typing import Any

import numpy as np
from sklearn.preprocessing import KBinsDiscretizer

from export.sklearn.transformers.operators import Formulas, Operators


def _width(bins: Any, _: int) -> int:
    return len(bins.n_bins_) if bins.encode == "ordinal" else int(bins.n_bins_.sum())


def _marks(add: Operators, bins: Any) -> str:
    """A mark for each bin, whose lower edge is in it and whose upper one is not; ordinal: their numbers."""
    if add.dtype is np.float32:
        raise ValueError("a KBinsDiscretizer would put numbers beside an edge into another bin in float32")
    width = int(bins.n_bins_.sum())
    columns = np.repeat(np.arange(len(bins.n_bins_)), bins.n_bins_)
    inner = [edges[1:-1] for edges in bins.bin_edges_]
    values = add.columns(add.rows(), columns)
    below = add("Less", values, add.constant(np.concatenate([[-np.inf, *edges] for edges in inner])))
    inside = add("Less", values, add.constant(np.concatenate([[*edges, np.inf] for edges in inner])))
    marks = add.as_numbers(add("And", add("Not", below), inside))
    if bins.encode != "ordinal":
        return marks
    numbers = np.zeros((width, len(bins.n_bins_)))
    numbers[np.arange(width), columns] = np.concatenate([np.arange(count) for count in bins.n_bins_])
    return add("MatMul", marks, add.constant(numbers))


BINS: Formulas = {KBinsDiscretizer: (_width, _marks)}
