"""The JSON of an XGBoost model, read into trees or weights.

XGBoost computes in float32: thresholds, leaves and base are the float32 of the
JSON's decimals, a split is `x < threshold`. A split by categories lists those that
go right. Format: "Introduction to Model IO" of XGBoost's documentation, versions
1.x to 3.x.
"""

import ctypes
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from export.errors import ExportRefused, one_of_targets
from export.forest.trees import Forest
from export.xgboost.json_tree import read_tree
from server.model.link import float32

_EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
#: The types of whole numbers as categories, by their number in the file (`Value::ValueKind` in `json.h`):
#: XGBoost takes a frame of the same type alone.
_WHOLE = {9: np.int8, 10: np.uint8, 11: np.int16, 12: np.uint16, 13: np.int32, 14: np.uint32, 15: np.int64}
_LEAST = float32(1e-6)  # `kEps` of a probability in XGBoost


@dataclass(frozen=True)
class XGBoostModel:
    """An XGBoost model as its JSON describes it; `iterations` of its `rounds_trained` rounds count.

    `forest` is empty of `gblinear`, which has `weights`: float32 [F + 1, K], the last row
    the bias. Of a model of several targets all that counts is that of `target`; else it is None.
    `coded` are the categorical features, `categories` the names of those that have some,
    `flags` the columns of booleans ("i", indicators).
    """

    forest: Forest
    feature_names: tuple[str, ...]
    objective: str
    booster: str
    iterations: int
    rounds_trained: int
    best_iteration: int | None
    target: int | None
    coded: frozenset[int]
    categories: dict[int, tuple[Any, ...]]
    weights: npt.NDArray[np.float32] | None
    flags: frozenset[int] = frozenset()


def parse_xgboost(content: bytes, rounds: str = "best", target: int | None = None) -> XGBoostModel:
    """The model written by `Booster.save_model("….json")`; `rounds` are "best" or "all" (see `_counted`).

    `target` is the one of several that is wanted, counted from 0. Raises `ExportRefused`
    for what is no such model, is damaged, or uses a construct whose equality is not
    proven (named in the message).
    """
    try:
        document = _document(content)
        learner = document["learner"]
        gradient_booster = learner["gradient_booster"]
        name = gradient_booster["name"]
        if name == "gblinear":
            return _linear(learner, gradient_booster, target)
        if name not in ("gbtree", "dart"):
            raise ExportRefused(f"expected booster gbtree, dart or gblinear, got {name}: train with trees")
        return _model(learner, name, gradient_booster, rounds, target)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ExportRefused(
            "expected a whole XGBoost model, got a damaged one or another JSON file "
            f"({type(error).__name__}: {error}): save the model again"
        ) from None


#: A member that tells whose JSON a file is, and how that library saves what can be read here.
_OTHERS = {
    "tree_info": "LightGBM's dump_model, which leaves things out: save it with Booster.save_model",
    "learner_train_param": "XGBoost's save_config, which holds no trees: save the model with save_model",
    "read_by": "what an export with --python keeps: export the model itself again, with --python",
}


def _document(content: bytes) -> dict[str, Any]:
    """The JSON of a model, in which XGBoost writes infinities too; raises `ExportRefused` for another's."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        document = _with_infinities(content)
    if not isinstance(document, dict):
        raise ExportRefused(
            "expected the JSON of an XGBoost model, got another JSON document: write it with save_model"
        )
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


def _model(
    learner: dict[str, Any], name: str, gradient_booster: dict[str, Any], rounds: str, wanted: int | None
) -> XGBoostModel:
    model = gradient_booster.get("gbtree", gradient_booster)["model"]
    objective = learner["objective"]["name"]
    width, sums, target = _shape(learner, wanted)
    vector = any(int(tree["tree_param"].get("size_leaf_vector", "1")) > 1 for tree in model["trees"])
    # Of dropout; up to XGBoost 3.3 they stand beside the trees, up to 3.2 of a booster called dart.
    weights = gradient_booster.get("weight_drop") or model.get("weight_drop") or [1.0] * len(model["trees"])
    best = learner.get("attributes", {}).get("best_iteration")
    best = None if best is None else int(best)
    per_round = 1 if vector else sums
    count, iterations, trained = _counted(model, per_round, best if rounds == "best" else None)
    groups = tuple(map(int, model["tree_info"]))
    if not len(model["trees"]) == len(groups) == len(weights) or not set(groups) <= set(range(sums)):
        raise ValueError("the trees do not fit their number")
    kept = [i for i in range(count) if target is None or vector or groups[i] == target]
    place = target if vector else None
    base = _base(learner["learner_model_param"]["base_score"], objective, sums)
    forest = Forest(
        trees=tuple(read_tree(model["trees"][i], float32(float(weights[i])), width, place) for i in kept),
        width=width,
        targets=sums if target is None else 1,
        precision="float32",
        strict=True,
        base=base if target is None else (base[target],),
        groups=tuple(groups[i] for i in kept) if target is None else (),
    )
    if not forest.trees:
        raise ValueError("no trees")
    names, types = _features(learner, width)
    categories = _categories(model.get("cats"), types)
    coded = frozenset(i for i, kind in enumerate(types) if kind == "c") | forest.members().keys()
    flags = frozenset(i for i, kind in enumerate(types) if kind == "i")
    return XGBoostModel(
        forest, names, objective, name, iterations, trained, best, target, coded, categories, None, flags
    )


def _linear(learner: dict[str, Any], gradient_booster: dict[str, Any], wanted: int | None) -> XGBoostModel:
    width, sums, target = _shape(learner, wanted)
    model, objective = gradient_booster["model"], learner["objective"]["name"]
    weights = np.array(model["weights"], dtype=np.float32).reshape(width + 1, sums)
    base = _base(learner["learner_model_param"]["base_score"], objective, sums)
    weights[-1] += np.float32(base[0])  # every sum starts there: `GBLinear::PredictBatchInternal`
    if target is not None:
        weights = weights[:, target : target + 1]
    if not np.isfinite(weights).all():
        raise ValueError("a weight is not finite")
    names, _ = _features(learner, width)
    empty = Forest((), width, weights.shape[1], precision="float32", strict=True)
    rounds = int(model.get("boosted_rounds", 0))
    return XGBoostModel(
        empty, names, objective, "gblinear", rounds, rounds, None, target, frozenset(), {}, weights
    )


def _shape(learner: dict[str, Any], wanted: int | None) -> tuple[int, int, int | None]:
    """The number of features, that of sums (one a class or target), and which target is wanted of several."""
    parameters = learner["learner_model_param"]
    width, classes = int(parameters["num_feature"]), max(1, int(parameters["num_class"]))
    targets = int(parameters.get("num_target", "1"))
    if targets < 2:
        return width, classes, None
    return width, targets, one_of_targets(wanted, targets)


def _features(learner: dict[str, Any], width: int) -> tuple[tuple[str, ...], list[str]]:
    """The names of the features and their types: "c" of categories."""
    names = tuple(learner.get("feature_names") or (f"f{i}" for i in range(width)))
    types = list(learner.get("feature_types") or [""] * width)
    if not len(names) == len(set(names)) == len(types) == width:
        raise ValueError("other features than their number says")
    return names, types


def _categories(found: dict[str, Any] | None, types: list[str]) -> dict[int, tuple[Any, ...]]:
    """The names of categories by feature, which XGBoost writes since 3.1: texts as bytes, or numbers.

    None of them if a text is not ASCII: XGBoost 3.2 counts letters there and cuts bytes, so
    what is in the file are no names, and the columns are codes.
    """
    encoded = (found or {}).get("enc") or []
    named = {}
    for i, column in enumerate(encoded):
        values = column["values"]
        if "offsets" in column:
            texts = bytes(value % 256 for value in values)
            if not texts.isascii():
                return {}
            values = [texts[start:end].decode() for start, end in pairwise(column["offsets"])]
        if values:
            kind = _WHOLE.get(column.get("type"))
            named[i] = tuple(values if kind is None else map(kind, values))
    if any(i >= len(types) for i in named):
        raise ValueError("categories of another feature")
    return named


def _counted(model: dict[str, Any], targets: int, best: int | None) -> tuple[int, int, int]:
    """How many trees count, how many rounds they are (those up to the best one), and how many there are."""
    total = len(model["trees"])
    per_round = targets * max(1, int(model["gbtree_model_param"].get("num_parallel_tree", "1")))
    ends = model.get("iteration_indptr") or [*range(0, total + 1, per_round)]
    rounds = len(ends) - 1 if best is None else best + 1
    if ends[-1] != total or not 0 < rounds < len(ends):
        raise ValueError("the rounds do not fit the trees")
    return int(ends[rounds]), rounds, len(ends) - 1


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
    if objective in _EXPONENTIAL:
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
