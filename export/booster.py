"""The text of a LightGBM model, read into trees.

The text is the ground truth: LightGBM writes every threshold and leaf with 17
significant digits, which give back the same float64. Format: `Tree::ToString`
and `GBDT::SaveModelToString` in LightGBM's sources.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from export.errors import ExportRefused

Missing: TypeAlias = Literal["none", "zero", "nan"]

_MISSING: tuple[Missing, ...] = ("none", "zero", "nan")
_CATEGORICAL_BIT = 1
_DEFAULT_LEFT_BIT = 2
_MISSING_SHIFT = 2


@dataclass(frozen=True, slots=True)
class Split:
    """An inner node: `x[feature] <= threshold` goes left.

    `left` and `right` are the index of a split, or `~index` of a leaf.
    """

    feature: int
    threshold: float
    default_left: bool
    missing: Missing
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Tree:
    """One regression tree; without splits it is its only leaf."""

    splits: tuple[Split, ...]
    leaves: tuple[float, ...]


@dataclass(frozen=True)
class Booster:
    """A LightGBM model as its text describes it."""

    trees: tuple[Tree, ...]
    feature_names: tuple[str, ...]
    objective: str
    objective_parameters: dict[str, str]
    classes: int


def parse_booster(text: str) -> Booster:
    """The booster written by `Booster.save_model` or `model_to_string`.

    Raises `ExportRefused` for a text that is no LightGBM model or uses a
    construct whose equality is not proven (named in the message).
    """
    header, *blocks = _blocks(text)
    if "version" not in header or "feature_names" not in header:
        raise ExportRefused(
            "expected the text of a LightGBM model, got a file without its header: write it with save_model"
        )
    _refuse_unproven(header, blocks)
    trees = tuple(_tree(block) for block in blocks)
    if not trees:
        raise ExportRefused("expected a LightGBM model with trees, got one without any")
    declared = len(header.get("tree_sizes", "").split())
    if declared != len(trees) or "end of trees" not in text:
        raise ExportRefused(f"expected {declared} trees, got {len(trees)}: the file is not complete")
    names = tuple(header["feature_names"].split(" "))
    if any(split.feature >= len(names) for tree in trees for split in tree.splits):
        raise ExportRefused("expected splits on the named features, got another feature: the file is damaged")
    objective, *parameters = header.get("objective", "").split(" ")
    return Booster(
        trees=trees,
        feature_names=names,
        objective=objective,
        objective_parameters=dict(p.split(":", 1) for p in parameters if ":" in p),
        classes=int(header["num_tree_per_iteration"]),
    )


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """The header and each tree as key-value pairs; a line `Tree=` opens a block."""
    block: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("end of trees"):
            break
        if line.startswith("Tree="):
            yield block
            block = {}
        key, _, value = line.partition("=")
        block[key.strip()] = value
    yield block


def _refuse_unproven(header: dict[str, str], blocks: list[dict[str, str]]) -> None:
    if "average_output" in header:
        raise ExportRefused("expected a boosted sum, got boosting=rf, whose average is not proven equal")
    if any(block.get("is_linear", "0").strip() == "1" for block in blocks):
        raise ExportRefused("expected constant leaves, got linear_tree=true, which is not proven equal")
    if any(int(block.get("num_cat", "0")) for block in blocks):
        raise ExportRefused("expected numerical splits, got categorical ones: train on the codes as numbers")
    if int(header.get("num_tree_per_iteration", "1")) != 1:
        raise ExportRefused("expected one tree an iteration, got a multiclass model")


def _tree(block: dict[str, str]) -> Tree:
    try:
        leaves = _floats(block["leaf_value"])
        if int(block["num_leaves"]) != len(leaves):
            raise ValueError("the leaves do not fit their number")
        if len(leaves) == 1:
            return Tree((), leaves)
        columns = (
            _ints(block["split_feature"]),
            _floats(block["threshold"]),
            _ints(block["decision_type"]),
            _ints(block["left_child"]),
            _ints(block["right_child"]),
        )
        splits = tuple(_split(*row) for row in zip(*columns, strict=True))
        _check_shape(splits, leaves)
    except (KeyError, ValueError, IndexError) as error:
        raise ExportRefused(
            f"expected a complete tree {block.get('Tree', '?')}, got a damaged one ({error}): "
            "save the model again"
        ) from None
    return Tree(splits, leaves)


def _split(feature: int, threshold: float, decision: int, left: int, right: int) -> Split:
    return Split(
        feature=feature,
        threshold=threshold,
        default_left=bool(decision & _DEFAULT_LEFT_BIT),
        missing=_MISSING[decision >> _MISSING_SHIFT & 3],
        left=left,
        right=right,
    )


def _check_shape(splits: tuple[Split, ...], leaves: tuple[float, ...]) -> None:
    """Every split but the root and every leaf hangs below exactly one split."""
    children = sorted(child for split in splits for child in (split.left, split.right))
    expected = [*range(-len(leaves), 0), *range(1, len(splits))]
    if children != expected or len(leaves) != len(splits) + 1 or any(split.feature < 0 for split in splits):
        raise ValueError("the splits form no tree")


def _ints(values: str) -> tuple[int, ...]:
    return tuple(map(int, values.split()))


def _floats(values: str) -> tuple[float, ...]:
    return tuple(map(float, values.split()))
