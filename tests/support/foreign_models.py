"""Small models as other people train and save them, with rows of training and the library's own answers."""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]  # ships no types
import lightgbm
import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import xgboost
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier, XGBRanker, XGBRegressor, XGBRFClassifier

#: Rows that are sent of each model; `HTTP_ROWS=1000` sends as many (CONTRIBUTING.md).
ASKED = int(os.environ.get("HTTP_ROWS", "25"))
ROWS = max(300, ASKED)
R = np.random.default_rng(3)
NUMBERS, TEXTS = ["income", "age", "rate"], ["city", "job"]
#: What a table of a bank may look like; `note` is a column that models drop.
TABLE = pd.DataFrame(
    {
        "income": R.lognormal(10, 0.5, ROWS).round(2),
        "age": R.integers(18, 80, ROWS),
        "rate": R.random(ROWS),
        "city": R.choice(["Lyon", "Oslo", "Kyiv", "Rome"], ROWS),
        "job": R.choice(["a", "b", "c"], ROWS),
        "member": R.random(ROWS) < 0.5,
        "note": [f"client {i}" for i in range(ROWS)],
    }
)
GAPS = TABLE.assign(
    income=TABLE.income.where(R.random(ROWS) > 0.1), city=TABLE.city.where(R.random(ROWS) > 0.1, np.nan)
)
FRAME = TABLE.drop(columns="note").astype({"city": "category", "job": "category"})
NOISY = np.log(TABLE.income) + (TABLE.city == "Oslo") + TABLE.age / 40 + TABLE.member + R.normal(size=ROWS)
BAD, AMOUNT = (NOISY.median() < NOISY).astype(int), np.exp(NOISY / 4)
BAND = pd.cut(NOISY, 3, labels=["low", "middle", "high"]).astype(str)
MATRIX = TABLE[NUMBERS].to_numpy()
SPARSE = np.where(R.random(MATRIX.shape) < 0.1, np.nan, MATRIX)


@dataclass(frozen=True)
class Trained:
    """A saved model: its file, rows as trained, the library's outputs and outcomes, options of the export."""

    path: Path
    rows: pd.DataFrame
    outputs: Any
    outcomes: Sequence[str] | None = None
    options: tuple[str, ...] = ()


Make = Callable[[Path], Trained]


def light(**more: Any) -> Any:
    return LGBMClassifier(**{"n_estimators": 6, "num_leaves": 6, "verbose": -1, "n_jobs": 1, **more})


def extreme(**more: Any) -> Any:
    return XGBClassifier(**{"n_estimators": 6, "max_depth": 3, "n_jobs": 1, **more})


def behind(model: Any, encoder: Any = None, numbers: Any = "passthrough") -> Pipeline:
    """A pipeline as most have it, which drops `member` and `note`."""
    encoder = encoder or OneHotEncoder(handle_unknown="ignore")
    return Pipeline(
        [("columns", ColumnTransformer([("n", numbers, NUMBERS), ("t", encoder, TEXTS)])), ("model", model)]
    )


def fitted(
    make: Callable[[], Any], rows: Any, target: Any, save: str = "m.joblib", *, data: bool = True, **fit: Any
) -> Make:
    """An estimator fitted with scikit-learn's interface, as joblib or skops save it."""

    def trained(folder: Path) -> Trained:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make().fit(rows, target, **fit)
            outputs = (model.predict_proba if hasattr(model, "classes_") else model.predict)(rows)
            outcomes = [*map(str, model.predict(rows))] if hasattr(model, "classes_") else None
        (import_module("skops.io") if save.endswith("skops") else joblib).dump(model, folder / save)
        named = hasattr(rows, "columns")
        names = rows.columns if named else [_position(model).format(i) for i in range(rows.shape[1])]
        outputs = outputs[:, 1] if outputs.ndim == 2 and outputs.shape[1] == 2 else outputs
        options = ["--trust-pickle"] if save.endswith("joblib") else []
        if named and data:  # what the frame held is in no pickle
            rows.to_csv(folder / "t.csv", index=False)
            options += ["--data", str(folder / "t.csv")]
        return Trained(folder / save, pd.DataFrame(rows, columns=names), outputs, outcomes, tuple(options))

    return trained


def _position(model: Any) -> str:
    return "Column_{}" if type(model).__module__.startswith("lightgbm") else "f{}"


def boosted(parameters: dict[str, Any], rows: Any, target: Any, save: str = "m.txt", **data: Any) -> Make:
    """A LightGBM booster of the native interface, as `save_model` writes it."""

    def trained(folder: Path) -> Trained:
        fixed = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, "num_leaves": 6}
        booster = lightgbm.train(fixed | parameters, lightgbm.Dataset(rows, target, **data), 6)
        (folder / save).parent.mkdir(exist_ok=True)
        booster.save_model(folder / save)
        options: tuple[str, ...] = ()
        if hasattr(rows, "columns"):
            rows.to_csv(folder / "t.csv", index=False)
            options = ("--data", str(folder / "t.csv"))
        names = rows.columns if options else [f"Column_{i}" for i in range(rows.shape[1])]
        return Trained(folder / save, pd.DataFrame(rows, columns=names), booster.predict(rows), None, options)

    return trained


def crossed(parameters: dict[str, Any], rows: Any, target: Any, save: str = "m.json", **data: Any) -> Make:
    """An XGBoost booster of the native interface."""

    def trained(folder: Path) -> Trained:
        fixed = {"nthread": 1, "verbosity": 0, "max_depth": 3}
        booster = xgboost.train(fixed | parameters, xgboost.DMatrix(rows, target, **data), 6)
        booster.save_model(folder / save)
        names = rows.columns if hasattr(rows, "columns") else [f"f{i}" for i in range(rows.shape[1])]
        return Trained(
            folder / save, pd.DataFrame(rows, columns=names), booster.predict(xgboost.DMatrix(rows))
        )

    return trained


def mlflow_folder(folder: Path) -> Trained:
    """A LightGBM model in the folder that MLflow writes."""
    made = boosted({"objective": "binary"}, SPARSE, BAD, "mlflow/model.lgb")(folder)
    (folder / "mlflow" / "MLmodel").write_text("flavors:\n  lightgbm:\n    data: model.lgb\n")
    return Trained(folder / "mlflow", made.rows, made.outputs)


def windows_text(folder: Path) -> Trained:
    """A LightGBM text with the line ends of Windows."""
    made = boosted({"objective": "quantile", "alpha": 0.9}, SPARSE, AMOUNT)(folder)
    made.path.write_bytes(made.path.read_bytes().replace(b"\n", b"\r\n"))
    return made


def onnx_of_skl2onnx(folder: Path) -> Trained:
    """A classifier of two texts as `skl2onnx.to_onnx` writes it, labels, ZipMap and float32 included."""
    import onnxruntime
    from skl2onnx import to_onnx

    rows = TABLE[NUMBERS].astype(np.float32)
    model = LogisticRegression().fit((rows / 100).to_numpy(), np.where(BAD, "default", "paid"))
    (folder / "m.onnx").write_bytes(to_onnx(model, rows.to_numpy()[:1]).SerializeToString())
    (folder / "names.json").write_text(json.dumps(NUMBERS))
    session = onnxruntime.InferenceSession(folder / "m.onnx", providers=["CPUExecutionProvider"])
    labels, zipped = session.run(None, {session.get_inputs()[0].name: rows.to_numpy()})
    outputs = np.array([found["paid"] for found in zipped])
    options = ("--schema", str(folder / "names.json"))
    return Trained(folder / "m.onnx", rows.astype(np.float64), outputs, labels.tolist(), options)


#: By what people call it: the model, and how far a response may be from the library's (0: the same bits).
MODELS: dict[str, tuple[Make, float]] = {
    "LightGBM text of a pandas frame with categories": (boosted({"objective": "binary"}, FRAME, BAD), 0),
    "LightGBM text, categories in an order of their own, one ordered": (
        boosted({"objective": "binary"}, FRAME.assign(
            city=pd.Categorical(TABLE.city, ["Rome", "Oslo", "never", "Lyon", "Kyiv"]),
            job=pd.Categorical(TABLE.job, ["c", "b", "a"], ordered=True),
        ), BAD), 0,
    ),
    "LightGBM text, gaps, booleans and nullable types of pandas": (
        boosted({"objective": "binary"},
                GAPS[["income", "member"]].assign(age=TABLE.age.astype("Int64")), BAD), 0,
    ),
    "LightGBM text, three classes, dart": (
        boosted({"objective": "multiclass", "num_class": 3, "boosting": "dart"},
                SPARSE, BAND.factorize()[0]), 0,
    ),
    "LightGBM text, Poisson, random forest": (
        boosted({"objective": "poisson", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7},
                SPARSE, AMOUNT), 0,
    ),
    "LightGBM text, zero_as_missing, GOSS": (
        boosted({"objective": "cross_entropy", "zero_as_missing": True, "data_sample_strategy": "goss"},
                np.where(np.isnan(SPARSE), 0, SPARSE), BAD / 2 + 0.2), 0,
    ),
    "LightGBM text with CRLF, quantile": (windows_text, 0),
    "LightGBM in a folder of MLflow": (mlflow_folder, 0),
    "LGBMClassifier of two texts, joblib": (fitted(light, FRAME, np.where(BAD, "bad", "good")), 0),
    "LGBMClassifier of three texts, joblib": (fitted(light, FRAME, BAND), 0),
    "LGBMClassifier of labels 5 and 9, joblib": (fitted(light, TABLE[NUMBERS], np.where(BAD, 9, 5)), 0),
    "LGBMRegressor that stopped early, joblib": (
        fitted(lambda: LGBMRegressor(n_estimators=90, verbose=-1, n_jobs=1, early_stopping_round=2), MATRIX,
               AMOUNT, eval_set=[(MATRIX[:90], AMOUNT[:90][::-1])]), 0,
    ),
    "LGBMRanker, joblib": (
        fitted(lambda: LGBMRanker(n_estimators=6, verbose=-1, n_jobs=1), MATRIX, BAD,
               group=[ROWS // 10] * 10), 0,
    ),
    "XGBoost JSON, names of columns": (crossed({"objective": "binary:logistic"}, TABLE[NUMBERS], BAD), 0),
    "XGBClassifier of a frame with booleans and categories, joblib": (
        fitted(lambda: extreme(enable_categorical=True), FRAME, BAD, data=False), 0,
    ),
    "XGBoost UBJSON, gaps, three classes": (
        crossed({"objective": "multi:softprob", "num_class": 3}, SPARSE, BAND.factorize()[0], "m.ubj"), 0,
    ),
    "XGBoost JSON, dart, Tweedie": (
        crossed({"objective": "reg:tweedie", "booster": "dart", "rate_drop": 0.2}, SPARSE, AMOUNT), 0,
    ),
    "XGBClassifier(missing=-999), joblib": (
        fitted(lambda: extreme(missing=-999), np.where(np.isnan(SPARSE), -999, SPARSE), BAD), 0,
    ),
    "XGBRFClassifier, joblib": (fitted(lambda: XGBRFClassifier(6, n_jobs=1), MATRIX, BAD), 0),
    "XGBClassifier that stopped early, joblib": (
        fitted(lambda: extreme(n_estimators=90, early_stopping_rounds=2), MATRIX, BAD,
               eval_set=[(MATRIX[:90], 1 - BAD[:90])], verbose=False), 0,
    ),
    "XGBRanker, joblib": (
        fitted(lambda: XGBRanker(n_estimators=6, n_jobs=1), MATRIX, BAD,
               qid=np.repeat(range(10), ROWS // 10)), 0,
    ),
    "RandomForestClassifier of three texts, skops": (
        fitted(lambda: RandomForestClassifier(6, max_depth=5), TABLE[NUMBERS], BAND, "m.skops"), 0,
    ),
    "RandomForestClassifier of booleans, gaps, joblib": (
        fitted(lambda: RandomForestClassifier(6, max_depth=5), SPARSE, BAD == 1), 0,
    ),
    "ExtraTreesRegressor, joblib": (fitted(lambda: ExtraTreesRegressor(6, max_depth=5), MATRIX, AMOUNT), 0),
    "HistGradientBoostingClassifier, gaps, skops": (
        fitted(lambda: HistGradientBoostingClassifier(max_iter=6), SPARSE, BAND, "m.skops"), 1e-12,
    ),
    "GradientBoostingClassifier, joblib": (
        fitted(lambda: GradientBoostingClassifier(n_estimators=6), MATRIX, BAD), 1e-12,
    ),
    "LogisticRegression of three texts behind a scaler, joblib": (
        fitted(lambda: make_pipeline(StandardScaler(), LogisticRegression()), MATRIX, BAND), 1e-12,
    ),
    "PoissonRegressor, skops": (
        fitted(lambda: make_pipeline(StandardScaler(), PoissonRegressor()), MATRIX, AMOUNT, "m.skops"), 1e-12,
    ),
    "MLPClassifier, joblib": (
        fitted(lambda: make_pipeline(StandardScaler(), MLPClassifier([4], max_iter=9)), MATRIX, BAD), 1e-12,
    ),
    "Pipeline that drops two columns, LightGBM": (fitted(lambda: behind(light()), TABLE, BAD), 0),
    "Pipeline that drops two columns, LogisticRegression, skops": (
        fitted(lambda: behind(LogisticRegression(), numbers=StandardScaler()), TABLE, BAD, "m.skops"), 1e-12,
    ),
    "Pipeline of imputers with an indicator, XGBoost": (
        fitted(lambda: behind(
            extreme(), make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
            SimpleImputer(add_indicator=True),
        ), GAPS, BAD), 0,
    ),
    "Pipeline of pipelines and of steps that pass on, LightGBM": (
        fitted(lambda: Pipeline([("none", "passthrough"), ("inside", behind(light(), OrdinalEncoder()))]),
               TABLE, BAD), 0,
    ),
    "Pipeline that passes booleans on, RandomForest": (
        fitted(lambda: Pipeline([
            ("c", ColumnTransformer([("t", TargetEncoder(random_state=0), TEXTS)], remainder="passthrough")),
            ("m", RandomForestClassifier(6, max_depth=5)),
        ]), TABLE.drop(columns="note"), BAD), 0,
    ),
    "GridSearchCV of a Pipeline, LightGBM": (
        fitted(lambda: GridSearchCV(behind(light()), {"model__num_leaves": [4, 6]}, cv=2), TABLE, BAD), 0,
    ),
    "TunedThresholdClassifierCV of a Pipeline, LightGBM": (
        fitted(lambda: TunedThresholdClassifierCV(behind(light()), cv=2, thresholds=9),
               TABLE, np.where(BAD, "yes", "no")), 0,
    ),
    "FixedThresholdClassifier of XGBoost": (
        fitted(lambda: FixedThresholdClassifier(extreme(), threshold=0.2), MATRIX, BAD), 0,
    ),
    "CalibratedClassifierCV of a frozen RandomForest": (
        fitted(lambda: CalibratedClassifierCV(
            FrozenEstimator(RandomForestClassifier(6, max_depth=4).fit(MATRIX, BAD))
        ), MATRIX, BAD), 1e-12,
    ),
    "VotingClassifier of a search and a regression": (
        fitted(lambda: VotingClassifier(
            [("a", GridSearchCV(light(), {"num_leaves": [4, 6]}, cv=2)),
             ("b", make_pipeline(StandardScaler(), LogisticRegression()))], voting="soft",
        ), MATRIX, BAD), 1e-12,
    ),
    "BaggingClassifier of trees": (
        fitted(lambda: BaggingClassifier(DecisionTreeClassifier(max_depth=4), 4), MATRIX, BAD), 1e-12,
    ),
    "StackingRegressor of LightGBM and Ridge": (
        fitted(lambda: StackingRegressor(
            [("a", LGBMRegressor(n_estimators=6, verbose=-1, n_jobs=1)), ("b", Ridge())], cv=2
        ), MATRIX, AMOUNT), 1e-9,
    ),
    "TransformedTargetRegressor (log1p) of a Pipeline, LightGBM": (
        fitted(lambda: TransformedTargetRegressor(
            behind(LGBMRegressor(n_estimators=6, verbose=-1, n_jobs=1)), func=np.log1p, inverse_func=np.expm1
        ), TABLE, AMOUNT), 1e-12,
    ),
    "TransformedTargetRegressor (scaled) of XGBoost": (
        fitted(lambda: TransformedTargetRegressor(
            XGBRegressor(n_estimators=6, n_jobs=1), transformer=StandardScaler()
        ), MATRIX, AMOUNT), 1e-6,
    ),
    "LogisticRegression as ONNX of skl2onnx, with labels and ZipMap": (onnx_of_skl2onnx, 0),
}  # fmt: skip
