"""Models as people save them, over HTTP: boosters behind pipelines, in searches, votes."""

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from xgboost import XGBClassifier

from export.assemble import write_conversion
from export.load import LoadOptions, load
from server.model.bundle import Bundle
from server.model.decoder import row_decoder
from server.model.predictor import Predictor
from tests.support.compatibility import hold
from tests.support.servers import RawResponse, exchange, post, serving

#: Rows of each family: all in a batch, and so many alone (`HTTP_ROWS=1000`: see CONTRIBUTING.md).
ROWS, ALONE = 1000, min(1000, int(os.environ.get("HTTP_ROWS", "3")))
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
#: Columns of pandas' type category: texts with gaps, and numbers.
NATIVE = GAPS.assign(
    city=pd.Categorical(GAPS.city), job=pd.Categorical(GAPS.job.map({"a": 10, "b": 20, "c": 35}))
)
TARGET = (np.log(FRAME.income) + (FRAME.city == "Oslo") + FRAME.age / 40 + R.normal(size=ROWS) > 12).astype(
    int
)


def light(**more: Any) -> Any:
    return LGBMClassifier(n_estimators=6, num_leaves=6, verbose=-1, n_jobs=1, **more)


def extreme(**more: Any) -> Any:
    depth = {} if "booster" in more else {"max_depth": 3}
    return XGBClassifier(n_estimators=6, n_jobs=1, **depth, **more)


def forest() -> Any:
    return RandomForestClassifier(6, max_depth=5, random_state=0)


def boosted(**more: Any) -> Any:
    return HistGradientBoostingClassifier(max_iter=6, **more)


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
    "LightGBM with pandas categories": (light, NATIVE, 0),
    "XGBoost with pandas categories (enable_categorical)": (
        lambda: extreme(enable_categorical=True, max_cat_to_onehot=2), NATIVE, 0,
    ),
    "XGBoost, booster gblinear": (lambda: extreme(booster="gblinear"), FRAME[NUMBERS], 0),
    "HistGradientBoosting with pandas categories": (boosted, NATIVE, 0),
    "Pipeline of OrdinalEncoder and HistGradientBoosting with categorical_features": (
        lambda: Pipeline(
            [("p", ColumnTransformer([("t", OrdinalEncoder(), TEXTS)], remainder="passthrough")),
             ("m", boosted(categorical_features=[0, 1]))]
        ), FRAME, 0,
    ),
    "CalibratedClassifierCV (isotonic) of RandomForest": (
        lambda: CalibratedClassifierCV(forest(), method="isotonic", cv=2), FRAME[NUMBERS], 0,
    ),
    "CalibratedClassifierCV (isotonic) of LightGBM": (
        lambda: CalibratedClassifierCV(light(), method="isotonic", cv=2), FRAME[NUMBERS], 1e-12,
    ),
    "CalibratedClassifierCV (isotonic) of HistGradientBoosting with pandas categories": (
        lambda: CalibratedClassifierCV(boosted(), method="isotonic", cv=2), NATIVE, 1e-12,
    ),
    "CalibratedClassifierCV (isotonic) of XGBoost": (
        lambda: CalibratedClassifierCV(extreme(), method="isotonic", cv=2), FRAME[NUMBERS], 0,
    ),
    "CalibratedClassifierCV (sigmoid) of LightGBM with pandas categories": (
        lambda: CalibratedClassifierCV(light(), cv=2), NATIVE, 1e-12,
    ),
    "VotingClassifier of HistGradientBoosting and XGBoost with pandas categories": (
        lambda: VotingClassifier([("a", boosted()), ("b", extreme(enable_categorical=True))], voting="soft"),
        NATIVE, 1e-12,
    ),
    "CalibratedClassifierCV (temperature) of LightGBM": (
        lambda: CalibratedClassifierCV(light(), method="temperature", cv=2), FRAME[NUMBERS], 1e-12,
    ),
    "CalibratedClassifierCV (temperature) of HistGradientBoosting": (
        lambda: CalibratedClassifierCV(boosted(), method="temperature", cv=2), FRAME[NUMBERS], 1e-12,
    ),
    "CalibratedClassifierCV (temperature) of XGBoost": (
        lambda: CalibratedClassifierCV(extreme(), method="temperature", cv=2), FRAME[NUMBERS], 1e-6,
    ),
    "Pipeline of OneHotEncoder() and LightGBM": (lambda: behind(one_hot(), light()), FRAME, 0),
    "Pipeline of OrdinalEncoder() and LightGBM": (lambda: behind(OrdinalEncoder(), light()), FRAME, 0),
    "Pipeline of StandardScaler, OneHotEncoder and XGBoost": (
        lambda: behind(ignoring(), extreme(), StandardScaler()), FRAME, 0,
    ),
    "Pipeline of OneHotEncoder of many categories, sparse, and XGBoost": (
        lambda: behind(ignoring(), extreme()),
        FRAME.assign(city=R.choice([f"c{i}" for i in range(30)], ROWS)), 0,
    ),
    "Pipeline of OneHotEncoder of all columns and XGBoost": (
        lambda: make_pipeline(ignoring(), extreme()),
        FRAME[TEXTS].assign(age=pd.cut(FRAME.age, 12).astype(str)), 0,
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
    "CalibratedClassifierCV (isotonic) of a Pipeline with LightGBM": (
        lambda: CalibratedClassifierCV(behind(ignoring(), light()), method="isotonic", cv=2), FRAME, 0,
    ),
    "CalibratedClassifierCV (isotonic) of a Pipeline with LogisticRegression": (
        lambda: CalibratedClassifierCV(
            behind(ignoring(), LogisticRegression(), StandardScaler()), method="isotonic", cv=2
        ), FRAME, 1e-12,
    ),
    "CalibratedClassifierCV (temperature) of a Pipeline with HistGradientBoosting": (
        lambda: CalibratedClassifierCV(behind(OrdinalEncoder(), boosted()), method="temperature", cv=2),
        FRAME, 1e-12,
    ),
    "VotingClassifier (soft) of Pipelines, each with encoders of its own": (
        lambda: VotingClassifier(
            [("a", behind(ignoring(), LogisticRegression(), StandardScaler())),
             ("b", behind(TargetEncoder(random_state=0), light())),
             ("c", behind(OrdinalEncoder(), forest()))],
            voting="soft",
        ), FRAME, 1e-12,
    ),
    "StackingRegressor of Pipelines, each with encoders of its own": (
        lambda: StackingRegressor(
            [("a", behind(ignoring(), Ridge(), StandardScaler())),
             ("b", behind(OrdinalEncoder(), LGBMRegressor(n_estimators=6, verbose=-1, n_jobs=1)))], cv=2,
        ), FRAME, 1e-12,
    ),
    "Pipeline of OrdinalEncoder and LightGBM with categorical_feature": (
        lambda: Pipeline(
            [("p", ColumnTransformer([("t", OrdinalEncoder(), TEXTS)], remainder="passthrough")),
             ("m", light(categorical_feature=[0, 1]))]
        ), FRAME, 0,
    ),
    "CalibratedClassifierCV (sigmoid) of a Pipeline with XGBoost": (
        lambda: CalibratedClassifierCV(behind(ignoring(), extreme()), cv=2), FRAME, 1e-12,
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
        ), FRAME[NUMBERS], 1e-12,
    ),
    "BaggingClassifier of LightGBM": (
        lambda: BaggingClassifier(light(), n_estimators=2), FRAME[NUMBERS], 1e-12,
    ),
    "Pipeline of KBinsDiscretizer, OneHotEncoder and LogisticRegression (a scorecard)": (
        lambda: behind(
            OneHotEncoder(), LogisticRegression(),
            KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf"),
        ), FRAME, 1e-12,
    ),
}  # fmt: skip


#: What the short run of the suite tries.
QUICK = (
    "XGBoost with pandas categories (enable_categorical)",
    "CalibratedClassifierCV (isotonic) of RandomForest",
    "CalibratedClassifierCV (isotonic) of a Pipeline with LogisticRegression",
    "HistGradientBoosting with pandas categories",
    "Pipeline of imputers of numbers and texts, OneHotEncoder and LightGBM",
    "StackingClassifier of RandomForest, LightGBM and XGBoost",
)


def sent(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as JSON has them: a missing value is null."""
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    rows: list[dict[str, Any]] = orjson.loads(orjson.dumps(records, option=orjson.OPT_SERIALIZE_NUMPY))
    return rows


class Made(NamedTuple):
    """A family as it was exported, and what its library answers to the rows it was trained on."""

    bundle: Bundle
    rows: list[dict[str, Any]]
    expected: Any
    bound: float


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Made]:
    return {name: made(name, tmp_path_factory.mktemp("family")) for name in FAMILIES}


def made(name: str, folder: Path) -> Made:
    make, frame, bound = FAMILIES[name]
    number = list(FAMILIES).index(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make().fit(frame, TARGET)
        joblib.dump(model, folder / "m.joblib")
        conversion = load(folder / "m.joblib", LoadOptions(trust_pickle=True))
        bundle = write_conversion(
            folder / "bundle", conversion, schema=conversion.schema, name=f"m{number}", version="1",
            ordinary_rows=1000,
        )  # fmt: skip
        has_classes = hasattr(model, "classes_")
        expected = model.predict_proba(frame)[:, 1] if has_classes else model.predict(frame)
    return Made(bundle, sent(frame), np.asarray(expected, dtype=np.float64), bound)


@pytest.mark.whole
def test_rows_as_trained_are_answered_over_http_as_the_library_answers_them(
    families: Mapping[str, Made], tmp_path: Path
) -> None:
    first, *others = (made.bundle.directory for made in families.values())
    more = [word for folder in others for word in ("--model", str(folder))]
    with serving(first, tmp_path, *more) as server:
        for name, (bundle, rows, expected, bound) in families.items():
            alone = exchange(server.url, *(_post(bundle, "", row) for row in rows[:ALONE]))
            (together,) = exchange(server.url, _post(bundle, "/batch", {"rows": rows}))
            assert {answer.status for answer in (*alone, together)} == {200}, (name, together.body[:300])
            predictions = [r.get("probability", r.get("prediction")) for r in map(_read, alone)]
            predictions += _read(together).get("probabilities") or _read(together)["predictions"]
            differences = np.abs(np.array(predictions) - np.r_[expected[:ALONE], expected])
            assert differences.max() <= bound * max(1.0, np.abs(expected).max()), name
            assert np.unique(expected).size > 10, name


@pytest.mark.parametrize("name", QUICK)
def test_rows_as_trained_are_answered_as_the_library_answers_them(name: str, tmp_path: Path) -> None:
    bundle, rows, expected, bound = made(name, tmp_path)
    predictor, decode = Predictor(bundle), row_decoder(bundle.schema, others=True)
    predictions = [predictor.predict(decode(orjson.dumps(row)))[0] for row in rows[:300]]
    assert np.abs(np.array(predictions) - expected[:300]).max() <= bound * max(1.0, np.abs(expected).max())


def _post(bundle: Bundle, more: str, body: Any) -> bytes:
    return post(f"/models/{bundle.name}/predict{more}", orjson.dumps(body))


def _read(answer: RawResponse) -> Any:
    return orjson.loads(answer.body)


def test_the_table_of_models_says_what_the_tests_hold() -> None:
    rows = [
        [name, "equal to the bit" if bound == 0 else f"within {bound:g}"]
        for name, (_, _, bound) in FAMILIES.items()
    ]
    header = ["fitted, saved with joblib or skops", "answers to rows as trained"]
    hold("Models of scikit-learn, with LightGBM and XGBoost inside", header, rows)
