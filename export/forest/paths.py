"""The ways through a forest, as arrays from which a server explains a row without the model's library.

A leaf is reached where a condition holds of each feature on its way: the splits by one
feature are one condition together. Beside it stands the share of the training data that
goes on there, the product of the shares at these splits: what a way counts for where the
feature is not known (path-dependent TreeSHAP: Lundberg et al., Consistent Individualized
Feature Attribution for Tree Ensembles, 2018, algorithm 1).
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.forest.graph import exact_threshold, missing_goes_left, zero_is_missing
from export.forest.trees import Forest, Split, Tree

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
#: Conditions of all leaves beyond which the arrays would take more than 100 MB of each worker.
MAX_CONDITIONS = 2_000_000


@dataclass(frozen=True, slots=True)
class Condition:
    """What is asked of one feature: `low < x <= high`, and `x` among `codes` or, if `others`, not among them.

    `missing` says whether NaN goes this way; `low` is NaN without a bound. `share` of the training data goes
    this way.
    """

    low: float = math.nan
    high: float = math.inf
    codes: frozenset[int] = frozenset()
    others: bool = True
    missing: bool = True
    share: float = 1.0


def path_arrays(
    forest: Forest, *, scale: float = 1.0, bias: Sequence[float] = (), divisor: float = 1.0
) -> Arrays | None:
    """The arrays of `contributions.npz`, None if covers are not known or there are too many conditions.

    The terms of a row sum to `(scale * sum of leaves + bias) / divisor`. Of E conditions of L leaves, leaf
    by leaf: `feature` int32 [E], `low`, `high` and `share` float64 [E], `missing` and `others` bool [E];
    `codes` int64 [M, 2], pairs of a condition and a code; `size` int32 [L] conditions, `value`
    float64 [L] and `target` int32 [L] of the leaves; `base` float64 [K], where sums start.
    `narrow`, `absent` and `zero` say what becomes of a row before: rounded to float32, a value that
    counts as missing (or NaN), features whose zeros do.
    """
    if not all(_is_covered(tree) for tree in forest.trees):
        return None
    ends: list[tuple[float, int, Mapping[int, Condition]]] = []
    base: list[list[float]] = [[start] for start in forest.base or [0.0] * forest.targets]
    conditions = 0
    for number, tree in enumerate(forest.trees):
        target = forest.target(number)
        for value, way in leaves(tree, forest):
            base[target].append(value * math.prod(condition.share for condition in way.values()))
            ends.append((value, target, way))
            conditions += len(way)
        if conditions > MAX_CONDITIONS:
            return None
    found = [item for _, _, way in ends for item in way.items()]
    start = np.array([math.fsum(terms) for terms in base]) * scale + (np.array(bias) if len(bias) else 0.0)
    return {
        "feature": np.array([feature for feature, _ in found], dtype=np.int32),
        **{
            name: np.array([getattr(condition, name) for _, condition in found], dtype=kind)
            for name, kind in (
                ("low", np.float64), ("high", np.float64), ("share", np.float64),
                ("missing", np.bool_), ("others", np.bool_),
            )
        },
        "codes": np.array(
            [(i, code) for i, (_, condition) in enumerate(found) for code in sorted(condition.codes)],
            dtype=np.int64,
        ).reshape(-1, 2),
        "size": np.array([len(way) for _, _, way in ends], dtype=np.int32),
        "value": np.array([value for value, _, _ in ends], dtype=np.float64) * scale / divisor,
        "target": np.array([target for _, target, _ in ends], dtype=np.int32),
        "base": start / divisor,
        "narrow": np.array(forest.rounded or forest.precision == "float32"),
        "absent": np.array(math.nan if forest.absent is None else forest.absent),
        "zero": np.array(sorted(zero_is_missing(forest)), dtype=np.int32),
    }  # fmt: skip


def linear_arrays(weights: npt.NDArray[np.float32], absent: float | None) -> Arrays:
    """The arrays of a linear model, `weights` float32 [F + 1, K], the last row where sums start.

    A feature adds its weight times its value, as XGBoost's own contributions of `gblinear` have it.
    """
    return {
        "weights": weights[:-1].astype(np.float64),
        "base": weights[-1].astype(np.float64),
        "narrow": np.array(True),
        "absent": np.array(math.nan if absent is None else absent),
        "zero": np.array([], dtype=np.int32),
    }


def packed(arrays: Arrays) -> bytes:
    """The content of `contributions.npz`, the same bytes every time."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _is_covered(tree: Tree) -> bool:
    if not tree.splits:
        return True
    return bool(tree.covers) and all(math.isfinite(cover) and cover >= 0.0 for cover in tree.covers)


def leaves(tree: Tree, forest: Forest) -> Iterator[tuple[float, Mapping[int, Condition]]]:
    """Each leaf's value with the conditions on the way to it, by feature."""
    if not tree.splits:
        yield tree.leaves[0], {}
        return
    covers = _covers(tree) if tree.covers else {}
    waiting: list[tuple[int, dict[int, Condition]]] = [(0, {})]
    while waiting:
        index, way = waiting.pop()
        if index < 0:
            yield tree.leaves[~index], way
            continue
        split = tree.splits[index]
        left, right = covers.get(split.left, 0.0), covers.get(split.right, 0.0)
        before = way.get(split.feature, Condition())
        for child, goes_left, cover in ((split.right, False, right), (split.left, True, left)):
            share = cover / (left + right) if left + right else 0.5
            narrowed = _narrowed(before, split, forest, goes_left=goes_left)
            narrowed = replace(narrowed, share=before.share * share)
            waiting.append((child, {**way, split.feature: narrowed}))


def _covers(tree: Tree) -> dict[int, float]:
    """What of the training data reached each split and, as `~index`, each leaf."""
    covers = {~i: cover for i, cover in enumerate(tree.covers)}
    order, waiting = [], [0]
    while waiting:
        index = waiting.pop()
        if index >= 0:
            order.append(index)
            waiting += [tree.splits[index].left, tree.splits[index].right]
    for index in reversed(order):
        covers[index] = covers[tree.splits[index].left] + covers[tree.splits[index].right]
    return covers


def _narrowed(before: Condition, split: Split, forest: Forest, *, goes_left: bool) -> Condition:
    """The condition after one more split, but for its share."""
    if split.members:
        missing = before.missing and split.default_left == goes_left
        codes, others = _both(before, frozenset(split.members), others=not goes_left)
        return replace(before, codes=codes, others=others, missing=missing)
    missing = before.missing and missing_goes_left(split) == goes_left
    limit = _limit(split.threshold, forest)
    if goes_left:
        return replace(before, high=min(before.high, limit), missing=missing)
    low = limit if math.isnan(before.low) else max(before.low, limit)
    return replace(before, low=low, missing=missing)


def _both(before: Condition, members: frozenset[int], *, others: bool) -> tuple[frozenset[int], bool]:
    """The codes of which both conditions are true, as a set or as all but a set."""
    if before.others and others:
        return before.codes | members, True
    if before.others:
        return members - before.codes, False
    return (before.codes - members if others else before.codes & members), False


def _limit(threshold: float, forest: Forest) -> float:
    """The largest value that goes left: a split by `<` is one by `<=` of the value before it."""
    if forest.band:
        return exact_threshold(threshold)
    if forest.precision == "float64":
        return threshold
    narrow = float(np.float32(threshold))
    return forest.next(narrow, -math.inf) if forest.strict else narrow
