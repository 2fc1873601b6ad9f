"""The JSON of a CatBoost model, read into trees.

CatBoost rounds rows to float32, goes right where `x > border`, adds leaves in float64 and
then applies scale and bias. Format: `model_export/json_model_helpers.cpp` in its sources.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from export.errors import ExportRefused
from export.forest.trees import Forest, Split, Tree, check_shape

#: Whether NaN goes right: it is the least value, the largest, or compared as it is, which is false.
_NAN_RIGHT = {"AsFalse": False, "AsTrue": True, "AsIs": False}


@dataclass(frozen=True)
class CatBoostModel:
    """A model as its JSON describes it: the margin is `scale * sum + bias` of each target.

    `gaps` are the features that training saw missing, `categories` the texts of those of categories.
    Of two classes the second is given beyond `threshold`, a probability.
    """

    forest: Forest
    scale: float
    bias: tuple[float, ...]
    feature_names: tuple[str, ...]
    loss: str
    classes: tuple[str, ...]
    gaps: frozenset[int]
    categories: Mapping[int, tuple[str, ...]]
    threshold: float = 0.5


#: Gives the texts of the column of this name, and CatBoost's hash of each, by some of its hashes.
Categories = Callable[[str, Sequence[int]], Mapping[str, int]]


def parse_catboost(content: bytes, categories: Categories) -> CatBoostModel:
    """The model written by `save_model("m.json", format="json")`; raises `ExportRefused`.

    The file holds hashes where a column of categories had texts: `categories` tells these.
    """
    try:
        return _model(orjson.loads(content), categories)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ExportRefused(
            f"expected a whole CatBoost model, got a damaged one ({type(error).__name__}: {error}): "
            "save the model again"
        ) from None


def _model(document: Mapping[str, Any], categories: Categories) -> CatBoostModel:
    info = document["features_info"]
    _check_kinds(info)
    numbers = {column["feature_index"]: column for column in info.get("float_features") or ()}
    coded = {column["feature_index"]: column for column in info.get("categorical_features") or ()}
    names = _names([*numbers.values(), *coded.values()])
    columns = _FileColumns(numbers, {i: _Coded(column, names, categories) for i, column in coded.items()})
    scale, bias = document["scale_and_bias"]
    bias = tuple(map(float, bias if isinstance(bias, list) else [bias]))
    targets = len(bias)
    trees = [tree for found in _trees(document, targets) for tree in _by_target(found, columns, targets)]
    if not trees:
        raise ValueError("no trees")
    forest = Forest(tuple(trees), len(names), targets, rounded=True)
    gaps = frozenset(c["flat_feature_index"] for c in numbers.values() if c.get("has_nans"))
    told = document["model_info"]
    classes = tuple(map(str, (told.get("class_params") or {}).get("class_names") or ()))
    texts = {column.place: tuple(column.hashes) for column in columns.coded.values()}
    threshold = float(told.get("binclass_probability_threshold", 0.5))
    return CatBoostModel(forest, float(scale), bias, names, _loss(told), classes, gaps, texts, threshold)


def _check_kinds(info: Mapping[str, Any]) -> None:
    for kind, words, mend in (
        (
            "ctrs",
            "statistics of categories (CTR)",
            "train with one_hot_max_size=255, which splits by the categories themselves, or encode the "
            "columns in a pipeline of scikit-learn",
        ),
        ("text_features", "texts", "make columns of numbers of them before training"),
        ("embedding_features", "embeddings", "make columns of numbers of them before training"),
    ):
        if info.get(kind):
            raise ExportRefused(
                f"expected columns of numbers and of one-hot categories, got {words} in a CatBoost model, "
                f"which are not proven equal: {mend}"
            )


def _names(columns: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    names = [f"f{i}" for i in range(1 + max(column["flat_feature_index"] for column in columns))]
    for column in columns:
        names[column["flat_feature_index"]] = column.get("feature_id") or f"f{column['flat_feature_index']}"
    if len(set(names)) != len(names):
        raise ValueError("a name that comes twice")
    return tuple(names)


class _Coded:
    """A column of categories: where it stands, and the texts of each hash that a split asks for."""

    def __init__(self, column: Mapping[str, Any], names: Sequence[str], categories: Categories) -> None:
        self.place = int(column["flat_feature_index"])
        wanted = column.get("values") or ()
        self.hashes = categories(names[self.place], wanted)
        known = set(self.hashes.values())
        if missing := [value for value in wanted if value not in known]:
            raise ExportRefused(
                f"expected every category of {names[self.place]} that the model splits by, got "
                f"{len(missing)} that are not among those of --data or --describe: give the table it was "
                "trained on"
            )

    def codes(self, value: int) -> tuple[int, ...]:
        """The positions of the texts with this hash."""
        return tuple(code for code, known in enumerate(self.hashes.values()) if known == value)


class _FileColumns(NamedTuple):
    """The columns of numbers and those of categories, each by its number in the file."""

    numbers: Mapping[int, Any]
    coded: Mapping[int, _Coded]


def _loss(told: Mapping[str, Any]) -> str:
    """The name of the loss, from the parameters: an object, or the text of one."""
    params = told["params"]
    loss = (orjson.loads(params) if isinstance(params, str) else params)["loss_function"]
    return str(loss["type"] if isinstance(loss, dict) else loss).partition(":")[0]


def _trees(document: Mapping[str, Any], targets: int) -> Iterator[dict[str, Any]]:
    """Each tree as nested nodes; of an oblivious one every level asks the same."""
    for tree in document.get("oblivious_trees") or ():
        splits, values = tree.get("splits") or [], tree["leaf_values"]
        count = 1 << len(splits)
        if len(values) != targets * count:
            raise ValueError("the leaves do not fit their splits")
        weights = tree.get("leaf_weights") or ()
        leaves = [
            {"value": values[i * targets : (i + 1) * targets], "weight": weight}
            for i, weight in enumerate(weights if len(weights) == count else [None] * count)
        ]
        yield _oblivious(splits, leaves, len(splits), 0)
    yield from document.get("trees") or ()


def _oblivious(splits: list[Any], leaves: list[dict[str, Any]], level: int, leaf: int) -> dict[str, Any]:
    """The first `level` splits below the others: the last is the root, as in CatBoost's `ShapValues`.

    Any order gives the same leaf, but the shares of rows on the ways there depend on it.
    """
    if level == 0:
        return leaves[leaf]
    return {
        "split": splits[level - 1],
        "left": _oblivious(splits, leaves, level - 1, leaf),
        "right": _oblivious(splits, leaves, level - 1, leaf | 1 << (level - 1)),
    }


def _by_target(root: Mapping[str, Any], columns: _FileColumns, targets: int) -> Iterator[Tree]:
    splits: list[Split | None] = []
    leaves: list[list[float]] = []
    covers: list[float | None] = []

    def node(found: Mapping[str, Any]) -> int:
        if "split" not in found:
            value = found["value"]
            leaves.append(list(map(float, value if isinstance(value, list) else [value])))
            covers.append(found.get("weight"))
            return ~(len(leaves) - 1)
        place = len(splits)
        splits.append(None)
        left, right = node(found["left"]), node(found["right"])
        splits[place] = _split(found["split"], columns, left, right)
        return place

    node(root)
    whole = tuple(split for split in splits if split is not None)
    told = [float(cover) for cover in covers if cover is not None]
    reached = tuple(told) if len(told) == len(covers) else ()
    for target in range(targets):
        values = tuple(leaf[target] for leaf in leaves)
        check_shape(whole, values)
        yield Tree(whole, values, reached)


def _split(split: Mapping[str, Any], columns: _FileColumns, left: int, right: int) -> Split:
    if split["split_type"] == "OneHotFeature":
        column = columns.coded[split["cat_feature_index"]]
        # The category itself goes right; whatever is none goes left, a text that is unknown too.
        return Split(column.place, 0.0, False, "nan", right, left, column.codes(split["value"]))
    if split["split_type"] != "FloatFeature":
        raise ExportRefused(
            f"expected splits of numbers, got {split['split_type']} in a CatBoost model: train it on columns "
            "of numbers and one-hot categories"
        )
    number = columns.numbers[split["float_feature_index"]]
    goes_left = not _NAN_RIGHT[number["nan_value_treatment"]]
    return Split(number["flat_feature_index"], float(split["border"]), goes_left, "nan", left, right)
