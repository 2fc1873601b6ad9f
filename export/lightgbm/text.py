"""The text of a LightGBM model, read into trees.

The text is the ground truth: LightGBM writes every threshold and leaf with 17
significant digits, which give back the same float64. Format: `Tree::ToString`
and `GBDT::SaveModelToString` in LightGBM's sources.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson

from export.errors import ExportRefused
from export.forest.trees import Forest, Missing, Split, Tree, check_shape
from export.lightgbm.leaves import linear_leaves

_MISSING: tuple[Missing, ...] = ("none", "zero", "nan")
_CATEGORICAL_BIT = 1
_DEFAULT_LEFT_BIT = 2
_MISSING_SHIFT = 2
_WORD_BITS = 32  # of a bitset of categories
_PANDAS = "pandas_categorical:"
#: What comes after the trees; without a mark of their end in files of LightGBM 2.
_ENDS = ("end of trees", "feature importances:")


@dataclass(frozen=True)
class Booster:
    """A LightGBM model as its text describes it.

    `ranges` are the training range of each feature (None: a categorical or
    constant one). `pandas_categories` are the categories of pandas columns, in
    the order of their codes; `categorical` the features that were declared as
    such. `codes` are the least and the largest value of each feature in training
    (None: not known, it has no splits). `average` is the number of iterations a
    random forest divides by, else 1.
    `uses_missing` is LightGBM's setting of that name.
    """

    forest: Forest
    feature_names: tuple[str, ...]
    objective: str
    objective_parameters: dict[str, str]
    ranges: tuple[tuple[float, float] | None, ...]
    categorical: tuple[int, ...]
    codes: tuple[tuple[float, float] | None, ...]
    pandas_categories: tuple[tuple[Any, ...], ...]
    average: int
    uses_missing: bool = True

    @property
    def classes(self) -> int:
        """The number of trees of an iteration: one a class, or 1."""
        return self.forest.targets


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
    names = tuple(header["feature_names"].split(" "))
    try:
        targets = int(header["num_tree_per_iteration"])
        ranges = tuple(map(_range, header["feature_infos"].split(" ")))
        tuple(map(_ends, header["feature_infos"].split(" ")))
    except (KeyError, ValueError) as error:
        raise ExportRefused(
            f"expected a whole header of a LightGBM model, got a damaged one ({error}): save it again"
        ) from None
    forest = Forest(_trees(text, header, blocks), len(names), targets, band=True)
    _check(forest, names, ranges)
    objective, *parameters = header.get("objective", "").split(" ")
    return Booster(
        forest=forest,
        feature_names=names,
        objective=objective,
        objective_parameters={p.partition(":")[0]: p.partition(":")[2] for p in parameters},
        ranges=ranges,
        categorical=tuple(sorted(set(_categorical(header)) | set(forest.members()))),
        codes=tuple(map(_ends, header["feature_infos"].split(" "))),
        pandas_categories=_pandas_categories(text),
        average=len(forest.trees) // targets if "average_output" in header else 1,
        uses_missing="\n[use_missing: 0]\n" not in text,
    )


def _check(forest: Forest, names: tuple[str, ...], ranges: tuple[Any, ...]) -> None:
    if len(ranges) != len(names) or len(set(names)) != len(names):
        raise ExportRefused(
            "expected every feature named once, got other names: the file is damaged; save the model again"
        )
    used = {feature for tree in forest.trees for leaf in tree.linear for feature in leaf.features}
    if max(used, default=0) >= len(names) or any(split.feature >= len(names) for split in forest.splits()):
        raise ExportRefused(
            "expected splits on the named features, got another feature: the file is damaged; save the "
            "model again"
        )
    if forest.targets < 1 or len(forest.trees) % forest.targets:
        raise ExportRefused(
            "expected whole iterations of trees, got a part of one: the file is damaged; save the model again"
        )


def _trees(text: str, header: dict[str, str], blocks: list[dict[str, str]]) -> tuple[Tree, ...]:
    trees = tuple(map(_tree, blocks))
    if not trees:
        raise ExportRefused(
            "expected a LightGBM model with trees, got one without any: train at least one round"
        )
    if "tree_sizes" not in header:
        raise ExportRefused(
            "expected the sizes of the trees in the header, got none, as LightGBM wrote before 2.1: load it "
            "with a newer one and save it again"
        )
    sizes = header["tree_sizes"].split()
    if len(sizes) != len(trees):
        raise ExportRefused(
            f"expected {len(sizes)} trees, got {len(trees)}: the file is not complete; copy or save it again"
        )
    _check_sizes(text, sizes)
    return trees


def _check_sizes(text: str, sizes: list[str]) -> None:
    """LightGBM finds a tree by the sizes of those before it, and aborts the process if one is wrong."""
    start = text.find("\nTree=0\n") + 1
    for i, size in enumerate(sizes):
        if not size.isdigit() or not text.startswith(f"Tree={i}\n", start):
            raise ExportRefused(
                f"expected tree {i} where the header says, got something else: "
                "the file was edited or damaged; save the model again"
            )
        start += int(size)
    if not text[start : start + 40].lstrip().startswith(_ENDS):
        raise ExportRefused(
            "expected the end of the trees where their sizes say, got something else: the file is not "
            "complete, or was edited; copy or save it again"
        )


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """The header and each tree as key-value pairs; a line `Tree=` opens a block."""
    block: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith(_ENDS):
            break
        if line.startswith("Tree="):
            yield block
            block = {}
        key, _, value = line.partition("=")
        block[key.strip()] = value
    yield block


def _tree(block: dict[str, str]) -> Tree:
    try:
        leaves = _floats(block["leaf_value"])
        if int(block["num_leaves"]) != len(leaves):
            raise ValueError("the leaves do not fit their number")
        if not all(map(math.isfinite, leaves)):
            raise ExportRefused(
                f"expected finite leaves, got another in tree {block.get('Tree', '?')}: the training "
                "diverged; train again with a min_sum_hessian_in_leaf above 0 or smaller labels"
            )
        if len(leaves) == 1:
            return Tree((), leaves, linear=linear_leaves(block, 1))
        columns = (
            _ints(block["split_feature"]),
            _floats(block["threshold"]),
            _ints(block["decision_type"]),
            _ints(block["left_child"]),
            _ints(block["right_child"]),
        )
        sets = _category_sets(block)
        splits = tuple(_split(*row, sets) for row in zip(*columns, strict=True))
        check_shape(splits, leaves)
        linear = linear_leaves(block, len(leaves))
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        raise ExportRefused(
            f"expected a complete tree {block.get('Tree', '?')}, got a damaged one ({error}): "
            "save the model again"
        ) from None
    return Tree(splits, leaves, _covers(block, len(leaves)), linear)


def _covers(block: dict[str, str], leaves: int) -> tuple[float, ...]:
    """The rows of training in each leaf; none of a file that does not tell, as of versions before 2.3."""
    try:
        covers = _floats(block.get("leaf_count", ""))
    except ValueError:
        return ()
    return covers if len(covers) == leaves else ()


def _split(
    feature: int, threshold: float, decision: int, left: int, right: int, sets: list[tuple[int, ...]]
) -> Split:
    if math.isnan(threshold):
        raise ValueError("a threshold is no number")
    is_categorical = bool(decision & _CATEGORICAL_BIT)  # there NaN goes right, whatever the other bit says
    return Split(
        feature=feature,
        threshold=threshold,
        default_left=bool(decision & _DEFAULT_LEFT_BIT) and not is_categorical,
        missing=_MISSING[decision >> _MISSING_SHIFT & 3],
        left=left,
        right=right,
        members=sets[int(threshold)] if is_categorical else (),
    )


def _category_sets(block: dict[str, str]) -> list[tuple[int, ...]]:
    """The categories of each bitset of a tree: bit b of word w is the category 32 w + b."""
    if not int(block.get("num_cat", "0")):
        return []
    bounds, words = _ints(block["cat_boundaries"]), _ints(block["cat_threshold"])
    if list(bounds) != sorted(set(bounds)) or bounds[0] != 0 or bounds[-1] != len(words):
        raise ValueError("the categories do not fit their number")
    sets = []
    for start, end in pairwise(bounds):
        bits = (
            word * _WORD_BITS + bit
            for word, value in enumerate(words[start:end])
            if value  # most are 0 where codes are large
            for bit in range(_WORD_BITS)
            if value >> bit & 1
        )
        sets.append(tuple(bits))
    if not all(sets):
        raise ValueError("a set of categories is empty")
    return sets


def _range(info: str) -> tuple[float, float] | None:
    if not info.startswith("["):
        return None
    low, high = map(float, info.strip("[]").split(":"))
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _ends(info: str) -> tuple[float, float] | None:
    """The least and the largest value of a feature in training, of a range or of categories."""
    values = [float(value) for value in info.strip("[]").split(":") if value not in ("", "none")]
    return (min(values), max(values)) if values else None


def _categorical(header: dict[str, str]) -> Iterator[int]:
    """Of a categorical feature the header lists the categories, not a range: `0:2:1`."""
    for i, info in enumerate(header["feature_infos"].split(" ")):
        if info and info[0] not in "[n":
            yield i


def _pandas_categories(text: str) -> tuple[tuple[Any, ...], ...]:
    last = text.rstrip().rsplit("\n", 1)[-1]
    if not last.startswith(_PANDAS):
        return ()
    try:
        found = orjson.loads(last.removeprefix(_PANDAS)) or []
        if not all(isinstance(column, list) for column in found):
            raise ValueError("no lists")
    except ValueError:
        raise ExportRefused(
            "expected lists of pandas categories, got a damaged last line: save it again"
        ) from None
    return tuple(map(tuple, found))


def _ints(values: str) -> tuple[int, ...]:
    return tuple(map(int, values.split()))


def _floats(values: str) -> tuple[float, ...]:
    return tuple(map(float, values.split()))


def atof(text: str) -> float:
    """A decimal as LightGBM reads parameters: whole part plus fraction over a power of ten, each rounded.

    Source: `Common::Atof` in LightGBM's `common.h`; 1.14 becomes 1.1400000000000001.
    Raises `ValueError` for what is no decimal.
    """
    float(text)
    digits, _, exponent = text.strip().lower().partition("e")
    whole, _, fraction = digits.lstrip("+-").partition(".")
    value = float(int(whole or "0"))
    if fraction:
        right = 0.0
        for digit in fraction:
            right = int(digit) + right * 10.0
        value += right / 10.0 ** len(fraction)
    power = 10.0 ** abs(int(exponent or "0"))
    value = value / power if exponent.startswith("-") else value * power
    return -value if digits.startswith("-") else value
