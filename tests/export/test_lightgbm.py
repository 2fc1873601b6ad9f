"""LightGBM: every objective and construct, equal to the bit or refused by name.

Numbers of pitfalls are the rows of the table in `docs/exact-export.md`.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas  # type: ignore[import-untyped]  # ships no types
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from export.assemble import write_conversion
from export.errors import ExportRefused
from export.forest.graph import build_graph
from export.forest.trees import Forest, Split, Tree
from export.lightgbm.model import convert_lightgbm
from export.lightgbm.source import LightGBMSource
from export.lightgbm.text import parse_booster
from export.load import LoadOptions, from_object
from server.model.bundle import CONTRIBUTIONS_FILE, Bundle
from server.model.predictor import Predictor
from server.model.schema import Schema
from tests.support.export_models import export, lightgbm_bundle, parity_report, rows, target, train_lightgbm
from tests.support.representatives import represented

RF = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}
CATEGORICAL = {"min_data_per_group": 1, "cat_smooth": 1, "max_cat_to_onehot": 2}

EXACT: dict[str, tuple[dict[str, Any], str, str]] = {
    "binary": ({"objective": "binary"}, "binary", "binary"),
    "sigmoid": ({"objective": "binary", "sigmoid": 0.7}, "binary", "binary"),
    "cross_entropy": ({"objective": "cross_entropy"}, "binary", "binary"),
    "cross_entropy_lambda": ({"objective": "cross_entropy_lambda"}, "binary", "regression"),
    "l2": ({"objective": "regression"}, "value", "regression"),
    "l1": ({"objective": "regression_l1"}, "value", "regression"),
    "huber": ({"objective": "huber"}, "value", "regression"),
    "fair": ({"objective": "fair"}, "value", "regression"),
    "quantile": ({"objective": "quantile", "alpha": 0.3}, "value", "regression"),
    "mape": ({"objective": "mape"}, "value", "regression"),
    "poisson": ({"objective": "poisson"}, "count", "regression"),
    "gamma": ({"objective": "gamma"}, "count", "regression"),
    "tweedie": ({"objective": "tweedie"}, "count", "regression"),
    "reg_sqrt": ({"objective": "regression", "reg_sqrt": True}, "value", "regression"),
    "softmax": ({"objective": "multiclass", "num_class": 3}, "classes", "multiclass"),
    "one_vs_all": ({"objective": "multiclassova", "num_class": 3, "sigmoid": 1.3}, "classes", "multiclass"),
    "dart": ({"objective": "binary", "boosting": "dart"}, "binary", "binary"),
    "goss": ({"objective": "binary", "data_sample_strategy": "goss"}, "binary", "binary"),
    "zero_as_missing": ({"objective": "binary", "zero_as_missing": True}, "binary", "binary"),
    "use_missing=false": ({"objective": "binary", "use_missing": False}, "binary", "binary"),
}


@pytest.mark.parametrize("name", represented(EXACT, "binary", "l2", "softmax", "zero_as_missing"))
def test_every_objective_is_exact_in_margin_and_answer(name: str, tmp_path: Path) -> None:
    """Pitfalls 1, 4, 5, 7, 12 and 13: a parity report without one differing bit."""
    parameters, kind, task = EXACT[name]
    bundle = lightgbm_bundle(tmp_path, parameters, kind, 100 if name == "binary" else 40)
    assert (bundle.task, bundle.exact, parity_report(bundle)["exact"]) == (task, True, True)


@pytest.mark.parametrize("objective", ["lambdarank", "rank_xendcg"])
def test_ranking_answers_its_raw_score(objective: str, tmp_path: Path) -> None:
    bundle = lightgbm_bundle(tmp_path, {"objective": objective}, "classes", group=[30] * 100)
    assert (bundle.task, bundle.link) == ("ranking", {"name": "identity"})


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [
        ({"objective": "binary"}, "binary"),
        ({"objective": "regression"}, "value"),
        ({"objective": "multiclass", "num_class": 3}, "classes"),
    ],
)
def test_a_forest_divides_by_its_own_number_of_trees(
    parameters: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    """Pitfall 12: 37 trees, not a constant 100."""
    bundle = lightgbm_bundle(tmp_path, parameters | RF, kind, 37)
    assert bundle.link["divisor"] == 37
    assert parity_report(bundle)["exact"]


@pytest.mark.parametrize(
    "extra", [{}, {"zero_as_missing": True}, {"objective": "multiclass", "num_class": 3}]
)
def test_categorical_splits_are_exact_for_every_code(extra: dict[str, Any], tmp_path: Path) -> None:
    """Pitfalls 6, 9 and 10: every category, unseen, negative and missing codes."""
    kind = "classes" if "num_class" in extra else "binary"
    parameters = {"objective": "binary"} | CATEGORICAL | extra
    rounds = 100 if kind == "binary" else 30
    bundle = lightgbm_bundle(tmp_path, parameters, kind, rounds, categorical_feature=[3, 4])
    report = parity_report(bundle)
    assert report["exact"]
    assert report["kinds"]["categories"]["rows"] > 85
    assert [f.kind for f in bundle.schema.features[3:5]] == ["integer", "integer"]


def test_a_categorical_feature_must_not_be_a_number_in_the_schema(tmp_path: Path) -> None:
    """Pitfall 10: LightGBM truncates 2.7 to 2, ONNX compares it: integers are demanded."""
    text = train_lightgbm({"objective": "binary"} | CATEGORICAL, "binary", 10, categorical_feature=[3])
    conversion = convert_lightgbm(text)
    features = [type(f)(f.name) for f in conversion.features]
    with pytest.raises(ExportRefused, match="Column_3 to be a category"):
        _write(tmp_path, conversion, Schema(features))
    bundle = export(tmp_path, conversion)
    with pytest.raises(Exception, match="not acceptable"):
        bundle.schema.encode({"Column_3": 2.7})


def test_pandas_categories_keep_their_own_order(tmp_path: Path) -> None:
    """Pitfall 11: a shuffled list of categories; the mapping lives in the bundle."""
    matrix = rows(2000)
    words = ["delta", "alpha", "charlie", "bravo", "echo"]
    codes = np.nan_to_num(matrix[:, 4]).astype(int)
    frame = pandas.DataFrame(
        {
            "number": matrix[:, 0],
            "word": pandas.Categorical([words[code] for code in codes], categories=words),
        }
    )
    outcome = target(matrix) + (codes == 3) > 0.5
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1} | CATEGORICAL
    booster = lightgbm.train(parameters, lightgbm.Dataset(frame, outcome), 30)
    bundle = export(tmp_path, convert_lightgbm(booster.model_to_string()))
    assert bundle.schema.features[1].categories == tuple(words)
    predictor = Predictor(bundle)
    for number, word in [(0.3, "bravo"), (-1.0, "alpha"), (2.0, "echo")]:
        row = bundle.schema.encode({"number": number, "word": word})
        table = pandas.DataFrame({"number": [number], "word": pandas.Categorical([word], categories=words)})
        assert predictor.predict(row)[0] == booster.predict(table)[0]


def test_early_stopping_exports_the_best_iteration(tmp_path: Path) -> None:
    """Pitfall 15: the trees after the best iteration do not count, and the bundle says so."""
    matrix = rows()
    model = lightgbm.LGBMClassifier(n_estimators=200, learning_rate=0.5, n_jobs=1, verbosity=-1)
    model.fit(
        matrix[:2000],
        target(matrix)[:2000],
        eval_X=matrix[2000:],
        eval_y=target(matrix)[2000:],
        callbacks=[lightgbm.early_stopping(3, verbose=False)],
    )
    bundle = export(tmp_path, from_object(model, "source.pkl", b"", LoadOptions()))
    source = bundle.manifest["source"]
    assert source["best_iteration"] == source["iterations"] == model.best_iteration_ < 200
    predictor, row = Predictor(bundle), matrix[:1]
    expected = model.booster_.predict(row, num_threads=1)[0]
    assert predictor.predict(row.tobytes())[0] == expected


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [
        ({"objective": "regression", "linear_lambda": 0.1}, "value"),
        ({"objective": "binary", "use_missing": False}, "binary"),
        ({"objective": "multiclass", "num_class": 3, "bagging_fraction": 0.5, "bagging_freq": 1}, "classes"),
        ({"objective": "poisson", "boosting": "dart", "max_depth": 2}, "count"),
    ],
)
def test_linear_leaves_are_exact(parameters: dict[str, Any], kind: str, tmp_path: Path) -> None:
    """Where a feature of a leaf is missing it has a value of its own; next to zero is zero."""
    fixed = {"linear_tree": True, "num_leaves": 6, "learning_rate": 0.3}
    text = train_lightgbm(fixed | parameters, kind, 9, matrix=rows(500), categorical_feature=[3, 4])
    conversion = convert_lightgbm(text)
    assert conversion.forest is not None
    assert {len(leaf.features) > 1 for tree in conversion.forest.trees for leaf in tree.linear} >= {True}
    bundle = export(tmp_path, conversion)
    assert bundle.exact
    assert CONTRIBUTIONS_FILE not in bundle.manifest["files"]
    asked = rows(400, seed=9, missing=0.2)
    asked[:40, 0] = 1e-36
    expected = conversion.source.margins(asked)
    assert np.array_equal(Predictor(bundle).margins(asked).reshape(expected.shape), expected)
    alone = [Predictor(bundle).row_margins(row.tobytes()) for row in asked[:5]]
    assert np.array_equal(np.reshape(alone, expected[:5].shape), expected[:5])


def test_what_linear_leaves_cannot_be_is_said(tmp_path: Path) -> None:
    text = train_lightgbm({"objective": "regression", "linear_tree": True}, "value", 3, matrix=rows(300))
    conversion = convert_lightgbm(text)
    up = [replace(conversion.schema.features[0], monotone="up"), *conversion.schema.features[1:]]
    with pytest.raises(ExportRefused, match="to show `monotone` of Column_0, got linear_tree=true"):
        write_conversion(tmp_path, conversion, schema=Schema(up), name="m", version="1")
    with pytest.raises(ExportRefused, match="the linear leaves do not fit"):
        parse_booster(text.replace("num_features=", "num_features=1 ", 1))
    pipe = make_pipeline(
        StandardScaler(), lightgbm.LGBMRegressor(n_estimators=2, linear_tree=True, verbose=-1)
    )
    with pytest.raises(ExportRefused, match="inside of a scikit-learn model, got linear_tree=true"):
        from_object(pipe.fit(rows(300), target(rows(300), "value")), "m", b"", LoadOptions())


def test_trees_that_disagree_about_zero_are_refused_by_name() -> None:
    """Pitfall 7: zero missing in a part of the splits of a feature."""
    splits = (
        Split(0, 0.5, True, "zero", 1, -1),
        Split(0, 0.2, True, "nan", -2, -3),
    )
    forest = Forest((Tree(splits, (1.0, 2.0, 3.0)),), 1, band=True)
    with pytest.raises(ExportRefused, match="zero_as_missing=true"):
        build_graph(forest, {})


def test_margins_near_minus_17_keep_their_small_probabilities(tmp_path: Path) -> None:
    """Pitfall 5: an operator's own sigmoid collapses them."""
    text = train_lightgbm({"objective": "binary", "learning_rate": 0.9}, "binary", 60)
    bundle = export(tmp_path, convert_lightgbm(with_leaves(text, lambda leaf: leaf - 0.3)))
    assert parity_report(bundle)["exact"]
    assert min(bundle_margins(bundle)) < -17
    assert Predictor(bundle).output_array(np.array([-17.0]))[0] == 1 / (1 + math.exp(17.0))


CORNERS: dict[str, tuple[dict[str, Any], int]] = {
    "stump": ({"num_leaves": 2}, 1),
    "stumps": ({"num_leaves": 2}, 50),
    "one leaf": ({"min_gain_to_split": 1e9}, 3),
    "deep": ({"num_leaves": 255, "min_data_in_leaf": 1}, 5),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corner_trees_are_exact(name: str, tmp_path: Path) -> None:
    """Pitfall 18: a root that is a leaf, or whose index is that of a leaf."""
    parameters, rounds = CORNERS[name]
    assert parity_report(lightgbm_bundle(tmp_path, {"objective": "binary"} | parameters, "binary", rounds))[
        "exact"
    ]


def test_all_positive_leaves_are_exact(tmp_path: Path) -> None:
    """Pitfall 5: an operator's own sigmoid is skipped then."""
    text = train_lightgbm({"objective": "binary"}, "binary", 20)
    bundle = export(tmp_path, convert_lightgbm(with_leaves(text, lambda leaf: abs(leaf) + 0.1)))
    assert parity_report(bundle)["exact"]
    assert min(bundle_margins(bundle)) > 0


def with_leaves(text: str, change: Callable[[float], float]) -> str:
    """The same model with other leaves; the header's sizes of the trees follow."""
    head, *blocks = text.split("Tree=")
    for i, block in enumerate(blocks):
        leaves = block.split("leaf_value=")[1].split("\n")[0]
        blocks[i] = block.replace(leaves, " ".join(str(change(float(leaf))) for leaf in leaves.split()))
    last, _ = blocks[-1].split("end of trees")
    sizes = [str(len(block) + len("Tree=")) for block in (*blocks[:-1], last)]
    old = head.split("tree_sizes=")[1].split("\n")[0]
    return head.replace(old, " ".join(sizes)) + "".join("Tree=" + block for block in blocks)


def test_text_of_lightgbm_2_has_no_mark_behind_its_trees(tmp_path: Path) -> None:
    trees, _ = train_lightgbm({"objective": "binary"}, "binary", 3).split("end of trees\n")
    old = trees.replace("version=v4", "version=v2") + "\nfeature importances:\nColumn_0=3\n\n"
    assert parity_report(export(tmp_path, convert_lightgbm(old)))["exact"]
    for text, words in (
        (trees, "expected the end of the trees where their sizes say"),
        (old.replace("tree_sizes", "tree_sises"), "as LightGBM wrote before 2.1"),
        (old.replace("\nTree=2\n", "\nStump=2\n"), "expected 3 trees, got 2: the file is not complete"),
    ):
        with pytest.raises(ExportRefused, match=words):
            convert_lightgbm(text)


def bundle_margins(bundle: Bundle) -> list[float]:
    return [row.margins[0] for row in bundle.golden_rows()]


def test_features_are_mapped_by_name_not_by_position(tmp_path: Path) -> None:
    """Pitfall 16: shuffled keys score the same."""
    bundle = lightgbm_bundle(tmp_path, {"objective": "binary"}, "binary", 20)
    predictor = Predictor(bundle)
    for golden in list(bundle.golden_rows())[:20]:
        shuffled = dict(reversed(golden.fields.items()))
        assert predictor.margin(bundle.schema.encode(shuffled)) == golden.margins[0]


@pytest.mark.parametrize("width", [11, 13])
def test_a_schema_of_another_width_is_refused_before_the_operator(width: int, tmp_path: Path) -> None:
    """Pitfall 17: n - 1 and n + 1 columns."""
    conversion = convert_lightgbm(train_lightgbm({"objective": "binary"}, "binary", 3))
    features = [*conversion.features, type(conversion.features[0])("more")][:width]
    with pytest.raises(ExportRefused, match="features to be the schema's"):
        _write(tmp_path, conversion, Schema(features))


def test_one_row_scores_as_in_any_batch(tmp_path: Path) -> None:
    """Pitfall 4: bitwise batch invariance, several classes too."""
    bundle = lightgbm_bundle(tmp_path, {"objective": "multiclass", "num_class": 3}, "classes", 50)
    report = parity_report(bundle)["batch_invariance"]
    assert (report["rows"], report["differ"]) == (512, 0)


@pytest.mark.whole
def test_a_wide_booster_of_800_features_exports_quickly(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    matrix = random.normal(size=(600, 800))
    matrix[random.random(matrix.shape) < 0.2] = np.nan
    outcome = np.nan_to_num(matrix[:, :40]).sum(axis=1) + np.isnan(matrix[:, :9]).sum(axis=1) > 1
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "feature_fraction": 0.2}
    data = lightgbm.Dataset(matrix, outcome, params={"verbosity": -1})
    text = lightgbm.train(parameters, data, 40).model_to_string()
    ways = {split.default_left for split in parse_booster(text).forest.splits()}
    assert ways == {True, False}
    assert parity_report(export(tmp_path, convert_lightgbm(text)))["exact"]


def test_the_ground_truth_is_lightgbm_itself() -> None:
    text = train_lightgbm({"objective": "binary"}, "binary", 5)
    matrix = rows(50, seed=9)
    booster = lightgbm.Booster(model_str=text)
    assert np.array_equal(LightGBMSource(text).outputs(matrix), booster.predict(matrix, num_threads=1))


def _write(folder: Path, conversion: Any, schema: Schema) -> None:
    from export.assemble import write_conversion

    write_conversion(folder / "bundle", conversion, schema=schema, name="m", version="1", ordinary_rows=100)
    raise AssertionError("a schema that does not fit was accepted")
