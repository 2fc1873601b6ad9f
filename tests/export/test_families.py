"""Models as people save them: boosters behind pipelines, in searches, calibrations and votes."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]  # ships no types
import numpy as np
import orjson
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from xgboost import XGBClassifier

from export.load import LoadOptions, load
from server.model.decoder import row_decoder
from server.model.predictor import Predictor
from tests.support.compatibility import hold
from tests.support.export_models import export

ROWS = 400
R = np.random.default_rng(7)
NUMBERS, TEXTS = ["income", "age", "rate"], ["city", "job"]
FRAME = pd.DataFrame(
    {
        "income": R.lognormal(10, 0.5, ROWS).round(2),
        "age": R.integers(18, 80, ROWS),
        "rate": R.random(ROWS),
        "city": R.choice(["Lyon", "Oslo", "Kyiv", "Rome"], ROWS),
        "job": R.choice(["a", "b", "c"], ROWS),
    }
)
FLAGS = FRAME.drop(columns="job").assign(member=R.random(ROWS) < 0.5)
GAPS = FRAME.assign(
    city=FRAME.city.where(R.random(ROWS) > 0.1, np.nan), income=FRAME.income.where(R.random(ROWS) > 0.1)
)
TARGET = (np.log(FRAME.income) + (FRAME.city == "Oslo") + FRAME.age / 40 + R.normal(size=ROWS) > 12).astype(
    int
)


def light(**more: Any) -> Any:
    return LGBMClassifier(n_estimators=6, num_leaves=6, verbose=-1, n_jobs=1, **more)


def extreme() -> Any:
    return XGBClassifier(n_estimators=6, max_depth=3, n_jobs=1)


def forest() -> Any:
    return RandomForestClassifier(6, max_depth=5, random_state=0)


def behind(encoder: Any, model: Any, numbers: Any = "passthrough") -> Any:
    return Pipeline(
        [("p", ColumnTransformer([("n", numbers, NUMBERS), ("t", encoder, TEXTS)])), ("m", model)]
    )


def one_hot(**more: Any) -> Any:
    return OneHotEncoder(**more)


def ignoring() -> Any:
    return OneHotEncoder(handle_unknown="ignore")


#: By what people call it: an unfitted model, the rows it is fitted on, and the largest difference (0: none).
FAMILIES: dict[str, tuple[Callable[[], Any], pd.DataFrame, float]] = {
    "Pipeline of OneHotEncoder() and LightGBM": (lambda: behind(one_hot(), light()), FRAME, 0),
    "Pipeline of OrdinalEncoder() and LightGBM": (lambda: behind(OrdinalEncoder(), light()), FRAME, 0),
    "Pipeline of StandardScaler, OneHotEncoder and XGBoost": (
        lambda: behind(ignoring(), extreme(), StandardScaler()), FRAME, 0,
    ),
    "Pipeline of imputers of numbers and texts, OneHotEncoder and LightGBM": (
        lambda: behind(
            make_pipeline(SimpleImputer(strategy="most_frequent"), ignoring()), light(), SimpleImputer()
        ), GAPS, 0,
    ),
    "Pipeline of OneHotEncoder on texts with gaps and LightGBM": (
        lambda: behind(ignoring(), light(), SimpleImputer()), GAPS, 0,
    ),
    "Pipeline of OneHotEncoder(drop=\"first\") and LogisticRegression": (
        lambda: behind(one_hot(drop="first"), LogisticRegression(), StandardScaler()), FRAME, 1e-12,
    ),
    "Pipeline of OneHotEncoder with infrequent categories and RandomForest": (
        lambda: behind(
            one_hot(min_frequency=110, handle_unknown="infrequent_if_exist"), forest()
        ), FRAME, 0,
    ),
    "Pipeline of TargetEncoder and LightGBM": (
        lambda: behind(TargetEncoder(random_state=0), light()), FRAME, 0,
    ),
    "Pipeline of OrdinalEncoder and HistGradientBoosting": (
        lambda: behind(OrdinalEncoder(), HistGradientBoostingClassifier(max_iter=6)), FRAME, 0,
    ),
    "Pipeline of OneHotEncoder on booleans and RandomForest": (
        lambda: Pipeline(
            [("p", ColumnTransformer([("n", "passthrough", NUMBERS), ("t", one_hot(), ["member", "city"])])),
             ("m", forest())]
        ), FLAGS, 0,
    ),
    "Pipeline of columns by position and LightGBM": (
        lambda: Pipeline(
            [("p", ColumnTransformer([("n", "passthrough", [0, 1, 2]), ("t", ignoring(), slice(3, 5))])),
             ("m", light())]
        ), FRAME, 0,
    ),
    "Pipeline of FunctionTransformer(np.log1p) and LogisticRegression": (
        lambda: Pipeline([("p", ColumnTransformer([("l", FunctionTransformer(np.log1p), ["income"])])),
                          ("m", LogisticRegression())]), FRAME[["income"]], 1e-9,
    ),
    "GridSearchCV of LightGBM": (
        lambda: GridSearchCV(light(), {"num_leaves": [4, 6]}, cv=2), FRAME[NUMBERS], 0,
    ),
    "GridSearchCV of RandomForest": (
        lambda: GridSearchCV(forest(), {"max_depth": [3, 4]}, cv=2), FRAME[NUMBERS], 0,
    ),
    "GridSearchCV of a Pipeline with LightGBM": (
        lambda: GridSearchCV(behind(one_hot(), light()), {"m__num_leaves": [4, 6]}, cv=2), FRAME, 0,
    ),
    "CalibratedClassifierCV (sigmoid) of LightGBM": (
        lambda: CalibratedClassifierCV(light(), cv=2), FRAME[NUMBERS], 1e-12,
    ),
    "CalibratedClassifierCV (sigmoid) of HistGradientBoosting": (
        lambda: CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=6), cv=2
        ), FRAME[NUMBERS], 1e-12,
    ),
    "CalibratedClassifierCV (sigmoid) of a Pipeline with XGBoost": (
        lambda: CalibratedClassifierCV(behind(ignoring(), extreme()), cv=2), FRAME, 1e-6,
    ),
    "VotingClassifier (soft) of LogisticRegression, RandomForest and LightGBM": (
        lambda: VotingClassifier(
            [("a", make_pipeline(StandardScaler(), LogisticRegression())), ("b", forest()), ("c", light())],
            voting="soft",
        ), FRAME[NUMBERS], 1e-12,
    ),
    "VotingRegressor of LightGBM": (
        lambda: VotingRegressor([("a", LGBMRegressor(n_estimators=6, verbose=-1, n_jobs=1))]
        ), FRAME[NUMBERS], 1e-12,
    ),
    "StackingClassifier of RandomForest, LightGBM and XGBoost": (
        lambda: StackingClassifier([("a", forest()), ("b", light()), ("c", extreme())], cv=2
        ), FRAME[NUMBERS], 1e-6,
    ),
    "BaggingClassifier of LightGBM": (
        lambda: BaggingClassifier(light(), n_estimators=2), FRAME[NUMBERS], 1e-12,
    ),
}  # fmt: skip


def sent(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as JSON has them: a missing value is null."""
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    rows: list[dict[str, Any]] = orjson.loads(orjson.dumps(records, option=orjson.OPT_SERIALIZE_NUMPY))
    return rows


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_as_trained_are_answered_as_the_library_answers_them(name: str, tmp_path: Path) -> None:
    make, frame, bound = FAMILIES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make().fit(frame, TARGET)
        joblib.dump(model, tmp_path / "m.joblib")
        bundle = export(tmp_path, load(tmp_path / "m.joblib", LoadOptions(trust_pickle=True)))
        has_classes = hasattr(model, "classes_")
        expected = model.predict_proba(frame)[:, 1] if has_classes else model.predict(frame)
    predictor, decode = Predictor(bundle), row_decoder(bundle.schema, others=True)
    answers = [predictor.predict(decode(orjson.dumps(row)))[0] for row in sent(frame)]
    assert np.abs(np.array(answers) - expected).max() <= bound * max(1.0, np.abs(expected).max())
    assert np.unique(expected).size > 10


def test_the_table_of_models_says_what_the_tests_hold() -> None:
    rows = [
        [name, "equal to the bit" if bound == 0 else f"within {bound:g}"]
        for name, (_, _, bound) in FAMILIES.items()
    ]
    header = ["fitted, saved with joblib or skops", "answers to rows as trained"]
    hold("Models of scikit-learn, with LightGBM and XGBoost inside", header, rows)
