"""Rows in an order that a processor likes: the same scores, in half the time.

A tree is a chain of branches, and most of what a row costs is branches that the
processor predicted wrongly. Neighbours that take the same branches are predicted
well, so many rows are scored in the order of a coarse key: one bit a feature,
above its median or not, the most telling feature first. Each row's score is its
own, so the order changes no bit of it. Measured on 36,726 rows of a credit model
of 194 trees: 4.35 us a row as they come, 1.9 to 2.4 in this order, sorting included
(`python -m loadtest bench rows`).
"""

import numpy as np
import numpy.typing as npt

from server.model.link import Margins
from server.model.predictor import Predictor
from server.model.schema import Matrix

#: Fewer rows are scored as they come: sorting them costs what it saves.
MIN_ROWS = 256
#: Bits of the key; beyond some ten they split no group that matters.
MAX_BITS = 24


class RowOrder:
    """The key of one model, taken from its golden rows."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        schema = predictor.bundle.schema
        rows = np.array([np.frombuffer(schema.encode(g.fields)) for g in predictor.bundle.golden_rows()])
        margins = predictor.margins(rows).reshape(len(rows), -1)
        # The middle value that occurs; NaN is above nothing, as in the key.
        cuts = np.sort(np.nan_to_num(rows, nan=-np.inf), axis=0)[len(rows) // 2]
        telling = [_effect(rows[:, i] > cuts[i], margins) for i in range(rows.shape[1])]
        self._columns = np.argsort(telling)[::-1][:MAX_BITS]
        self._cuts = cuts[self._columns]
        self._weights = 2.0 ** -np.arange(len(self._columns))

    def margins(self, rows: Matrix) -> Margins:
        """`Predictor.margins`, equal to the bit; for any thread."""
        if len(rows) < MIN_ROWS:
            return self._predictor.margins(rows)
        # Not `@`: OpenBLAS ends the process where it finds no memory for its buffers.
        keys = np.einsum("ij,j->i", rows[:, self._columns] > self._cuts, self._weights)
        order = np.argsort(keys)
        ordered = self._predictor.margins(rows[order])
        margins = np.empty_like(ordered)
        margins[order] = ordered
        return margins


def _effect(above: npt.NDArray[np.bool_], margins: Margins) -> float:
    """How far apart the margins, [n, K], of the two sides lie."""
    if above.all() or not above.any():
        return 0.0
    return float(np.abs(margins[above].mean(axis=0) - margins[~above].mean(axis=0)).sum())
