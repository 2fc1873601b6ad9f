"""One tree of an XGBoost model's JSON; a split by categories lists those that go right."""

from typing import Any

import numpy as np

from export.errors import ExportRefused
from export.forest.trees import Split, Tree, check_shape
from server.model.link import float32

_NO_CHILD = -1
#: What XGBoost takes for a code of a category at most (`OutOfRangeCat` in `categorical.h`).
_MOST_CODES = 2**24


def read_tree(tree: dict[str, Any], weight: float, width: int, place: int | None) -> Tree:
    """One tree; of leaves that are vectors (`multi_output_tree`) the value at `place`."""
    lefts, rights = tree["left_children"], tree["right_children"]
    inner, outer = _reachable(lefts, rights)
    number = {node: i for i, node in enumerate(inner)} | {node: ~i for i, node in enumerate(outer)}
    sets = _category_sets(tree)
    splits = tuple(_split(tree, i, number[lefts[i]], number[rights[i]], sets.get(i, ())) for i in inner)
    # dart: XGBoost multiplies a leaf by its tree's weight in float32, then adds.
    leaves = tuple(float32(_leaf(tree, i, place) * weight) for i in outer)
    if any(split.feature >= width for split in splits):
        raise ValueError("a split on another feature")
    if not np.isfinite(leaves).all():
        raise ExportRefused(
            "expected finite leaves, got an XGBoost model with others, which answers no number: the training "
            "diverged; train again with smaller labels, of reg:tweedie without base_score=0 and with some "
            "label above 0"
        )
    check_shape(splits, leaves)
    return Tree(splits, leaves, _covers(tree, outer))


def _covers(tree: dict[str, Any], outer: list[int]) -> tuple[float, ...]:
    """The sum of second derivatives in each leaf, which is what XGBoost weighs its ways by."""
    sums = tree.get("sum_hessian") or ()
    return tuple(float32(float(sums[node])) for node in outer) if len(sums) > max(outer) else ()


def _split(tree: dict[str, Any], node: int, left: int, right: int, members: tuple[int, ...]) -> Split:
    default_left = bool(tree["default_left"][node])
    feature = int(tree["split_indices"][node])
    if members:  # they go right: `Decision` in `categorical.h`
        return Split(feature, 0.0, not default_left, "nan", right, left, members)
    threshold = float32(float(tree["split_conditions"][node]))
    return Split(feature, threshold, default_left, "nan", left, right)


def _leaf(tree: dict[str, Any], node: int, place: int | None) -> float:
    if place is None:
        return float32(float(tree["split_conditions"][node]))
    size = int(tree["tree_param"]["size_leaf_vector"])
    if "leaf_weights" in tree:  # since 3.1; a leaf's number stands where others have their right child
        return float32(float(tree["leaf_weights"][tree["right_children"][node] * size + place]))
    return float32(float(tree["base_weights"][node * size + place]))


def _category_sets(tree: dict[str, Any]) -> dict[int, tuple[int, ...]]:
    """The categories of each node that is split by them."""
    columns = (tree.get(f"categories_{name}") or () for name in ("nodes", "segments", "sizes"))
    sets = {
        int(node): tuple(sorted(map(int, tree["categories"][start : start + size])))
        for node, start, size in zip(*columns, strict=True)
    }
    asked = {i for i, kind in enumerate(tree.get("split_type") or ()) if kind}
    if asked - set(sets) or not all(
        members and 0 <= members[0] <= members[-1] < _MOST_CODES for members in sets.values()
    ):
        raise ValueError("a split by categories without any")
    return sets


def _reachable(lefts: list[int], rights: list[int]) -> tuple[list[int], list[int]]:
    """The splits and the leaves below the root; pruned nodes stay in the file beside them."""
    inner: list[int] = []
    outer: list[int] = []
    waiting = [0]
    while waiting:
        node = waiting.pop()
        if not 0 <= node < len(lefts) or len(inner) + len(outer) > len(lefts):
            raise ValueError("the splits form no tree")
        if lefts[node] == _NO_CHILD:
            outer.append(node)
        else:
            inner.append(node)
            waiting += [lefts[node], rights[node]]
    return inner, outer
