"""Decision trees as every boosting library means them, whatever file they came from."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

#: What a split takes for missing: nothing (NaN counts as 0.0), zeros and NaN, or NaN.
Missing: TypeAlias = Literal["none", "zero", "nan"]
Precision: TypeAlias = Literal["float64", "float32"]


@dataclass(frozen=True, slots=True)
class Split:
    """An inner node: `x[feature] <= threshold` (or `<`, see `Forest`) goes left.

    Of a categorical split `members` are the codes that go left and every other
    value goes right; NaN goes where `default_left` says. `left` and `right` are the
    index of a split, or `~index` of a leaf.
    """

    feature: int
    threshold: float
    default_left: bool
    missing: Missing
    left: int
    right: int
    members: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LinearLeaf:
    """A leaf that is `constant` plus each coefficient times its feature, added in this order."""

    constant: float
    features: tuple[int, ...]
    coefficients: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """One regression tree; without splits it is its only leaf.

    `covers` are how much of the training data reached each leaf, in rows or as the
    library weighs them; empty where the file does not tell. Of `linear` leaves, as LightGBM's
    `linear_tree` has them, `leaves` are the values where a feature of theirs is missing.
    """

    splits: tuple[Split, ...]
    leaves: tuple[float, ...]
    covers: tuple[float, ...] = ()
    linear: tuple[LinearLeaf, ...] = ()

    def paths(self) -> Iterator[list[tuple[int, bool]]]:
        """For every split the way there: (split, goes left) from the root, itself last."""
        stack: list[list[tuple[int, bool]]] = [[(0, True)]] if self.splits else []
        while stack:
            path = stack.pop()
            yield path
            index = path[-1][0]
            for child, goes_left in ((self.splits[index].left, True), (self.splits[index].right, False)):
                if child >= 0:
                    stack.append([*path[:-1], (index, goes_left), (child, True)])


@dataclass(frozen=True)
class Forest:
    """Trees whose leaves are added up in their order, tree i to target `groups[i]`.

    Without `groups` it is target `i % targets`. `precision` is that of
    thresholds, leaves and sums; `rounded` tells that values are rounded to
    float32 all the same, as scikit-learn does. `strict` tells whether a split is
    `<`. `base` is where the sum of each target starts, or empty for 0. `band`
    `absent` is a value that counts as missing everywhere. `sparse` tells that zeros do, before
    any rounding, but in `coded` columns, which hold codes. `band` tells that values next to
    zero count as zero, as in LightGBM.
    """

    trees: tuple[Tree, ...]
    width: int
    targets: int = 1
    precision: Precision = "float64"
    strict: bool = False
    rounded: bool = False
    band: bool = False
    base: tuple[float, ...] = ()
    absent: float | None = None
    groups: tuple[int, ...] = ()
    sparse: bool = False
    coded: frozenset[int] = frozenset()

    @property
    def is_linear(self) -> bool:
        """Whether some leaf is no constant."""
        return any(tree.linear for tree in self.trees)

    def target(self, tree: int) -> int:
        """The target a tree's leaves are added to."""
        return self.groups[tree] if self.groups else tree % self.targets

    def splits(self) -> Iterator[Split]:
        for tree in self.trees:
            yield from tree.splits

    def thresholds(self) -> list[list[float]]:
        """For each feature the thresholds it is compared with, ascending, each once."""
        found: list[set[float]] = [set() for _ in range(self.width)]
        for split in self.splits():
            if not split.members:
                found[split.feature].add(split.threshold)
        return [sorted(values) for values in found]

    def members(self) -> dict[int, list[int]]:
        """For each feature with categorical splits the codes that occur in them, ascending."""
        found: dict[int, set[int]] = {}
        for split in self.splits():
            if split.members:
                found.setdefault(split.feature, set()).update(split.members)
        return {feature: sorted(codes) for feature, codes in found.items()}

    def next(self, value: float, towards: float) -> float:
        """The neighbour of a value in the precision that values have."""
        if self.precision == "float64" and not self.rounded:
            return math.nextafter(value, towards)
        with np.errstate(over="ignore"):  # behind the largest float32 comes infinity
            return float(np.nextafter(np.float32(value), np.float32(towards)))


def check_shape(splits: tuple[Split, ...], leaves: tuple[float, ...]) -> None:
    """Raise `ValueError` unless the splits form a tree.

    Every split but the root and every leaf hangs below exactly one split, and
    all of them below the root.
    """
    if not splits and len(leaves) == 1:
        return
    children = sorted(child for split in splits for child in (split.left, split.right))
    expected = [*range(-len(leaves), 0), *range(1, len(splits))]
    if children != expected or any(split.feature < 0 for split in splits):
        raise ValueError("the splits form no tree")
    if sum(1 for _ in Tree(splits, leaves).paths()) != len(splits):
        raise ValueError("the splits form a circle")
