"""scikit-learn: trees read from the estimator, the rest through skl2onnx within a stated bound.

Numbers of pitfalls are the rows of the table in `docs/exact-export.md`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars
import pytest
import skl2onnx
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, TweedieRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.semi_supervised import LabelSpreading
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from export.errors import ExportRefused
from export.forest.conversion import Conversion
from export.sklearn.converters import own_converters
from export.sklearn.model import convert_sklearn
from server.errors import BundleError
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.bundles import edit
from tests.support.export_models import export, parity_report, rows, target
from tests.support.representatives import represented

TREES: dict[str, tuple[Any, str]] = {
    "histogram": (HistGradientBoostingClassifier(max_iter=100, random_state=0), "binary"),
    "histogram of classes": (HistGradientBoostingClassifier(max_iter=15, random_state=0), "classes"),
    "histogram of values": (HistGradientBoostingRegressor(max_iter=50, random_state=0), "value"),
    "histogram of counts": (
        HistGradientBoostingRegressor(max_iter=50, loss="poisson", random_state=0),
        "count",
    ),
    "forest": (RandomForestClassifier(100, max_depth=7, random_state=0), "binary"),
    "forest of classes": (RandomForestClassifier(37, max_depth=7, random_state=0), "classes"),
    "forest of values": (RandomForestRegressor(50, max_depth=7, random_state=0), "value"),
    "extra trees": (ExtraTreesClassifier(100, max_depth=7, random_state=0), "binary"),
    "extra trees of values": (ExtraTreesRegressor(50, max_depth=7, random_state=0), "value"),
    "one tree": (DecisionTreeClassifier(random_state=0), "binary"),
}
COMPLETE: dict[str, tuple[Any, str]] = {
    "gradient boosting": (GradientBoostingClassifier(n_estimators=100, random_state=0), "binary"),
    "exponential": (GradientBoostingClassifier(n_estimators=50, loss="exponential"), "binary"),
    "boosting of classes": (GradientBoostingClassifier(n_estimators=40, random_state=0), "classes"),
    "boosting of values": (GradientBoostingRegressor(n_estimators=100, random_state=0), "value"),
    "boosting from zero": (GradientBoostingRegressor(n_estimators=50, init="zero"), "value"),
}
BOUNDED: dict[str, tuple[Any, str]] = {
    "logistic": (LogisticRegression(max_iter=1000), "binary"),
    "logistic of classes": (LogisticRegression(max_iter=1000), "classes"),
    "scaled": (make_pipeline(StandardScaler(), LogisticRegression()), "binary"),
    "discriminant": (LinearDiscriminantAnalysis(), "binary"),
    "discriminant of classes": (LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), "classes"),
    "calibrated": (CalibratedClassifierCV(LogisticRegression(max_iter=1000)), "binary"),
    # Of values far from training's an exponential is as large as it likes: the bound is one of parts.
    "amounts": (TweedieRegressor(power=1.5, alpha=1e-3, max_iter=1000), "count"),
    "network of classes": (MLPClassifier((4,), solver="lbfgs", random_state=0), "classes"),
    "probabilities of a normal distribution": (make_pipeline(VarianceThreshold(), GaussianNB()), "classes"),
    "isotonic": (CalibratedClassifierCV(LogisticRegression(max_iter=1000), method="isotonic"), "classes"),
}


def converted(estimator: Any, kind: str, missing: float) -> Conversion:
    matrix = rows(1200, missing=missing)
    estimator = clone(estimator)  # a conversion sets n_jobs of what it is given, which other tests fit too
    with threadpool_limits(1):
        estimator.fit(matrix, target(matrix, kind))
    return convert_sklearn(estimator, "source.skops", b"estimator")


@pytest.mark.parametrize("name", represented(TREES, "histogram", "forest of classes", "one tree"))
def test_trees_are_exact_where_values_are_missing_too(name: str, tmp_path: Path) -> None:
    """Pitfalls 2 and 8: float32 rows against float64 thresholds, and the learned way of NaN."""
    bundle = export(tmp_path, converted(*TREES[name], missing=0.1))
    report = parity_report(bundle)["total"]
    assert (bundle.exact, report["margin_bits_differ"], report["decisions_flipped"]) == (True, 0, 0)
    assert report["max_probability_difference"] < 1e-14


@pytest.mark.parametrize("name", represented(COMPLETE, "boosting from zero"))
def test_gradient_boosting_is_exact_and_demands_every_value(name: str, tmp_path: Path) -> None:
    bundle = export(tmp_path, converted(*COMPLETE[name], missing=0.0))
    assert (bundle.exact, parity_report(bundle)["total"]["margin_bits_differ"]) == (True, 0)
    assert not any(feature.nullable for feature in bundle.schema.features)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", represented(BOUNDED, "logistic", "discriminant of classes", "amounts"))
def test_other_estimators_are_within_the_bound_their_bundle_states(name: str, tmp_path: Path) -> None:
    conversion = converted(*BOUNDED[name], missing=0.0)
    bundle = export(tmp_path, conversion)
    report = parity_report(bundle)["total"]
    assert report["decisions_flipped"] == 0
    assert report["max_margin_difference"] <= bundle.bound < 1e-10
    others = rows(4000, seed=9, missing=0.0)  # which the export has not seen
    others[:2000] *= 10
    expected = conversion.source.margins(others)
    difference = np.abs(Predictor(bundle).margins(others) - expected) / np.maximum(1, np.abs(expected))
    assert difference.max() <= bundle.bound


def test_a_large_amount_is_held_to_its_own_size_at_every_start(tmp_path: Path) -> None:
    matrix = rows(1200, missing=0.0)
    amounts = TweedieRegressor(power=1.5, alpha=1e-3, max_iter=1000).fit(matrix, np.exp(9 + 2 * matrix[:, 0]))
    bundle = export(tmp_path, convert_sklearn(amounts, "source.skops", b"estimator"))
    lines = [orjson.loads(line) for line in bundle.read("golden.jsonl").splitlines()]
    large = max(lines, key=lambda line: float.fromhex(line["margin"]))
    assert float.fromhex(large["margin"]) > 1e3
    large["margin"] = (float.fromhex(large["margin"]) * (1 + 1e-9)).hex()
    edit(bundle.directory, "golden.jsonl", b"\n".join(map(orjson.dumps, lines)))
    with pytest.raises(BundleError, match=r"golden row .* the margin"):
        Predictor(Bundle.load(bundle.directory)).check_golden_rows()


def test_estimator_whose_graph_scores_otherwise_is_refused_with_what_to_do(tmp_path: Path) -> None:
    other = converted(make_pipeline(StandardScaler(), LogisticRegression(C=1e-3)), "binary", missing=0.0)
    wrong = replace(converted(*BOUNDED["scaled"], missing=0.0), source=other.source)
    with pytest.raises(ExportRefused, match=r"skl2onnx converts StandardScaler .* otherwise .* another"):
        export(tmp_path, wrong)


def test_a_pipeline_of_columns_takes_texts_as_categories(tmp_path: Path) -> None:
    table, outcome, pipeline = columns(LogisticRegression())
    bundle = export(tmp_path, convert_sklearn(pipeline.fit(table, outcome), "source.skops", b""))
    assert bundle.schema.features[2].categories == ("blue", "green", "red")
    assert bundle.bound <= 1e-12
    _scores_as(pipeline, bundle, table)


@pytest.mark.parametrize(
    "last",
    [
        GradientBoostingClassifier(n_estimators=30),
        RandomForestClassifier(30),
        HistGradientBoostingClassifier(max_iter=10),
    ],
)
def test_trees_at_the_end_of_a_pipeline_are_exact(last: Any, tmp_path: Path) -> None:
    table, outcome, pipeline = columns(last)
    bundle = export(tmp_path, convert_sklearn(pipeline.fit(table, outcome), "source.skops", b""))
    assert parity_report(bundle)["total"]["margin_bits_differ"] == 0
    _scores_as(pipeline, bundle, table)


def columns(last: Any) -> tuple[polars.DataFrame, Any, Pipeline]:
    matrix = rows(1000)
    random = np.random.default_rng(3)
    table = polars.DataFrame(
        {
            "first": matrix[:, 0],
            "second": matrix[:, 1],
            "colour": random.choice(["red", "green", "blue"], len(matrix)),
        }
    )
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    prepare = ColumnTransformer([("n", numbers, ["first", "second"]), ("t", texts, ["colour"])])
    return table, target(matrix), Pipeline([("prepare", prepare), ("last", last)])


def _scores_as(pipeline: Pipeline, bundle: Bundle, table: polars.DataFrame) -> None:
    predictor = Predictor(bundle)
    expected = pipeline.predict_proba(table[:20])[:, 1]
    for row, probability in zip(table[:20].iter_rows(named=True), expected, strict=True):
        fields = {name: value for name, value in row.items() if value == value}
        assert predictor.predict(bundle.schema.encode(fields))[0] == pytest.approx(probability, abs=1e-12)


def test_what_nobody_converts_is_refused_with_what_to_do() -> None:
    with pytest.raises(ExportRefused, match="expected an estimator skl2onnx converts, got LabelSpreading"):
        converted(LabelSpreading(), "binary", 0.0)


@pytest.mark.parametrize("kind", ["binary", "classes"])
@pytest.mark.parametrize("is_forest", [True, False], ids=["of probabilities", "of a decision function"])
def test_a_temperature_is_applied_as_scikit_learn_does(is_forest: bool, kind: str, tmp_path: Path) -> None:
    inside = RandomForestClassifier(4, max_depth=2) if is_forest else LogisticRegression(max_iter=1000)
    model = CalibratedClassifierCV(inside, cv=2, method="temperature")
    assert export(tmp_path, converted(model, kind, 0.0)).bound <= 1e-12


def test_an_estimator_that_is_not_fitted_is_refused() -> None:
    with pytest.raises(ExportRefused, match="fitted"):
        convert_sklearn(LogisticRegression(), "source.skops", b"")


@pytest.mark.parametrize("leaves", [2, 31], ids=["declared, not used", "used"])
def test_declared_categories_of_histogram_boosting_are_exact(leaves: int, tmp_path: Path) -> None:
    matrix = rows(800)
    estimator = HistGradientBoostingClassifier(max_iter=4, max_leaf_nodes=leaves, categorical_features=[3, 4])
    estimator.fit(matrix, target(matrix))
    bundle = export(tmp_path, convert_sklearn(estimator, "source.skops", b""))
    assert bundle.exact
    assert [feature.kind for feature in bundle.schema.features][2:5] == ["number", "category", "category"]


def test_class_names_become_decisions(tmp_path: Path) -> None:
    matrix = rows(600)
    words = np.where(target(matrix) > 0.5, "bad", "good")
    estimator = RandomForestClassifier(10, max_depth=3).fit(matrix, words)
    bundle = export(tmp_path, convert_sklearn(estimator, "source.skops", b""))
    assert bundle.outcomes == ("bad", "good")


def test_skl2onnx_is_as_before_when_a_pipeline_was_exported() -> None:
    """Its registry is the process's: who converts a forest next must not get marks of ours."""
    rows, target = np.random.default_rng(0).random((40, 2)), np.arange(40) % 2
    model = make_pipeline(StandardScaler(), RandomForestClassifier(2, random_state=0)).fit(rows, target)
    before = skl2onnx.to_onnx(model, rows[:1]).SerializeToString()
    with own_converters(model):
        assert skl2onnx.to_onnx(model, rows[:1]).SerializeToString() != before
    assert skl2onnx.to_onnx(model, rows[:1]).SerializeToString() == before
