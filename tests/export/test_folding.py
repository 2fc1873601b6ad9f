"""Pipelines whose columns are folded into their trees: no node before them, and not a bit of difference."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]  # ships no types
import numpy as np
import onnx
import orjson
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import pytest
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from xgboost import XGBClassifier

from export.assemble import write_conversion
from export.load import LoadOptions, load
from export.reader import positions
from server.model.bundle import Bundle
from server.model.decoder import row_decoder
from server.model.predictor import Predictor

pytestmark = pytest.mark.whole

ROWS = 400
R = np.random.default_rng(11)
NUMBERS, TEXTS = ["amount", "age", "count"], ["city", "job"]
FRAME = pd.DataFrame(
    {
        "amount": R.lognormal(9, 1, ROWS).round(2),
        "age": R.integers(18, 80, ROWS),
        "count": R.poisson(0.7, ROWS).astype(float),
        "city": R.choice([f"city {i}" for i in range(25)], ROWS),
        "job": R.choice(["a", "b", "c"], ROWS),
    }
)
GAPS = FRAME.assign(
    amount=FRAME.amount.where(R.random(ROWS) > 0.1), job=FRAME.job.where(R.random(ROWS) > 0.1)
)
BAD = (np.log(FRAME.amount) + (FRAME.city < "city 2") + FRAME["count"] + R.normal(size=ROWS) > 10).astype(int)


def light() -> Any:
    return LGBMClassifier(n_estimators=5, num_leaves=8, verbose=-1, n_jobs=1)


def extreme() -> Any:
    return XGBClassifier(n_estimators=5, max_depth=4, n_jobs=1)


def behind(encoder: Any, model: Any, numbers: Any = "passthrough") -> Pipeline:
    return Pipeline(
        [("p", ColumnTransformer([("n", numbers, NUMBERS), ("t", encoder, TEXTS)])), ("m", model)]
    )


def ignoring(**more: Any) -> Any:
    return OneHotEncoder(handle_unknown="ignore", **more)


#: A pipeline, the rows it is fitted on, and the operators of its graph.
FOLDED: dict[str, tuple[Callable[[], Any], pd.DataFrame, list[str]]] = {
    "texts with gaps, LightGBM": (lambda: behind(ignoring(), light()), GAPS, ["TreeEnsemble"]),
    "imputed and scaled, LightGBM": (
        lambda: behind(
            TargetEncoder(random_state=0), light(), make_pipeline(SimpleImputer(), StandardScaler())
        ), GAPS.assign(job=FRAME.job), ["TreeEnsemble"],
    ),
    "scaled, no texts, forest": (
        lambda: make_pipeline(RobustScaler(), RandomForestClassifier(5, max_depth=5)),
        FRAME[NUMBERS], ["TreeEnsemble"],
    ),
    "scaled twice, LightGBM": (
        lambda: make_pipeline(MinMaxScaler(), RobustScaler(), light()),
        FRAME[NUMBERS] / 1e9, ["TreeEnsemble"],
    ),
    "scaled to a range, GradientBoosting": (
        lambda: behind(ignoring(), GradientBoostingClassifier(n_estimators=5), MinMaxScaler()),
        FRAME, ["TreeEnsemble"],
    ),
    "codes of native categories, HistGradientBoosting": (
        lambda: behind(
            OrdinalEncoder(), HistGradientBoostingClassifier(max_iter=5, categorical_features=[3, 4])
        ), FRAME, ["TreeEnsemble"],
    ),
    "dense, XGBoost": (
        lambda: behind(ignoring(sparse_output=False), extreme()), FRAME, ["Cast", "TreeEnsemble"],
    ),
    "sparse, so that zeros are missing, XGBoost": (
        lambda: behind(ignoring(), extreme()), FRAME, ["Equal", "Where", "Cast", "TreeEnsemble"],
    ),
    "an encoder of all columns, XGBoost": (
        lambda: make_pipeline(ignoring(), extreme()), FRAME[TEXTS],
        ["Equal", "Where", "Cast", "TreeEnsemble"],
    ),
}  # fmt: skip


def exported(pipeline: Any, frame: pd.DataFrame, folder: Path) -> tuple[Bundle, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        joblib.dump(pipeline.fit(frame, BAD), folder / "m.joblib")
    conversion = load(folder / "m.joblib", LoadOptions(trust_pickle=True))
    bundle = write_conversion(
        folder / "bundle", conversion, schema=conversion.schema, name="m", version="1", ordinary_rows=500
    )
    return bundle, pipeline


def operators(bundle: Bundle) -> list[str]:
    return [node.op_type for node in onnx.load(bundle.directory / "model.onnx").graph.node]


def answers(bundle: Bundle, frame: pd.DataFrame) -> list[Any]:
    predictor, decode = Predictor(bundle), row_decoder(bundle.schema)
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    sent = [orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY) for record in records]
    return [predictor.predict(decode(row))[0] for row in sent]


@pytest.mark.parametrize("name", FOLDED)
def test_nothing_stands_before_the_trees_and_no_answer_differs(name: str, tmp_path: Path) -> None:
    make, frame, expected = FOLDED[name]
    bundle, model = exported(make(), frame, tmp_path)
    assert bundle.exact
    assert operators(bundle) == expected
    theirs = model.predict_proba(frame[:100])[:, 1]
    assert np.abs(np.array(answers(bundle, frame[:100])) - theirs).max() <= 1e-15
    explained = (bundle.directory / "contributions.npz").exists()
    assert explained == ("Where" not in expected)


def test_a_zero_in_a_sparse_row_is_missing_and_a_tiny_number_is_not(tmp_path: Path) -> None:
    bundle, model = exported(behind(ignoring(), extreme()), FRAME, tmp_path)
    rows = pd.concat([FRAME[:40].assign(count=value) for value in (0.0, -0.0, 1e-300, 1.0, 2.0)])
    theirs = model.predict_proba(rows)[:, 1]
    assert answers(bundle, rows) == theirs.tolist()
    assert len({*theirs}) > 20


def test_an_imputer_before_sparse_rows_keeps_its_nodes(tmp_path: Path) -> None:
    """What is missing becomes a number there, and a zero becomes missing: two ways from one column."""
    bundle, model = exported(behind(ignoring(), extreme(), SimpleImputer()), GAPS, tmp_path)
    assert bundle.exact
    assert len(operators(bundle)) > 4
    assert answers(bundle, GAPS[:100]) == model.predict_proba(GAPS[:100])[:, 1].tolist()


@pytest.mark.parametrize(
    ("columns", "expected"),
    [("b", [1]), (slice("b", "c"), [1, 2]), (slice(None, "b"), [0, 1]), (slice(1, None, 2), [1, 3])],
)
def test_columns_are_found_as_scikit_learn_takes_them(columns: object, expected: list[int]) -> None:
    assert positions(columns, ["a", "b", "c", "d"]) == expected
