"""Whether every tree follows a feature in one direction, shown leaf by leaf and not by trying rows.

A library may be told to keep a direction and break it all the same (LightGBM's `advanced`
method does). A tree rises with a feature if of every two leaves that a row can pass between
by a larger value of that feature alone, the second is not lower.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from export.errors import ExportRefused
from export.forest.paths import Condition, leaves
from export.forest.trees import Forest, Tree
from server.model.schema import Feature

#: Leaves that are compared with all others of their tree at once.
_BLOCK = 256
_UP, _DOWN = "up", "down"


def monotone_report(forest: Forest | None, features: Sequence[Feature]) -> dict[str, dict[str, object]]:
    """Of each feature with a direction how many trees split by it, all of which follow it.

    Empty for a model of no forest or of several sums. Raises `ExportRefused` for a feature
    that some tree does not follow.
    """
    if forest is None or forest.targets != 1:
        return {}
    found: dict[str, dict[str, object]] = {}
    for index, feature in enumerate(features):
        if feature.monotone not in (_UP, _DOWN):
            continue
        trees = [tree for tree in forest.trees if any(split.feature == index for split in tree.splits)]
        against = sum(not _follows(tree, forest, index, feature.monotone) for tree in trees)
        if against:
            raise ExportRefused(
                f"expected the output to go {feature.monotone} with {feature.name} in every tree, as its "
                f"`monotone` says, got {against} of {len(trees)} trees in which it does not: train with the "
                "constraint (LightGBM: monotone_constraints_method=basic), or take `monotone` out"
            )
        found[feature.name] = {"direction": feature.monotone, "trees": len(trees), "against": against}
    return found


def _follows(tree: Tree, forest: Forest, feature: int, direction: str) -> bool:
    found = list(leaves(tree, forest))
    values = np.array([value for value, _ in found])
    ways = [way for _, way in found]
    low, high = _bounds([way.get(feature, Condition()) for way in ways])
    others = sorted({name for way in ways for name in way} - {feature})
    rising = values if direction == _UP else -values
    reached = low < high
    for start in range(0, len(found), _BLOCK):
        some = slice(start, start + _BLOCK)
        worse = (low[some, None] < high) & (rising[some, None] > rising) & reached[some, None] & reached
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
