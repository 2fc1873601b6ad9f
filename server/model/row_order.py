"""Rows in an order that a processor likes: the same scores, in half the time.

A tree is a chain of branches, and most of what a row costs is branches that the
processor predicted wrongly. Neighbours that take the same branches are predicted
well, so many rows are scored in the order of a coarse key: one bit a feature,
above its median or not, the most telling feature first. Each row's score is its
own, so the order changes no bit of it. Measured on 36,726 rows of a credit model
of 194 trees: 4.35 us a row as they come, 1.9 to 2.4 in this order, sorting included
(`python -m loadtest bench rows`).
"""

import ctypes
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from server.model.link import Margins
from server.model.predictor import Predictor
from server.model.schema import Matrix

#: Fewer rows are scored as they come: sorting them costs what it saves.
MIN_ROWS = 256
#: Bits of the key; beyond some ten they split no group that matters.
MAX_BITS = 24
#: Rows scored before others have the processor: 0.2 ms of the shipped model.
STEP_ROWS = 64
#: `os.sched_yield` of Python 3.11 gives way and keeps the interpreter's lock; this one gives both.
_give_way = ctypes.CDLL(None).sched_yield


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
        ordered = _in_steps(self._predictor.margins, rows[order])
        margins = np.empty_like(ordered)
        margins[order] = ordered
        return margins


def _in_steps(margins: Callable[[Matrix], Margins], rows: Matrix) -> Margins:
    """The margins of some rows after the other; whoever waits for the processor has it in between.

    A worker's single rows and many rows are threads of one priority: the scheduler would let the one
    that scores go on for some milliseconds, and what is a slice to it is a late response to others.
    """
    found = [margins(rows[:STEP_ROWS])]
    for start in range(STEP_ROWS, len(rows), STEP_ROWS):
        _give_way()
        found.append(margins(rows[start : start + STEP_ROWS]))
    return np.concatenate(found)


def _effect(above: npt.NDArray[np.bool_], margins: Margins) -> float:
    """How far apart the margins, [n, K], of the two sides lie."""
    if above.all() or not above.any():
        return 0.0
    return float(np.abs(margins[above].mean(axis=0) - margins[~above].mean(axis=0)).sum())
