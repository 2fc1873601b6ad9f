"""The trees of scikit-learn's ensembles, read from the fitted estimator.

skl2onnx converts them too, but drops the routing of missing values (sklearn-onnx
#1253) and rounds thresholds; read as they are they can be equal to the bit.

* HistGradientBoosting compares float64 with float64 and adds to a baseline. It moves
  columns of categories to the front and numbers them by an encoder of its own.
* GradientBoosting rounds rows to float32, compares with float64 thresholds, and
  adds `learning_rate * value` to its initial prediction.
* Forests and single trees round rows likewise and average the trees' values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from export.errors import ExportRefused
from export.forest.trees import Forest, Split, Tree, check_shape
from export.reader import averaged, boosted, margins_of, unpacked
from server.model.link import Margins

_LINKS: dict[str, dict[str, Any]] = {
    "IdentityLink": {"name": "identity"},
    "LogLink": {"name": "exp"},
    "LogitLink": {"name": "logistic"},
    "HalfLogitLink": {"name": "logistic", "scale": 2.0},
    "MultinomialLogit": {"name": "softmax"},
}
_HISTOGRAM = {"HistGradientBoostingClassifier", "HistGradientBoostingRegressor"}
_BOOSTED = {"GradientBoostingClassifier", "GradientBoostingRegressor"}
_AVERAGED = {
    "RandomForestClassifier",
    "RandomForestRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "DecisionTreeClassifier",
    "DecisionTreeRegressor",
    "ExtraTreeClassifier",
    "ExtraTreeRegressor",
}


@dataclass(frozen=True)
class Ensemble:
    """The forest of an estimator with the link after it.

    `categories` are the values of the columns that are split by them: the members of
    a split are positions in these.
    """

    forest: Forest
    link: dict[str, Any]
    categories: Mapping[int, tuple[Any, ...]] = field(default_factory=dict)


def read_ensemble(estimator: Any) -> Ensemble | None:
    """The trees of a fitted estimator, or None if it is no tree ensemble of scikit-learn.

    Raises `ExportRefused` for a construct whose equality is not proven.
    """
    name = type(estimator).__name__
    if not type(estimator).__module__.startswith("sklearn."):
        return None
    if name in _HISTOGRAM:
        return _histogram(estimator)
    if name not in (*_BOOSTED, *_AVERAGED):
        return None
    if getattr(estimator, "n_outputs_", 1) != 1:
        raise ExportRefused("expected one target, got several: train a model for each")
    if name in _BOOSTED:
        _check_init(estimator)
    member = boosted(estimator) if name in _BOOSTED else averaged(estimator)
    forest = forest_of(member, estimator.n_features_in_, len(getattr(estimator, "classes_", ())))
    return Ensemble(forest, member["link"])


def raw_scores(estimator: Any, table: Any) -> Margins:
    """The sums before division and link, by scikit-learn's own trees, float64 [n] or [n, K].

    `table` is what the estimator predicts: a matrix, or a frame of columns as trained.
    """
    if type(estimator).__name__ in _HISTOGRAM:
        return _flat(estimator._raw_predict(table, n_threads=1))
    return _flat(margins_of(estimator, table))


def _flat(scores: Margins) -> Margins:
    scores = np.asarray(scores, dtype=np.float64)
    return scores.reshape(-1) if scores.ndim == 1 or scores.shape[1] == 1 else np.ascontiguousarray(scores)


def _histogram(estimator: Any) -> Ensemble:
    categories = _native_categories(estimator)
    width = estimator.n_features_in_
    order = [*categories, *(i for i in range(width) if i not in categories)]  # as its preprocessor puts them
    base = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1)
    trees = [_histogram_tree(tree, order) for iteration in estimator._predictors for tree in iteration]
    forest = Forest(tuple(trees), width, len(base), base=tuple(base.tolist()))
    return Ensemble(forest, _link(estimator), categories)


def _native_categories(estimator: Any) -> dict[int, tuple[Any, ...]]:
    """The values of each column that is declared categorical, missing ones left out."""
    if estimator.is_categorical_ is None or not np.any(estimator.is_categorical_):
        return {}
    encoder = estimator._preprocessor.named_transformers_["encoder"]
    columns = np.flatnonzero(estimator.is_categorical_).tolist()
    values = [[v for v in known.tolist() if v is not None and v == v] for known in encoder.categories_]
    return {i: tuple(known) for i, known in zip(columns, values, strict=True)}


def _histogram_tree(predictor: Any, order: Sequence[int]) -> Tree:
    nodes = predictor.nodes
    is_split = nodes["is_categorical"].astype(bool) & ~nodes["is_leaf"].astype(bool)
    bits = predictor.raw_left_cat_bitsets
    sets = {int(i): _members(bits[nodes["bitset_idx"][i]]) for i in np.flatnonzero(is_split)}
    thresholds = nodes["num_threshold"].copy()
    thresholds[[i for i, members in sets.items() if not members]] = -1.0  # only missing ones go left there
    return tree_of(
        is_leaf=nodes["is_leaf"].astype(bool),
        features=np.asarray(order)[nodes["feature_idx"]],
        thresholds=thresholds,
        missing_left=nodes["missing_go_to_left"],
        children=(nodes["left"], nodes["right"]),
        values=nodes["value"],
        covers=nodes["count"],
        members=sets,
    )


def _members(words: Any) -> tuple[int, ...]:
    """The positions of the bits of a set: bit b of word w is 32 w + b."""
    return tuple(
        word * 32 + bit for word, value in enumerate(words.tolist()) for bit in range(32) if value >> bit & 1
    )


def _check_init(estimator: Any) -> None:
    kind = type(estimator.init_).__name__
    if kind not in ("DummyClassifier", "DummyRegressor", "str"):
        raise ExportRefused(
            f'expected a constant init of GradientBoosting, got {kind}: fit it with init=None or "zero"'
        )


def _link(estimator: Any) -> dict[str, Any]:
    name = type(estimator._loss.link).__name__
    if name not in _LINKS:
        raise ExportRefused(f"expected a loss whose link is known, got {name}: fit it with a usual loss")
    return dict(_LINKS[name])


def forest_of(member: Mapping[str, Any], width: int, classes: int) -> Forest:
    """The trees that `boosted` or `averaged` tells, of rows of `width` columns."""
    trees = tuple(
        tree_of(
            is_leaf=np.array(tree["is_leaf"], dtype=bool),
            features=tree["feature"],
            thresholds=unpacked(tree["threshold"]),
            missing_left=tree["missing_left"],
            children=(tree["left"], tree["right"]),
            values=unpacked(tree["value"]),
            covers=unpacked(tree["cover"]),
        )
        for tree in member["trees"]
    )
    targets = classes if classes > 2 else 1
    return Forest(trees, width, targets, rounded=member["rounded"], base=tuple(member["base"]))


def tree_of(
    *,
    is_leaf: Any,
    features: Any,
    thresholds: Any,
    missing_left: Any,
    children: tuple[Any, Any],
    values: Any,
    covers: Any,
    members: Mapping[int, tuple[int, ...]] = {},  # never changed
) -> Tree:
    """A tree from parallel columns of nodes, the root first; `members` of those split by categories."""
    inner, outer = np.flatnonzero(~is_leaf), np.flatnonzero(is_leaf)
    number = {int(node): i for i, node in enumerate(inner)} | {int(node): ~i for i, node in enumerate(outer)}
    splits = tuple(
        Split(
            feature=int(features[i]),
            threshold=float(thresholds[i]),
            default_left=bool(missing_left[i]),
            missing="nan",
            left=number[int(children[0][i])],
            right=number[int(children[1][i])],
            members=members.get(int(i), ()),
        )
        for i in inner
    )
    leaves: Sequence[float] = np.asarray(values, dtype=np.float64)[outer].tolist()
    check_shape(splits, tuple(leaves))
    reached: Sequence[float] = np.asarray(covers, dtype=np.float64)[outer].tolist()
    return Tree(splits, tuple(leaves), tuple(reached))
