"""The smallest single change that turns a decision: a grid of cases, scored in one call."""

import asyncio
import math
from typing import NamedTuple

import numpy as np

from server.model.link import Margins
from server.model.predictor import Predictor
from server.model.schema import Matrix, Row
from server.scoring.many_rows import INLINE_ROWS
from ui.cases.grids import Grids

#: What it counts, against the whole width of a number, to be another category or to become known.
_OTHER_CATEGORY = 0.5
_BECOME_KNOWN = 0.25
#: Features whose changes are tried; of hundreds the others move the score too little.
MAX_FEATURES = 40


class Flip(NamedTuple):
    """One feature with another value, and the answer that follows; `size` is from 0 to about 1."""

    feature: str
    value: float
    probability: float
    outcome: int
    size: float


class FlipsFound(NamedTuple):
    """The changes that turn a decision, the smallest first, and the probability at each value tried."""

    flips: list[Flip]
    curves: dict[str, list[float]]


class Flips:
    """Finds changes for one binary model. `order` names the features, the most important first."""

    def __init__(self, predictor: Predictor, grids: Grids, order: list[str]) -> None:
        self._predictor, self._grids = predictor, grids
        self._schema = predictor.bundle.schema
        self._names = order[:MAX_FEATURES]
        #: How many cases one search scores.
        self.cases = sum(len(grids.values[name]) for name in self._names)
        self._columns = [self._schema.names.index(name) for name in self._names]

    async def find(self, row: Row) -> FlipsFound:
        """Of each feature the smallest change that turns the decision on one encoded row, the smallest first.

        A change to unknown is none: what is not said is no advice.
        """
        values = np.frombuffer(row)
        rows, owners = self._cases(values)
        margins = await margins_of(self._predictor, rows)
        turns = self._turns(self._predictor.predict(row)[1])
        best: dict[str, Flip] = {}
        probabilities = self._predictor.output_array(margins).tolist()
        decisions = self._predictor.outcomes(np.array(probabilities), rows).tolist()
        for case, owner, probability, other in zip(rows, owners, probabilities, decisions, strict=True):
            if other not in turns:
                continue
            name, column = self._names[owner], self._columns[owner]
            size = self._size(name, float(values[column]), float(case[column]))
            if name not in best or size < best[name].size:
                best[name] = Flip(name, float(case[column]), probability, other, size)
        curves: dict[str, list[float]] = {name: [] for name in self._names}
        for owner, probability in zip(owners, probabilities, strict=True):
            curves[self._names[owner]].append(probability)
        return FlipsFound(sorted(best.values(), key=lambda change: change.size), curves)

    def _turns(self, decision: int) -> frozenset[int]:
        """The decisions that turn one: of the first the score's others, of any other the first."""
        by_score = len(self._predictor.judge.limits) + 1 if self._predictor.judge is not None else 2
        return frozenset(range(1, by_score)) if decision == 0 else frozenset({0})

    def _cases(self, values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[Matrix, list[int]]:
        """Every value of every feature in turn, float64 [n, F], and whose turn each is."""
        grids = [self._grids.values[name] for name in self._names]
        owners = [i for i, grid in enumerate(grids) for _ in grid]
        rows = np.tile(values, (len(owners), 1))
        stops = [stop for grid in grids for stop in grid]
        rows[np.arange(len(owners)), [self._columns[i] for i in owners]] = stops
        return rows, owners

    def _size(self, name: str, before: float, after: float) -> float:
        if self._schema[name].form_kind in ("category", "flag"):
            return _OTHER_CATEGORY
        size = abs(self._grids.place(name, after) - self._grids.place(name, before))
        return size + _BECOME_KNOWN if math.isnan(before) else size


async def margins_of(predictor: Predictor, rows: Matrix) -> Margins:
    """The margins of encoded rows, float64 [n, F]: of many beside the loop, so that others are answered."""
    if len(rows) <= INLINE_ROWS:
        return predictor.margins(rows)
    return await asyncio.to_thread(predictor.margins, rows)
