"""Whether every tree keeps to what is said of a feature, shown leaf by leaf and not by trying rows.

A library may be told to keep a direction and break it all the same (LightGBM's `advanced`
method does). A tree rises with a feature if of every two leaves that a row can pass between
by a larger value of that feature alone, the second is not lower; its missing value is the
highest if no leaf that a row reaches by a known value is above the one it reaches without.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from export.errors import ExportRefused
from export.forest.paths import Condition, leaves
from export.forest.trees import Forest
from server.model.schema import Feature

#: Leaves that are compared with all others of their tree at once.
_BLOCK = 256
_UP = "up"


def monotone_report(forest: Forest | None, features: Sequence[Feature]) -> dict[str, dict[str, object]]:
    """Of each feature with a direction how many trees split by it, all of which follow it.

    Empty for a model of no forest or of several sums. Raises `ExportRefused` for a feature
    that some tree does not follow.
    """
    found: dict[str, dict[str, object]] = {}
    for feature, trees, against in _split_by(forest, features, "monotone", _follows):
        if against:
            raise ExportRefused(
                f"expected the output to go {feature.monotone} with {feature.name} in every tree, as its "
                f"`monotone` says, got {against} of {trees} trees in which it does not: train with the "
                "constraint (LightGBM: monotone_constraints_method=basic), or take `monotone` out"
            )
        found[feature.name] = {"direction": feature.monotone, "trees": trees, "against": against}
    return found


def missing_report(forest: Forest | None, features: Sequence[Feature]) -> dict[str, dict[str, object]]:
    """Of each feature with an end for missing values how many trees split by it, all of which keep to it.

    So that nobody gains by leaving it out. Empty and raises as `monotone_report`.
    """
    found: dict[str, dict[str, object]] = {}
    for feature, trees, against in _split_by(forest, features, "missing", _ends):
        if against:
            raise ExportRefused(
                f"expected a missing {feature.name} to give the {feature.missing} output of its values in "
                f"every tree, as its `missing` says, got {against} of {trees} trees in which a known "
                "value goes beyond it: train so (python -m train does), or take `missing` out"
            )
        found[feature.name] = {"gives": feature.missing, "trees": trees, "against": against}
    return found


_Leaves: TypeAlias = list[tuple[float, Mapping[int, Condition]]]


def _split_by(
    forest: Forest | None,
    features: Sequence[Feature],
    member: str,
    keeps: Callable[[_Leaves, int, str], bool],
) -> Iterator[tuple[Feature, int, int]]:
    """Each feature of which that member says something, how many trees split by it, and how many break it."""
    if forest is None or forest.targets != 1:
        return
    for index, feature in enumerate(features):
        if getattr(feature, member):
            if forest.is_linear:
                raise ExportRefused(
                    f"expected leaves that are constants to show `{member}` of {feature.name}, got "
                    "linear_tree=true: train without it, or take the member out"
                )
            trees = [tree for tree in forest.trees if any(split.feature == index for split in tree.splits)]
            said = getattr(feature, member)
            yield (
                feature,
                len(trees),
                sum(not keeps(list(leaves(tree, forest)), index, said) for tree in trees),
            )


def _follows(found: _Leaves, feature: int, direction: str) -> bool:
    low, high = _bounds([way.get(feature, Condition()) for _, way in found])
    reached = low < high

    def passes(some: slice) -> npt.NDArray[np.bool_]:
        by_larger: npt.NDArray[np.bool_] = (low[some, None] < high) & reached[some, None] & reached
        return by_larger

    return _never_falls(found, feature, passes, rising=direction == _UP)


def _ends(found: _Leaves, feature: int, end: str) -> bool:
    conditions = [way.get(feature, Condition()) for _, way in found]
    missing = np.array([condition.missing for condition in conditions])
    low, high = _bounds(conditions)
    known = (low < high) & np.array([c.others or bool(c.codes) for c in conditions])

    def passes(some: slice) -> npt.NDArray[np.bool_]:
        by_leaving_out: npt.NDArray[np.bool_] = known[some, None] & missing
        return by_leaving_out

    return _never_falls(found, feature, passes, rising=end == "highest")


def _never_falls(
    found: _Leaves, feature: int, passes: Callable[[slice], npt.NDArray[np.bool_]], *, rising: bool
) -> bool:
    """Whether no way from one leaf to another by this feature alone lowers the value, or raises it.

    `passes` gives for some leaves and all others, bool [n, L], whether the feature leads there.
    """
    values = np.array([value for value, _ in found]) * (1.0 if rising else -1.0)
    ways = [way for _, way in found]
    others = sorted({name for way in ways for name in way} - {feature})
    for start in range(0, len(found), _BLOCK):
        some = slice(start, start + _BLOCK)
        worse = passes(some) & (values[some, None] > values)
        for other in others:
            if not worse.any():
                break
            worse &= _together([way.get(other, Condition()) for way in ways], some)
        if worse.any():
            return False
    return True


def _bounds(conditions: Sequence[Condition]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    low = np.array([-np.inf if np.isnan(c.low) else c.low for c in conditions])
    return low, np.array([c.high for c in conditions])


def _together(conditions: Sequence[Condition], some: slice) -> npt.NDArray[np.bool_]:
    """Whether one value, or NaN, can meet the condition of each of some leaves and of each leaf."""
    low, high = _bounds(conditions)
    known = np.maximum(low[some, None], low) < np.minimum(high[some, None], high)
    if any(c.codes or not c.others for c in conditions):
        rows = [[_share_codes(a, b) for b in conditions] for a in conditions[some]]
        known &= np.array(rows, dtype=np.bool_).reshape(known.shape)
    missing = np.array([c.missing for c in conditions])
    together: npt.NDArray[np.bool_] = known | (missing[some, None] & missing)
    return together


def _share_codes(a: Condition, b: Condition) -> bool:
    """Whether some code is among those of both."""
    if a.others and b.others:
        return True
    if not a.others and not b.others:
        return bool(a.codes & b.codes)
    within, without = (b, a) if a.others else (a, b)
    return bool(within.codes - without.codes)
