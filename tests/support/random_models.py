"""Models of every family with hyper-parameters, rows and targets drawn from a seed, as files people save."""

import pickle
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

Random = np.random.Generator
_ROWS = 300
NUMBERS = ("n0", "n1", "n2", "few")
_TEXTS = ["a", "b", "c", "Oslo", "x y", "é"]


def frame(random: Random, *, gaps: bool, texts: bool = True) -> pd.DataFrame:
    """Columns of numbers of any scale, of few values, and of categories; a part missing if `gaps`."""
    numbers = random.normal(size=(_ROWS, 3)) * 10.0 ** random.integers(-3, 5, 3)
    found = pd.DataFrame({f"n{i}": column for i, column in enumerate(numbers.T)})
    found["few"] = random.integers(0, 4, _ROWS).astype(float)
    if texts:
        found["word"] = random.choice(_TEXTS[: random.integers(2, len(_TEXTS) + 1)], _ROWS)
        found["code"] = random.choice([3, 7, 9, 40], _ROWS)
    if gaps:
        for name in ["n0", "few", *(["word"] if texts else [])]:
            found[name] = found[name].where(random.random(_ROWS) > random.choice([0.02, 0.3]))
    return found


def native(found: pd.DataFrame) -> pd.DataFrame:
    """The same with the categories as pandas' own type."""
    return found.assign(word=pd.Categorical(found.word), code=pd.Categorical(found.code))


def target(random: Random, rows: pd.DataFrame, kind: str) -> Any:
    """Outcomes that follow the columns, with noise: `binary`, `classes`, `count` or `value`."""
    word = (rows.word == "a") if "word" in rows else 0.0
    scaled = rows.n0.fillna(0.0) / (rows.n0.abs().max() or 1.0) + 0.3 * rows.few.fillna(0.0) + word
    noisy = scaled + random.normal(size=len(rows)) * 0.5
    if kind == "binary":
        return (noisy > np.median(noisy)).astype(int)
    if kind == "classes":
        return np.digitize(noisy, np.quantile(noisy, [0.3, 0.7]))
    values = np.exp(noisy.clip(-3, 3)) if kind == "count" else noisy
    return np.asarray(values * 10.0 ** random.integers(0, 5))


def drawn_lightgbm(random: Random) -> tuple[str, bytes]:
    """The text of a LightGBM model."""
    kind, objectives = _one(random, _LIGHTGBM)
    rows = frame(random, gaps=random.random() < 0.6)
    rows = native(rows) if random.random() < 0.5 else rows.drop(columns="word")
    boosting = str(random.choice(["gbdt", "gbdt", "dart", "rf", "goss"]))
    parameters: dict[str, Any] = {
        "objective": random.choice(objectives), "boosting": boosting, "verbosity": -1, "num_threads": 1,
        "num_leaves": int(random.integers(2, 40)), "learning_rate": float(random.choice([0.03, 0.3, 1.0])),
        "min_data_in_leaf": int(random.choice([1, 5, 20])), "max_bin": int(random.choice([15, 255])),
        "zero_as_missing": bool(random.random() < 0.1), "use_missing": bool(random.random() < 0.9),
        "seed": int(random.integers(1000)), "lambda_l2": float(random.choice([0.0, 1.0])),
        "extra_trees": bool(random.random() < 0.2), "max_cat_to_onehot": int(random.choice([1, 4])),
        "min_data_per_group": int(random.choice([1, 50])),
    }  # fmt: skip
    if boosting == "rf":
        parameters |= {"bagging_fraction": 0.6, "bagging_freq": 1}
    if kind == "classes":
        parameters["num_class"] = 3
    linear = random.random() < 0.2 and parameters["objective"] not in ("regression_l1", "quantile", "mape")
    parameters["linear_tree"] = linear and not parameters["zero_as_missing"]
    data = lightgbm.Dataset(rows, target(random, rows, kind), params={"verbosity": -1})
    booster = lightgbm.train(parameters, data, int(random.integers(1, 15)))
    return "m.txt", booster.model_to_string().encode()


def drawn_xgboost(random: Random) -> tuple[str, bytes]:
    """The JSON or UBJSON of an XGBoost model."""
    kind, objectives = _one(random, _XGBOOST)
    rows = frame(random, gaps=random.random() < 0.6)
    is_native = bool(random.random() < 0.5)
    rows = native(rows) if is_native else rows.drop(columns="word")
    booster = str(random.choice(["gbtree", "gbtree", "dart", *([] if is_native else ["gblinear"])]))
    parameters: dict[str, Any] = {
        "objective": random.choice(objectives), "booster": booster, "verbosity": 0, "nthread": 1,
        "learning_rate": float(random.choice([0.03, 0.3, 1.0])), "seed": int(random.integers(1000)),
    }  # fmt: skip
    if booster != "gblinear":
        parameters |= {
            "max_depth": int(random.integers(1, 7)), "subsample": float(random.choice([0.5, 1.0])),
            "tree_method": str(random.choice(["hist", "approx"])), "max_bin": int(random.choice([15, 256])),
            "num_parallel_tree": int(random.choice([1, 1, 2])),
            "max_cat_to_onehot": int(random.choice([1, 4])),
        }  # fmt: skip
    if kind == "classes":
        parameters["num_class"] = 3
    if kind == "binary" and random.random() < 0.3:
        parameters["base_score"] = float(random.choice([0.1, 0.5, 0.999]))
    data = xgboost.DMatrix(rows, target(random, rows, kind), enable_categorical=True)
    trained = xgboost.train(parameters, data, int(random.integers(1, 12)))
    form = str(random.choice(["json", "ubj"]))
    return f"m.{form}", bytes(trained.save_raw(form))


def drawn_catboost(random: Random) -> tuple[str, bytes]:
    """A CatBoost model of numbers, in its own format or in JSON."""
    import catboost  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional: `make catboost`

    kind, losses = _one(random, _CATBOOST)
    rows = frame(random, gaps=random.random() < 0.5, texts=False)
    parameters = {
        "iterations": int(random.integers(1, 12)), "depth": int(random.integers(1, 7)), "thread_count": 1,
        "loss_function": str(random.choice(losses)), "learning_rate": float(random.choice([0.03, 0.3, 1.0])),
        "grow_policy": str(random.choice(["SymmetricTree", "Depthwise", "Lossguide"])),
        "nan_mode": str(random.choice(["Min", "Max"])), "border_count": int(random.choice([8, 254])),
        "random_seed": int(random.integers(1000)), "verbose": 0, "allow_writing_files": False,
        "bootstrap_type": "No",  # others refuse to sample so few rows
    }  # fmt: skip
    model = catboost.CatBoost(parameters).fit(rows, target(random, rows, kind))
    form = str(random.choice(["cbm", "json"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"m.{form}"
        model.save_model(str(path), format=form)
        return path.name, path.read_bytes()


def drawn_sklearn(random: Random) -> tuple[str, bytes]:
    """A pickled tree ensemble of scikit-learn."""
    gaps = bool(random.random() < 0.4)
    state = int(random.integers(1000))
    trees = {"max_depth": int(random.integers(1, 9)), "random_state": state}
    count = int(random.integers(1, 10))
    maker = int(random.integers(5))
    kind = str(random.choice(["binary", "classes", "value", "count"]))
    is_class = kind in ("binary", "classes")
    if maker == 0:
        rows = frame(random, gaps=gaps)
        rows = native(rows) if random.random() < 0.6 else rows.drop(columns="word")
        more = {"max_iter": count, "random_state": state, "max_bins": int(random.choice([15, 255]))}
        losses = ["gamma", "poisson", "squared_error"] if kind == "count" else ["squared_error"]
        model = (
            HistGradientBoostingClassifier(**more)
            if is_class
            else HistGradientBoostingRegressor(loss=random.choice(losses), **more)
        )
    else:
        rows = frame(random, gaps=gaps and maker > 1, texts=False)
        pairs: list[tuple[Any, Any]] = [
            (GradientBoostingClassifier, GradientBoostingRegressor),
            (RandomForestClassifier, RandomForestRegressor),
            (ExtraTreesClassifier, ExtraTreesRegressor),
            (DecisionTreeClassifier, DecisionTreeRegressor),
        ]
        made = pairs[maker - 1][not is_class]
        model = made(**trees, **({} if maker == 4 else {"n_estimators": count}))
    return "m.joblib", _fitted(model, rows, target(random, rows, kind))


def drawn_pipeline(random: Random) -> tuple[str, bytes]:
    """A pickled booster behind a pipeline."""
    rows = frame(random, gaps=random.random() < 0.5)
    kind = str(random.choice(["binary", "classes"]))
    encoders: list[Callable[[], Any]] = [
        lambda: OneHotEncoder(handle_unknown="ignore"),
        lambda: OneHotEncoder(drop="first"),
        lambda: OneHotEncoder(min_frequency=40, handle_unknown="infrequent_if_exist"),
        OrdinalEncoder,
        lambda: TargetEncoder(random_state=0),
        lambda: make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
    ]
    scalers: list[Callable[[], Any]] = [
        lambda: "passthrough", StandardScaler, MinMaxScaler, SimpleImputer,
        lambda: make_pipeline(SimpleImputer(), FunctionTransformer(np.abs)),
        lambda: make_pipeline(SimpleImputer(), QuantileTransformer(n_quantiles=40)),
        lambda: make_pipeline(StandardScaler(), VarianceThreshold(random.choice([0.0, 0.9]))),
    ]  # fmt: skip
    prepare = ColumnTransformer(
        [
            ("n", _one(random, scalers)(), ["n0", "n1", "n2", "few"]),
            ("t", _one(random, encoders)(), ["word", "code"]),
        ]
    )
    # Behind it columns are selected, or not.
    select = _one(random, ["passthrough", VarianceThreshold(), VarianceThreshold(0.1)])
    model = Pipeline([("p", prepare), ("s", select), ("m", _booster(random))])
    return "m.joblib", _fitted(model, rows, target(random, rows, kind))


def drawn_calibration(random: Random) -> tuple[str, bytes]:
    """A pickled calibration of a booster."""
    rows = _wrapped_rows(random)
    method = str(random.choice(["sigmoid", "isotonic"]))
    model = CalibratedClassifierCV(_booster(random), method=method, cv=2)
    return "m.joblib", _fitted(model, rows, target(random, rows, "binary"))


def drawn_vote(random: Random) -> tuple[str, bytes]:
    """A pickled vote of two boosters."""
    rows = _wrapped_rows(random)
    model = VotingClassifier([(str(i), _booster(random)) for i in range(2)], voting="soft")
    return "m.joblib", _fitted(model, rows, target(random, rows, "binary"))


def _wrapped_rows(random: Random) -> pd.DataFrame:
    rows = native(frame(random, gaps=random.random() < 0.5))
    return rows if random.random() < 0.4 else rows.drop(columns=["word", "code"])


def _booster(random: Random) -> Any:
    rounds, leaves = int(random.integers(1, 10)), int(random.integers(2, 16))
    light = lightgbm.LGBMClassifier(n_estimators=rounds, num_leaves=leaves, verbose=-1, n_jobs=1)
    extreme = xgboost.XGBClassifier(n_estimators=rounds, max_leaves=leaves, n_jobs=1, enable_categorical=True)
    histogram = HistGradientBoostingClassifier(max_iter=rounds, max_leaf_nodes=leaves)
    return [light, extreme, histogram][random.integers(3)]


def _fitted(model: Any, rows: pd.DataFrame, outcome: Any) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pickle.dumps(model.fit(rows, outcome))


def _one(random: Random, choices: Any) -> Any:
    return choices[random.integers(len(choices))]


_LIGHTGBM = [
    ("binary", ["binary", "cross_entropy"]),
    ("classes", ["multiclass", "multiclassova"]),
    ("value", ["regression", "regression_l1", "huber", "quantile", "mape", "fair"]),
    ("count", ["poisson", "gamma", "tweedie"]),
]
_XGBOOST = [
    ("binary", ["binary:logistic", "reg:logistic", "binary:logitraw"]),
    ("classes", ["multi:softprob", "multi:softmax"]),
    ("value", ["reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror"]),
    ("count", ["count:poisson", "reg:gamma", "reg:tweedie", "survival:cox"]),
]
_CATBOOST = [
    ("binary", ["Logloss", "CrossEntropy"]),
    ("classes", ["MultiClass", "MultiClassOneVsAll"]),
    ("value", ["RMSE", "MAE", "Quantile"]),
]
#: By family how a model of it is drawn, and the largest difference of a margin (0: none).
DRAWN: dict[str, tuple[Callable[[Random], tuple[str, bytes]], float]] = {
    "lightgbm": (drawn_lightgbm, 0.0),
    "xgboost": (drawn_xgboost, 0.0),
    "scikit-learn": (drawn_sklearn, 0.0),
    "pipelines": (drawn_pipeline, 0.0),
    # An isotonic table of XGBoost's scores is of float32: its last bit (seed 2: 1.58e-8).
    "calibrations": (drawn_calibration, 1e-7),
    # A vote of XGBoost alone is averaged in float32: half of its last bit (2.98e-8).
    "votes": (drawn_vote, 1e-7),
}
if find_spec("catboost") is not None:
    DRAWN["catboost"] = (drawn_catboost, 0.0)
