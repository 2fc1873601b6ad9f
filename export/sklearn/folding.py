"""A pipeline of columns and trees as trees alone.

Where every column that the trees read comes from one column of the table, a split on it
is a split on that one: of a category by the codes that go left, of a scaled number by the
largest one that does. The preprocessing costs nothing then, and the trees read a row as it
comes. What follows from a code or a number is asked of the fitted transformers themselves.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from export.forest.extremes import ZERO_BAND
from export.forest.trees import Forest, Split
from export.reader import flat, keeps
from export.sklearn.plain import Selection
from export.sklearn.tables import LookupTable
from server.model.schema import Matrix

#: Transformers of numbers whose columns stay apart and never turn around: column i becomes column i.
_SCALERS = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")
_BITS = 64
_ENDS = -np.finfo(np.float64).max, np.finfo(np.float64).max


@dataclass(frozen=True)
class Column:
    """Where a column before the trees comes from: a feature, and what each code or number becomes.

    `table` holds what each code becomes, the last entry a missing one. Without it the feature
    is a number: `becomes` gives what numbers [n] are there. `imputes` tells that a missing one
    becomes a number, `moves` that others become other ones, in the same order.
    """

    feature: int
    table: tuple[float, ...] | None = None
    becomes: Callable[[Matrix], Matrix] = lambda numbers: numbers
    imputes: bool = False
    moves: bool = False


def folded(columns: Sequence[Column] | None, forest: Forest, width: int) -> Forest | None:
    """The trees that read `columns` as trees of `width` features, or None where that is not possible."""
    if columns is None or len(columns) != forest.width:
        return None
    if any(not _is_foldable(split, columns[split.feature], forest) for split in forest.splits()):
        return None
    fold = _Fold(forest, columns)
    trees = tuple(replace(tree, splits=tuple(map(fold, tree.splits))) for tree in forest.trees)
    coded = frozenset(column.feature for column in columns if column.table is not None)
    return replace(forest, trees=trees, width=width, band=False, rounded=False, coded=coded)


def _is_foldable(split: Split, column: Column, forest: Forest) -> bool:
    if column.table is not None:
        return True
    # Zero as missing needs a node before the trees; a float32 row has no room for what is scaled.
    is_narrow = forest.precision == "float32"
    lost = is_narrow and (column.moves or (column.imputes and forest.sparse))
    return not (split.members or split.missing == "zero" or lost)


class _Fold:
    """Turns a split of a prepared column into one of its feature; each different one is worked out once."""

    def __init__(self, forest: Forest, columns: Sequence[Column]) -> None:
        self._forest = forest
        self._columns = columns
        self._sides: dict[Any, Split] = {}
        self._limits = _limits(forest, columns)

    def __call__(self, split: Split) -> Split:
        key = replace(split, left=0, right=0)
        if key not in self._sides:
            self._sides[key] = self._side(key)
        side = self._sides[key]
        if side.left:  # the members are those that go right
            return replace(side, left=split.right, right=split.left)
        return replace(side, left=split.left, right=split.right)

    def _side(self, split: Split) -> Split:
        """The split with neither child; `left` is 1 if they change places."""
        column = self._columns[split.feature]
        if column.table is not None:
            left = goes_left(self._forest, split, column.table).tolist()
            return _by_code(column, left, strict=self._forest.strict)
        at_missing = column.becomes(np.array([math.nan]))
        default_left = bool(goes_left(self._forest, split, at_missing)[0])
        threshold = self._limits[split.feature, split.threshold]
        return Split(column.feature, threshold, default_left, "nan", 0, 0)


def _by_code(column: Column, left: list[bool], *, strict: bool) -> Split:
    """A comparison where the codes of one side come first, else the set of those of the smaller side."""
    *known, missing = left
    sides = (
        [code for code, is_left in enumerate(known) if is_left],
        [code for code, is_left in enumerate(known) if not is_left],
    )
    for swapped, codes in enumerate(sides):
        if codes == list(range(len(codes))):
            threshold = float(len(codes)) if strict else len(codes) - 1.0
            return Split(column.feature, threshold, missing != bool(swapped), "nan", swapped, 0)
    swapped = int(len(sides[1]) < len(sides[0]))
    return Split(column.feature, 0.0, missing != bool(swapped), "nan", swapped, 0, tuple(sides[swapped]))


def goes_left(forest: Forest, split: Split, values: Any) -> npt.NDArray[np.bool_]:
    """Whether each value [n] of a split's column goes left, as the library compares it."""
    x = np.asarray(values, dtype=np.float64)
    x = np.where(x == 0.0, np.nan, x) if forest.sparse else x
    with np.errstate(over="ignore"):
        x = x.astype(np.float32).astype(np.float64) if forest.rounded or forest.precision == "float32" else x
    missing = np.isnan(x) if forest.absent is None else np.isnan(x) | (x == forest.absent)
    if forest.band:
        x = np.where(np.abs(x) <= ZERO_BAND, 0.0, x)
    if split.members:
        left = np.isin(np.trunc(x), split.members)
    else:
        missing |= (x == 0.0) & (split.missing == "zero")
        x = np.where(np.isnan(x) & (split.missing == "none"), 0.0, x)
        missing &= split.missing != "none"
        left = x < split.threshold if forest.strict else x <= split.threshold
    result: npt.NDArray[np.bool_] = np.where(missing, split.default_left, left)
    return result


def _limits(forest: Forest, columns: Sequence[Column]) -> dict[tuple[int, float], float]:
    """By prepared column and threshold that of the feature: the largest number that goes left."""
    limits: dict[tuple[int, float], float] = {}
    for i, thresholds in enumerate(forest.thresholds()):
        column = columns[i]
        if column.table is not None or not thresholds:
            continue
        if forest.precision == "float32":  # moved by nothing, and compared as it is
            limits |= {(i, threshold): threshold for threshold in thresholds}
            continue
        at = np.array(thresholds)

        def left(numbers: Matrix, at: Matrix = at, column: Column = column) -> npt.NDArray[np.bool_]:
            return _left_of(forest, column.becomes(numbers), at)

        limits |= {(i, t): value for t, value in zip(thresholds, _largest(left, len(at)), strict=True)}
    return limits


def _left_of(forest: Forest, values: Matrix, thresholds: Matrix) -> npt.NDArray[np.bool_]:
    with np.errstate(over="ignore"):
        x = values.astype(np.float32).astype(np.float64) if forest.rounded else values
    x = np.where(np.abs(x) <= ZERO_BAND, 0.0, x) if forest.band else x
    return x < thresholds if forest.strict else x <= thresholds


def _largest(left: Callable[[Matrix], npt.NDArray[np.bool_]], count: int) -> list[float]:
    """For each of `count` comparisons the largest finite number for which it holds, by halves.

    It holds up to some number and not beyond: -inf where it never does, inf where it always does.
    """
    low, high = (np.full(count, order) for order in _order_of(np.array(_ENDS)))
    always, never = left(_number_at(high)), ~left(_number_at(low))
    for _ in range(_BITS):
        middle = low // 2 + high // 2 + (low % 2 + high % 2) // 2  # without overflow
        holds = left(_number_at(middle))
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    found = np.where(always, math.inf, np.where(never, -math.inf, _number_at(low)))
    numbers: list[float] = found.tolist()
    return numbers


def _order_of(numbers: Matrix) -> npt.NDArray[np.int64]:
    """The place of each float64 in their order: neighbours are one apart."""
    bits = numbers.view(np.int64)
    return np.where(bits < 0, np.iinfo(np.int64).min - bits, bits)


def _number_at(order: npt.NDArray[np.int64]) -> Matrix:
    return np.where(order < 0, np.iinfo(np.int64).min - order, order).view(np.float64)


def columns_of(head: Any, width: int) -> list[Column] | None:
    """Where each column comes from that `head` makes of `width` features, None where that is not known.

    `head` is a fitted pipeline, with tables in the place of encoders (`with_tables`).
    """
    steps = [step for _, step in head.steps if not _passes(step)]
    if not steps or not (isinstance(steps[0], LookupTable) or hasattr(steps[0], "transformers_")):
        return _of_numbers(steps, range(width))
    first, *rest = steps
    found = of_tables(first, range(width)) if isinstance(first, LookupTable) else _of_transformers(first)
    for step in rest:
        if found is None or not isinstance(step, Selection):
            return None
        found = [found[i] for i in step.places]
    return found


def _of_transformers(transformer: Any) -> list[Column] | None:
    found: list[Column] = []
    for _, inner, places in transformer.transformers_:
        if isinstance(inner, LookupTable):
            found += of_tables(inner, places)
            continue
        more = _of_numbers(list(flat(inner)), places)
        if more is None:
            return None
        found += more
    return found


def of_tables(tables: LookupTable, places: Sequence[int]) -> list[Column]:
    """The columns that look-ups of the features at `places` give."""
    outputs = [
        Column(place, tuple(table[:, i].tolist()))
        for place, table in zip(places, tables.tables, strict=True)
        for i in range(table.shape[1])
    ]
    return [outputs[i] for i in tables.order]


def _of_numbers(steps: Sequence[Any], places: Sequence[int]) -> list[Column] | None:
    kept = tuple(step for step in steps if not _passes(step))
    origins = list(places)
    for step in kept:
        if isinstance(step, Selection):
            origins = [origins[i] for i in step.places]
        elif not _keeps_columns(step, len(origins)):
            return None
    imputes = any(type(step).__name__ == "SimpleImputer" for step in kept)
    moves = any(type(step).__name__ in _SCALERS for step in kept)
    return [
        Column(origin, None, partial(_becomes, kept, len(places), i), imputes, moves)
        for i, origin in enumerate(origins)
    ]


def _becomes(steps: Sequence[Any], width: int, place: int, numbers: Matrix) -> Matrix:
    """What numbers [n] become in column `place` of those that transformers make of `width` columns."""
    rows = np.repeat(numbers.reshape(-1, 1), width, axis=1)
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore")  # "X does not have valid feature names": ours are positions
        for step in steps:  # a scaler refuses what the one before made infinite
            rows = np.asarray(step.transform(np.clip(rows, *_ENDS)), dtype=np.float64)
    return rows[:, place]


def _passes(step: Any) -> bool:
    if step is None or isinstance(step, str):
        return step in (None, "passthrough")
    return type(step).__name__ == "FunctionTransformer" and step.func is None


def _keeps_columns(step: Any, count: int) -> bool:
    is_known = type(step).__name__ in ("SimpleImputer", *_SCALERS)
    return is_known and getattr(step, "n_features_in_", None) == count and keeps(step)
