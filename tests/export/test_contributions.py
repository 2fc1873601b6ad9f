"""What a row is explained from: the terms of every family of trees are those of its own library."""

import itertools
import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pytest
import xgboost
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)

from export.forest.conversion import Conversion
from export.forest.paths import packed, path_arrays
from export.forest.trees import Forest, Split, Tree
from export.lightgbm.model import convert_lightgbm
from export.sklearn.model import convert_sklearn
from export.xgboost.model import XGBoostSource, convert_xgboost
from server.explain.contributions import Linear, Paths
from server.model.schema import Matrix
from tests.support.export_models import rows, target, train_lightgbm, train_xgboost
from tests.support.random_models import drawn_lightgbm, drawn_xgboost

pytestmark = pytest.mark.whole


def terms(conversion: Conversion, matrix: Matrix) -> npt.NDArray[np.float64]:
    """Ours, [n, K, F + 1]."""
    arrays = conversion.contributions()
    assert arrays is not None
    made = Linear(arrays) if "weights" in arrays else Paths(arrays, len(conversion.names))
    return made.terms(matrix)


def telling_rows(forest: Forest, count: int, seed: int = 0) -> Matrix:
    """Values at and around the thresholds of each feature, codes of categories and unseen ones, gaps."""
    random = np.random.default_rng(seed)
    thresholds, members = forest.thresholds(), forest.members()
    found = np.empty((count, forest.width))
    for i in range(forest.width):
        if i in members:
            values = np.array([*members[i], max(members[i]) + 1], dtype=np.float64)
        else:
            finite = np.array([t for t in thresholds[i] if math.isfinite(t)] or [0.0])
            values = np.concatenate([finite, np.nextafter(finite, -np.inf), finite + 1.0, [0.0, 1e-36]])
        found[:, i] = random.choice([*values.tolist(), math.nan], count)
    return found


def hold(found: npt.NDArray[np.float64], expected: Any, within: float) -> None:
    expected = np.asarray(expected, dtype=np.float64).reshape(found.shape)
    assert np.abs(found - expected).max() <= within * max(1.0, np.abs(expected).max())


def lightgbm_holds(text: str, count: int) -> None:
    conversion, booster = convert_lightgbm(text), lightgbm.Booster(model_str=text)
    assert conversion.forest is not None
    matrix = telling_rows(conversion.forest, count)
    found = terms(conversion, matrix)
    divisor = conversion.link.get("divisor", 1)  # a random forest's own terms are of the sum, not of the mean
    hold(found * divisor, booster.predict(matrix, pred_contrib=True, num_threads=1), 1e-12)
    margins = np.asarray(conversion.source.margins(matrix)).reshape(found.shape[:2])
    hold(found.sum(axis=2), margins / divisor, 1e-12)


def test_terms_are_lightgbms_own_on_a_thousand_rows() -> None:
    lightgbm_holds(train_lightgbm({"objective": "binary"}, "binary", 30, categorical_feature=[3, 4]), 1000)


@pytest.mark.parametrize("seed", [1, 2, 4, 6, 9, 12, 14, 22])
def test_terms_of_any_lightgbm_model_are_its_own(seed: int) -> None:
    """Every boosting, categories, zeros that are missing, and several classes, drawn from a seed."""
    lightgbm_holds(drawn_lightgbm(np.random.default_rng(seed))[1].decode(), 100)


def xgboost_holds(content: bytes, count: int) -> None:
    conversion = convert_xgboost(content)
    source = conversion.source
    assert isinstance(source, XGBoostSource)
    forest = source._model.forest if conversion.forest is None else conversion.forest
    matrix = telling_rows(forest, count)
    found = terms(conversion, matrix)
    data: xgboost.DMatrix = source._matrix(matrix)
    expected = source._booster.predict(
        data, pred_contribs=True, iteration_range=source._rounds, validate_features=False
    )
    hold(found, expected, 1e-5)
    hold(found.sum(axis=2), source.margins(matrix), 1e-5)


def test_terms_are_xgboosts_own_on_a_thousand_rows() -> None:
    booster = train_xgboost({"objective": "binary:logistic"}, "binary", 30)
    xgboost_holds(bytes(booster.save_raw("json")), 1000)


@pytest.mark.parametrize("seed", range(8))
def test_terms_of_any_xgboost_model_are_its_own(seed: int) -> None:
    """Trees, dart, linear models, categories and several classes, drawn from a seed."""
    xgboost_holds(drawn_xgboost(np.random.default_rng(seed))[1], 100)


@pytest.mark.skipif(find_spec("catboost") is None, reason="`make catboost` installs it")
@pytest.mark.parametrize("seed", range(6))
def test_terms_of_any_catboost_model_add_up_and_are_its_own(seed: int) -> None:
    import catboost  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional: `make catboost`

    from export.catboost.model import CatBoostSource, convert_catboost
    from tests.support.random_models import drawn_catboost

    name, content = drawn_catboost(np.random.default_rng(seed))
    conversion = convert_catboost(content, is_json=name.endswith("json"))
    assert isinstance(conversion.source, CatBoostSource)
    assert conversion.forest is not None
    matrix = telling_rows(conversion.forest, 60).astype(np.float32)
    pool, model = catboost.Pool(matrix), conversion.source._model
    found = terms(conversion, matrix.astype(np.float64))
    margins = np.asarray(model.predict(pool, prediction_type="RawFormulaVal", thread_count=1))
    hold(found.sum(axis=2), margins, 1e-9)
    own = np.asarray(model.get_feature_importance(pool, type="ShapValues", thread_count=1))
    adds_up = np.allclose(
        own.sum(axis=-1), margins, rtol=0, atol=1e-9
    )  # of other trees it may miss its margin
    if adds_up or model.get_all_params()["grow_policy"] == "SymmetricTree":
        hold(found, own, 1e-9)


def expectation(tree: Tree, known: frozenset[int], row: Any, index: int = 0) -> tuple[float, float]:
    """What a tree answers if only some features are known, and the cover: by recursion, for a test."""
    if index < 0:
        return tree.leaves[~index], tree.covers[~index]
    split = tree.splits[index]
    left, right = (expectation(tree, known, row, child) for child in (split.left, split.right))
    cover = left[1] + right[1]
    if split.feature not in known:
        return (left[0] * left[1] + right[0] * right[1]) / cover, cover
    value = row[split.feature]
    is_left = split.default_left if math.isnan(value) else value <= split.threshold
    return (left if is_left else right)[0], cover


def shapley(forest: Forest, row: Any) -> list[float]:
    """Shapley's values of a row by their definition, over all sets of features; and the base."""

    def worth(known: tuple[int, ...]) -> float:
        trees = [expectation(tree, frozenset(known), row)[0] for tree in forest.trees if tree.splits]
        return math.fsum(trees)

    count = forest.width
    found = []
    for i in range(count):
        others = [j for j in range(count) if j != i]
        found.append(
            math.fsum(
                (worth((*some, i)) - worth(some)) / (count * math.comb(count - 1, size))
                for size in range(count)
                for some in itertools.combinations(others, size)
            )
        )
    return found


def narrow(count: int = 400) -> Matrix:
    return rows(count)[:, [0, 1, 2, 5, 7]]


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomForestClassifier(4, max_depth=5, random_state=0),
        lambda: ExtraTreesRegressor(3, max_depth=4, random_state=0),
        lambda: GradientBoostingClassifier(n_estimators=5, random_state=0),
        lambda: HistGradientBoostingClassifier(max_iter=5, max_leaf_nodes=9, random_state=0),
    ],
)
def test_terms_of_scikit_learns_trees_are_shapleys_by_definition(make: Callable[[], Any]) -> None:
    matrix = narrow()
    estimator = make()
    if not isinstance(estimator, HistGradientBoostingClassifier):
        matrix = np.nan_to_num(matrix)
    estimator.fit(matrix, target(rows(400), "binary"))
    is_class = hasattr(estimator, "classes_")
    conversion = convert_sklearn(estimator, "m.pkl", b"", classes=("0", "1") if is_class else ())
    assert conversion.forest is not None
    some = matrix[:6].astype(np.float32).astype(np.float64)
    found = terms(conversion, some)[:, 0]
    divisor = conversion.link.get("divisor", 1)
    for row, mine in zip(some, found, strict=True):
        expected = np.array(shapley(conversion.forest, row)) / divisor
        assert np.abs(mine[:-1] - expected).max() < 1e-12
    hold(found.sum(axis=1), conversion.source.margins(some) / divisor, 1e-12)


def test_model_that_does_not_tell_its_training_data_has_no_terms() -> None:
    split = Split(0, 1.0, default_left=True, missing="nan", left=-1, right=-2)
    assert path_arrays(Forest((Tree((split,), (0.5, 1.5)),), 1)) is None
    assert path_arrays(Forest((Tree((split,), (0.5, 1.5), (3.0, math.nan)),), 1)) is None


def test_way_that_no_training_row_went_has_terms_that_sum() -> None:
    inner = Split(1, 0.0, default_left=True, missing="nan", left=-1, right=-2)
    root = Split(0, 1.0, default_left=True, missing="nan", left=1, right=-3)
    tree = Tree((root, inner), (0.25, 4.0, 1.0), (0.0, 0.0, 7.0))
    arrays = path_arrays(Forest((tree,), 2))
    assert arrays is not None
    found = Paths(arrays, 2).terms(np.array([[0.0, -1.0], [0.0, 1.0], [2.0, math.nan]]))
    assert found.sum(axis=2).ravel().tolist() == pytest.approx([0.25, 4.0, 1.0], abs=1e-12)


def test_deep_tree_of_many_features_sums_to_its_leaf() -> None:
    """Forty features on one way: the quadrature has twenty points."""
    depth = 40
    splits = tuple(
        Split(i, 0.0, default_left=False, missing="nan", left=~i, right=i + 1 if i + 1 < depth else ~depth)
        for i in range(depth)
    )
    leaves = tuple(float(i % 7) - 2.5 for i in range(depth + 1))
    arrays = path_arrays(Forest((Tree(splits, leaves, tuple(range(1, depth + 2))),), depth))
    assert arrays is not None
    found = Paths(arrays, depth).terms(np.vstack([np.ones(depth), np.full(depth, -1.0)]))
    assert found.sum(axis=2).ravel().tolist() == pytest.approx([leaves[-1], leaves[0]], abs=1e-12)


def test_file_is_the_same_every_time() -> None:
    text = train_lightgbm({"objective": "binary"}, "binary", 3)
    first, second = (packed(convert_lightgbm(text).contributions() or {}) for _ in range(2))
    assert first == second
