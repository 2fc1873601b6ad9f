"""The JSON of an XGBoost model, read into trees.

XGBoost computes in float32: thresholds, leaves and base are the float32 of the
JSON's decimals, a split is `x < threshold`. Format: "Introduction to Model IO"
of XGBoost's documentation, versions 1.x to 3.x.
"""

import ctypes
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from export.errors import ExportRefused
from export.forest.trees import Forest, Split, Tree, check_shape
from server.model.link import float32

_NO_CHILD = -1
_LEAST = float32(1e-6)  # `kEps` of a probability in XGBoost


@dataclass(frozen=True)
class XGBoostModel:
    """An XGBoost model as its JSON describes it; `iterations` of its `rounds_trained` rounds count."""

    forest: Forest
    feature_names: tuple[str, ...]
    objective: str
    booster: str
    iterations: int
    rounds_trained: int
    best_iteration: int | None


def parse_xgboost(content: bytes, rounds: str = "best") -> XGBoostModel:
    """The model written by `Booster.save_model("….json")`; `rounds` are "best" or "all" (see `_counted`).

    Raises `ExportRefused` for what is no such model, is damaged, or uses a
    construct whose equality is not proven (named in the message).
    """
    try:
        document = _document(content)
        learner = document["learner"]
        gradient_booster = learner["gradient_booster"]
        name = gradient_booster["name"]
        if name not in ("gbtree", "dart"):
            raise ExportRefused(f"expected booster gbtree or dart, got {name}: train with trees")
        return _model(learner, name, gradient_booster, rounds)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ExportRefused(
            "expected a whole XGBoost model, got a damaged one or another JSON file "
            f"({type(error).__name__}: {error}): save the model again"
        ) from None


#: A member that tells whose JSON a file is, and how that library saves what can be read here.
_OTHERS = {
    "tree_info": "LightGBM's dump_model, which leaves things out: save it with Booster.save_model",
    "oblivious_trees": 'CatBoost\'s JSON: save it with save_model("m.onnx", format="onnx")',
    "features_info": 'CatBoost\'s JSON: save it with save_model("m.onnx", format="onnx")',
    "learner_train_param": "XGBoost's save_config, which holds no trees: save the model with save_model",
}


def _document(content: bytes) -> dict[str, Any]:
    """The JSON of a model, in which XGBoost writes infinities too; raises `ExportRefused` for another's."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        document = _with_infinities(content)
    if not isinstance(document, dict):
        raise ExportRefused("expected the JSON of an XGBoost model, got another JSON document")
    learner = document.get("learner")
    members = {*document, *(learner if isinstance(learner, dict) else ())}
    if other := next((words for member, words in _OTHERS.items() if member in members), None):
        raise ExportRefused(f"expected the JSON of an XGBoost model, got {other}")
    return document


def _with_infinities(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise ExportRefused(
            "expected the JSON of an XGBoost model, got something that is not JSON: write it with save_model"
        ) from None


def _model(learner: dict[str, Any], name: str, gradient_booster: dict[str, Any], rounds: str) -> XGBoostModel:
    trees_of = gradient_booster["gbtree"] if name == "dart" else gradient_booster
    model = trees_of["model"]
    objective = learner["objective"]["name"]
    parameters = learner["learner_model_param"]
    width, targets = int(parameters["num_feature"]), max(1, int(parameters["num_class"]))
    if int(parameters.get("num_target", "1")) > 1:
        raise ExportRefused("expected one target, got several: train a model for each")
    weights = gradient_booster.get("weight_drop") or [1.0] * len(model["trees"])
    best = learner.get("attributes", {}).get("best_iteration")
    best = None if best is None else int(best)
    count, iterations, trained = _counted(model, targets, best if rounds == "best" else None)
    groups = tuple(map(int, model["tree_info"]))
    if not len(model["trees"]) == len(groups) == len(weights) or not set(groups) <= set(range(targets)):
        raise ValueError("the trees do not fit their number")
    pairs = list(zip(model["trees"], weights, strict=True))[:count]
    forest = Forest(
        trees=tuple(_tree(tree, float32(float(weight)), width) for tree, weight in pairs),
        width=width,
        targets=targets,
        precision="float32",
        strict=True,
        base=_base(parameters["base_score"], objective, targets),
        groups=groups[:count],
    )
    names = tuple(learner.get("feature_names") or (f"f{i}" for i in range(width)))
    if not forest.trees or len(names) != width or len(set(names)) != width:
        raise ValueError("no trees, or other features than their number says")
    return XGBoostModel(forest, names, objective, name, iterations, trained, best)


def _counted(model: dict[str, Any], targets: int, best: int | None) -> tuple[int, int, int]:
    """How many trees count, how many rounds they are (those up to the best one), and how many there are."""
    total = len(model["trees"])
    per_round = targets * max(1, int(model["gbtree_model_param"].get("num_parallel_tree", "1")))
    ends = model.get("iteration_indptr") or [*range(0, total + 1, per_round)]
    rounds = len(ends) - 1 if best is None else best + 1
    if ends[-1] != total or not 0 < rounds < len(ends):
        raise ValueError("the rounds do not fit the trees")
    return int(ends[rounds]), rounds, len(ends) - 1


def _tree(tree: dict[str, Any], weight: float, width: int) -> Tree:
    if int(tree["tree_param"].get("size_leaf_vector", "1")) > 1:
        raise ExportRefused(
            "expected one value a leaf, got multi_strategy=multi_output_tree, which is not proven equal"
        )
    if any(tree.get("split_type") or ()):
        raise ExportRefused(
            "expected numerical splits, got categorical ones (enable_categorical), which are not "
            "proven equal: train on one-hot or ordinal columns"
        )
    lefts, rights = tree["left_children"], tree["right_children"]
    inner, outer = _reachable(lefts, rights)
    number = {node: i for i, node in enumerate(inner)} | {node: ~i for i, node in enumerate(outer)}
    values = [float32(float(value)) for value in tree["split_conditions"]]
    splits = tuple(
        Split(
            feature=int(tree["split_indices"][i]),
            threshold=values[i],
            default_left=bool(tree["default_left"][i]),
            missing="nan",
            left=number[lefts[i]],
            right=number[rights[i]],
        )
        for i in inner
    )
    # dart: XGBoost multiplies a leaf by its tree's weight in float32, then adds.
    leaves = tuple(float32(values[i] * weight) for i in outer)
    if any(split.feature >= width for split in splits) or not np.isfinite(leaves).all():
        raise ValueError("a split on another feature, or a leaf that is not finite")
    check_shape(splits, leaves)
    return Tree(splits, leaves)


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


def _base(text: str, objective: str, targets: int) -> tuple[float, ...]:
    """The margin each sum starts from: `ProbToMargin` of the objective, in float32.

    1.x and 2.x write one number, 3.x a vector.
    """
    scores = [float32(float(part)) for part in text.strip("[]").split(",")]
    scores = scores * targets if len(scores) == 1 else scores
    if len(scores) != targets:
        raise ValueError("base_score does not fit the number of classes")
    return tuple(map(_to_margin(objective), scores))


def _to_margin(objective: str) -> Callable[[float], float]:
    if objective in ("binary:logistic", "reg:logistic"):
        return _logit
    if objective in ("count:poisson", "reg:gamma", "reg:tweedie"):
        return _logf
    return float


def _logit(score: float) -> float:
    """XGBoost keeps the probability off its ends first: `LogisticProbToMargin` in `logistic_obj.h`."""
    inside = min(max(score, _LEAST), float32(1.0 - _LEAST))
    return -_logf(float32(float32(1.0 / inside) - 1.0))


def _logf(value: float) -> float:
    """The C library's logarithm of a float32, as XGBoost takes it."""
    logf = ctypes.CDLL(None).logf
    logf.argtypes, logf.restype = [ctypes.c_float], ctypes.c_float
    return float(logf(value))
