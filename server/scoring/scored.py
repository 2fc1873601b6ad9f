"""The answers to many rows of one model."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from server.model.predictor import Margins


class Scored(NamedTuple):
    """The answers to n rows.

    `outputs` are n probabilities (binary), predicted values (regression) or lists
    of probabilities (multiclass); `outcomes`, int [n], index `Bundle.outcomes`.
    """

    id: str
    sequence: int
    margins: Margins
    outputs: list[Any]
    outcomes: npt.NDArray[np.intp]
    infer_ns: int
