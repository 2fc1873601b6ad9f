"""Counts encoded rows into the bins of a drift plan, many at once; what the observer counts drift with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

#: Rows are told apart by the slot they mark; how many differ is read off how many are
#: marked (Whang et al., A linear-time probabilistic counting algorithm, 1990).
MARKS = 1024
#: Up to so many edges a value is compared with each of them, in one call for all columns.
_FEW_EDGES = 16
#: Values that are counted in one go: they fit the processor's cache.
_BLOCK_VALUES = 2**13

Counts = npt.NDArray[np.float64]


class ColumnPlan(NamedTuple):
    """How one column is counted, in a plan a JSON list: its place in a row, its slots, edges and range.

    `first` is the slot of the first bin, `missing` that of missing values; `low` to `high` is
    the range of training, None where it has no limit.
    """

    place: int
    first: int
    missing: int
    edges: Sequence[float]
    low: float | None
    high: float | None

    @property
    def beyond(self) -> int:
        """The slot of the numbers outside the range of training."""
        return self.missing + 1


class _Columns(NamedTuple):
    """What is counted: places in a row, slots of the first bin, of missing; the range seen in training."""

    at: npt.NDArray[np.intp]
    first: npt.NDArray[np.intp]
    missing: npt.NDArray[np.intp]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


class RowCounter:
    """Counts one model's rows into one worker's slots by a plan (`DriftSlots.plan`).

    And into `tally`, float64 [size], if there is one: a window that begins when its owner says.
    """

    def __init__(
        self, plan: Mapping[str, Any], values: "memoryview[float]", tally: Counts | None = None
    ) -> None:
        first, before = plan["windows"]
        self._window_rows, self._size, self._width = plan["window_rows"], plan["size"], plan["width"]
        self._marks = plan["marks"]
        slots = np.frombuffer(values.cast("B"), dtype=np.float64)
        self._window: Counts = slots[first : first + self._size]
        self._before: Counts = slots[before : before + self._size]
        self._tally = tally
        columns = [ColumnPlan(*column) for column in plan["columns"]]
        self._columns = _Columns(
            np.array([column.place for column in columns], dtype=np.intp),
            np.array([column.first for column in columns], dtype=np.intp),
            np.array([column.missing for column in columns], dtype=np.intp),
            np.array([_number(column.low, -np.inf) for column in columns]),
            np.array([_number(column.high, np.inf) for column in columns]),
        )
        self._edges = [np.array(column.edges) for column in columns]
        self._many = [i for i, edges in enumerate(self._edges) if len(edges) > _FEW_EDGES]
        few = [edges if i not in self._many else () for i, edges in enumerate(self._edges)]
        # Columns of fewer edges get some that no value is above: float64 [edges, columns].
        self._few_edges = np.full((max(map(len, few)), len(few)), np.inf)
        for i, edges in enumerate(few):
            self._few_edges[: len(edges), i] = edges
        self._block_rows = max(1, _BLOCK_VALUES // len(columns))
        self._mixers = _mixers(self._width)

    def count(self, rows: Iterable[bytes], give_way: Callable[[], object] = lambda: None) -> None:
        """Count rows: each the bytes of 1 + F float64, the score and the encoded row, or of several such.

        `give_way` is called between the steps, of which none takes long.
        """
        block = np.frombuffer(b"".join(rows)).reshape(-1, 1 + self._width)
        done = 0
        while done < len(block):
            # Up to the end of the window, which then becomes the one before.
            left = max(1, self._window_rows - int(self._window[0]))
            part = block[done : done + min(left, self._block_rows)]
            self._add(part, give_way)
            done += len(part)
            if self._window[0] >= self._window_rows:
                self._before[:] = self._window
                self._window[:] = 0.0

    def _add(self, block: npt.NDArray[np.float64], give_way: Callable[[], object]) -> None:
        columns, size = self._columns, self._size
        values = block[:, columns.at]
        missing = np.isnan(values)
        give_way()
        bins = self._bins(values, give_way)
        give_way()
        slots = np.where(missing, columns.missing, columns.first + bins)
        beyond = ((values < columns.low) | (values > columns.high)).sum(axis=0)
        give_way()
        counts = np.bincount(slots.ravel(), minlength=size).astype(np.float64)
        counts[columns.missing + 1] += beyond
        counts[0] += len(block)
        marks = self._marks + self._mark(block[:, 1:])
        give_way()
        # Together: who reads between them would find rows of which none tells something new.
        self._window[marks] = 1.0
        self._window += counts
        if self._tally is not None:
            self._tally += counts

    def _bins(self, values: npt.NDArray[np.float64], give_way: Callable[[], object]) -> npt.NDArray[np.intp]:
        """The bin of every value, int [n, columns]: as many as there are edges below it."""
        few = np.zeros(values.shape, dtype=np.int8)
        for edges in self._few_edges:
            few += values > edges
        give_way()
        bins = few.astype(np.intp)
        for i in self._many:
            bins[:, i] = np.searchsorted(self._edges[i], values[:, i])
        return bins

    def _mark(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """One of `MARKS` for each row, the same for equal rows: a sum of products in 64 bits, its highest."""
        words = np.ascontiguousarray(rows).view(np.uint64)
        mixed = ((words ^ (words >> np.uint64(32))) * self._mixers).sum(axis=1, dtype=np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
        marks: npt.NDArray[np.intp] = (mixed >> np.uint64(54)).astype(np.intp)
        return marks


def _mixers(count: int) -> npt.NDArray[np.uint64]:
    """So many odd numbers of 64 bits (splitmix64); `numpy.random` would be 2 MB more of memory."""
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))) | np.uint64(1)


def _number(value: float | None, otherwise: float) -> float:
    """JSON has no infinities: a plan has null for them."""
    return otherwise if value is None else value
