"""The JSON of a CatBoost model, read into trees.

CatBoost rounds rows to float32, goes right where `x > border`, adds leaves in float64 and
then applies scale and bias. Format: `model_export/json_model_helpers.cpp` in its sources.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from export.errors import ExportRefused
from export.forest.trees import Forest, Split, Tree, check_shape

#: Whether NaN goes right: it is the least value, the largest, or compared as it is, which is false.
_NAN_RIGHT = {"AsFalse": False, "AsTrue": True, "AsIs": False}


@dataclass(frozen=True)
class CatBoostModel:
    """A model as its JSON describes it: the margin is `scale * sum + bias` of each target.

    `gaps` are the features that training saw missing.
    """

    forest: Forest
    scale: float
    bias: tuple[float, ...]
    feature_names: tuple[str, ...]
    loss: str
    classes: tuple[str, ...]
    gaps: frozenset[int]


def parse_catboost(content: bytes) -> CatBoostModel:
    """The model written by `save_model("m.json", format="json")`; raises `ExportRefused`."""
    try:
        return _model(orjson.loads(content))
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ExportRefused(
            f"expected a whole CatBoost model, got a damaged one ({type(error).__name__}: {error}): "
            "save the model again"
        ) from None


def _model(document: Mapping[str, Any]) -> CatBoostModel:
    info = document["features_info"]
    for kind, words in (
        ("categorical_features", "categories"),
        ("ctrs", "statistics of categories (CTR)"),
        ("text_features", "texts"),
        ("embedding_features", "embeddings"),
    ):
        if info.get(kind):
            raise ExportRefused(
                f"expected columns of numbers alone, got {words} in a CatBoost model, which are not proven "
                "equal: encode them before training, in a pipeline of scikit-learn for example"
            )
    columns = {column["feature_index"]: column for column in info["float_features"]}
    width = 1 + max(column["flat_feature_index"] for column in columns.values())
    names = [f"f{i}" for i in range(width)]
    for column in columns.values():
        names[column["flat_feature_index"]] = column.get("feature_id") or f"f{column['flat_feature_index']}"
    if len(set(names)) != width:
        raise ValueError("a name that comes twice")
    scale, bias = document["scale_and_bias"]
    bias = tuple(map(float, bias if isinstance(bias, list) else [bias]))
    targets = len(bias)
    trees = [tree for found in _trees(document, targets) for tree in _by_target(found, columns, targets)]
    if not trees:
        raise ValueError("no trees")
    forest = Forest(tuple(trees), width, targets, rounded=True)
    gaps = frozenset(c["flat_feature_index"] for c in columns.values() if c.get("has_nans"))
    told = document["model_info"]
    classes = tuple(map(str, (told.get("class_params") or {}).get("class_names") or ()))
    return CatBoostModel(forest, float(scale), bias, tuple(names), _loss(told), classes, gaps)


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
        yield _oblivious(splits, leaves, 0, 0)
    yield from document.get("trees") or ()


def _oblivious(splits: list[Any], leaves: list[dict[str, Any]], level: int, leaf: int) -> dict[str, Any]:
    if level == len(splits):
        return leaves[leaf]
    return {
        "split": splits[level],
        "left": _oblivious(splits, leaves, level + 1, leaf),
        "right": _oblivious(splits, leaves, level + 1, leaf | 1 << level),
    }


def _by_target(root: Mapping[str, Any], columns: Mapping[int, Any], targets: int) -> Iterator[Tree]:
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


def _split(split: Mapping[str, Any], columns: Mapping[int, Any], left: int, right: int) -> Split:
    if split["split_type"] != "FloatFeature":
        raise ExportRefused(f"expected splits of numbers, got {split['split_type']} in a CatBoost model")
    column = columns[split["float_feature_index"]]
    goes_left = not _NAN_RIGHT[column["nan_value_treatment"]]
    return Split(column["flat_feature_index"], float(split["border"]), goes_left, "nan", left, right)
