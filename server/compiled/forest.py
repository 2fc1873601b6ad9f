"""A forest as it is compiled: the exporter's exact splits and leaves, and what stands around them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

#: Modes of `TreeEnsemble` (ai.onnx.ml 5) that are compiled.
LESS_OR_EQUAL, LESS, MEMBER = 0, 1, 6


class NotCompilable(Exception):
    """A graph that is left to ONNX Runtime; says why."""


class Node(NamedTuple):
    """A leaf (`weight`), or a split of `feature` at `value`, or by membership of `members`.

    `yes` and `no` are nodes; `missing_yes` says where NaN goes.
    """

    weight: float = 0.0
    feature: int = -1
    mode: int = LESS_OR_EQUAL
    value: float = 0.0
    members: tuple[float, ...] = ()
    missing_yes: bool = False
    yes: "Node | None" = None
    no: "Node | None" = None


class GraphTree(NamedTuple):
    """A tree, the target its leaves are added to, and the number of its splits."""

    root: Node
    target: int
    splits: int


class GraphForest(NamedTuple):
    """Trees in the order of their sum, in float32 or float64, over rows of `width` values.

    `before` is a graph from `features` to the rows that the trees compare, None if these
    are the features themselves. `row_dtype` holds every value of these rows: float32 also of a
    float64 forest whose rows were rounded before, as scikit-learn rounds them. Where `before` does
    nothing but round (`only_casts`), that is all that happens to the features.
    """

    trees: list[GraphTree]
    targets: int
    width: int
    dtype: npt.DTypeLike
    before: bytes | None
    row_dtype: npt.DTypeLike
    only_casts: bool = False


def thresholds(forest: GraphForest) -> dict[int, npt.NDArray[np.float64]]:
    """The values at which each feature is compared, ascending."""
    found: dict[int, set[float]] = {}
    for node in splits(forest):
        found.setdefault(node.feature, set()).update(node.members or (node.value,))
    return {feature: np.array(sorted(values)) for feature, values in found.items()}


def categories(forest: GraphForest) -> set[int]:
    """The features that a split asks for membership: their values are codes, whole numbers."""
    return {node.feature for node in splits(forest) if node.mode == MEMBER}


def splits(forest: GraphForest) -> Iterator[Node]:
    """Every split of every tree."""
    waiting = [tree.root for tree in forest.trees]
    while waiting:
        node = waiting.pop()
        if node.yes is not None and node.no is not None:
            yield node
            waiting += [node.yes, node.no]
