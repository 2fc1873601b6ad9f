"""The ways through a forest, as arrays from which a server explains a row without the model's library.

A leaf is reached where a condition holds of each feature on its way: the splits by one
feature are one condition together. Beside it stands the share of the training data that
goes on there, the product of the shares at these splits: what a way counts for where the
feature is not known (path-dependent TreeSHAP: Lundberg et al., Consistent Individualized
Feature Attribution for Tree Ensembles, 2018, algorithm 1).
"""

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from export.forest.graph import exact_threshold, missing_goes_left, zero_is_missing
from export.forest.trees import Forest, Split, Tree

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
#: Conditions of all leaves beyond which the arrays would take more than 100 MB of each worker.
MAX_CONDITIONS = 2_000_000


class Condition(NamedTuple):
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


_ANY = Condition()


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
    low, high, codes, others, missing, share = _columns(way for _, _, way in ends)
    start = np.array([math.fsum(terms) for terms in base]) * scale + (np.array(bias) if len(bias) else 0.0)
    return {
        "feature": np.array([feature for _, _, way in ends for feature in way], dtype=np.int32),
        "low": np.array(low, dtype=np.float64),
        "high": np.array(high, dtype=np.float64),
        "share": np.array(share, dtype=np.float64),
        "missing": np.array(missing, dtype=np.bool_),
        "others": np.array(others, dtype=np.bool_),
        "codes": np.array(
            [(i, code) for i, some in enumerate(codes) if some for code in sorted(some)], dtype=np.int64
        ).reshape(-1, 2),
        "size": np.array([len(way) for _, _, way in ends], dtype=np.int32),
        "value": np.array([value for value, _, _ in ends], dtype=np.float64) * scale / divisor,
        "target": np.array([target for _, target, _ in ends], dtype=np.int32),
        "base": start / divisor,
        "narrow": np.array(forest.rounded or forest.precision == "float32"),
        "absent": np.array(math.nan if forest.absent is None else forest.absent),
        "zero": np.array(sorted(zero_is_missing(forest)), dtype=np.int32),
    }


def _columns(ways: Iterable[Mapping[int, Condition]]) -> Iterable[tuple[Any, ...]]:
    """The members of all conditions, each as a column; a forest has millions of them."""
    conditions = [condition for way in ways for condition in way.values()]
    return zip(*conditions, strict=True) if conditions else [()] * len(_ANY)


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
        before, total = way.get(split.feature, _ANY), left + right
        limit = math.nan if split.members else _limit(split.threshold, forest)
        for child, goes_left, cover in ((split.right, False, right), (split.left, True, left)):
            share = before.share * (cover / total if total else 0.5)
            narrowed = _narrowed(before, split, limit, share, goes_left=goes_left)
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


def _narrowed(before: Condition, split: Split, limit: float, share: float, *, goes_left: bool) -> Condition:
    """The condition after one more split, `limit` the largest number that goes left there."""
    low, high, codes, others, missing, _ = before
    if split.members:
        missing = missing and split.default_left == goes_left
        codes, others = _both(before, frozenset(split.members), others=not goes_left)
        return Condition(low, high, codes, others, missing, share)
    missing = missing and missing_goes_left(split) == goes_left
    if goes_left:
        return Condition(low, min(high, limit), codes, others, missing, share)
    return Condition(limit if math.isnan(low) else max(low, limit), high, codes, others, missing, share)


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
