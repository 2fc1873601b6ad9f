"""The responses to many rows of one model."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from server.model.judge import Verdicts
from server.model.link import Margins


class ScoredRows(NamedTuple):
    """The responses to n rows.

    `outputs` are n probabilities (binary), predicted values (regression) or lists
    of probabilities (multiclass); `outcomes`, int [n], index `Bundle.outcomes`.
    `verdicts` are those of the bundle's policy, None without one.
    `row_ids` are the client's ids of the rows, each as JSON, empty if there are none; `identity`
    is what the lines alone tell of the request (`RequestIdentity.members`). `reasons` are a JSON
    list a row, empty if none are asked for. `id` and `sequence` are there once all else is
    (`RowsScorer.numbered`).
    """

    margins: Margins
    outputs: list[Any]
    outcomes: npt.NDArray[np.intp]
    infer_ns: int
    row_ids: Sequence[bytes] = ()
    identity: bytes = b""
    verdicts: Verdicts | None = None
    reasons: Sequence[bytes] = ()
    id: str = ""
    sequence: int = 0
