"""Small forests of every family that is exported, trained on the same rows."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import xgboost
from sklearn import ensemble, tree

from export.assemble import write_conversion
from export.forest.conversion import Conversion
from export.lightgbm.model import convert_lightgbm
from export.sklearn.model import convert_sklearn
from export.xgboost.model import convert_xgboost
from server.model.bundle import Bundle
from server.model.schema import Matrix

FEATURES, TRAINING_ROWS, ROUNDS = 20, 4000, 50
#: Compared at the export of what is measured: its proof is elsewhere.
PARITY_ROWS = 1000
#: Columns of codes, for the families that split by categories.
CODES = [3, 4]


def families() -> Iterator[tuple[str, Callable[[], Conversion]]]:
    """Each family with what trains and converts its model."""
    random = np.random.default_rng(0)
    full = random.normal(size=(TRAINING_ROWS, FEATURES))
    full[:, CODES] = random.integers(0, 12, (TRAINING_ROWS, len(CODES)))
    value = full[:, 0] - full[:, 1] * full[:, 2] + (full[:, 3] % 3) + random.normal(size=TRAINING_ROWS)
    gaps = np.where(random.random(full.shape) < 0.1, np.nan, full)
    binary, classes = (value > 0).astype(float), np.digitize(value, [-1.0, 1.0]).astype(float)
    for objective, target in (("binary", binary), ("regression", value), ("poisson", np.abs(value).round())):
        yield f"LightGBM, {objective}", partial(_lightgbm, gaps, target, objective=objective)
        coded = partial(_lightgbm, gaps, target, CODES, objective=objective)
        yield f"LightGBM, {objective}, categories", coded
    several = partial(_lightgbm, gaps, classes, objective="multiclass", num_class=3)
    yield "LightGBM, 3 classes", several
    yield "LightGBM, dart", partial(_lightgbm, gaps, binary, objective="binary", boosting="dart")
    yield "XGBoost, binary:logistic", partial(_xgboost, gaps, binary, objective="binary:logistic")
    yield "XGBoost, reg:squarederror", partial(_xgboost, gaps, value, objective="reg:squarederror")
    yield "XGBoost, 3 classes", partial(_xgboost, gaps, classes, objective="multi:softprob", num_class=3)
    if find_spec("catboost") is not None:  # `make catboost` installs it
        for loss, target in (("Logloss", binary), ("RMSE", value), ("MultiClass", classes)):
            yield f"CatBoost, {loss}", partial(_catboost, gaps, target, loss)
    kinds = ("RandomForest", "ExtraTrees", "GradientBoosting", "HistGradientBoosting")
    for name in (f"{kind}{what}" for kind in kinds for what in ("Classifier", "Regressor")):
        rows = gaps if name.startswith("Hist") else full
        target = classes if name.endswith("Classifier") else value
        yield name, partial(_sklearn, getattr(ensemble, name)(random_state=0), rows, target)
    yield "DecisionTreeRegressor", partial(_sklearn, tree.DecisionTreeRegressor(random_state=0), full, value)


def bundle_of(conversion: Conversion, folder: Path) -> Bundle:
    """What is served of a conversion, in a new folder."""
    return write_conversion(
        folder,
        conversion,
        schema=conversion.schema,
        name="forest",
        version="1",
        ordinary_rows=PARITY_ROWS,
    )


def _lightgbm(rows: Matrix, target: Any, codes: Any = "auto", **parameters: Any) -> Conversion:
    data = lightgbm.Dataset(rows, target, categorical_feature=codes)
    booster = lightgbm.train({"verbosity": -1, "num_threads": 2, "seed": 1, **parameters}, data, ROUNDS)
    classes = ("low", "middle", "high") if "num_class" in parameters else ()
    return convert_lightgbm(booster.model_to_string(), classes=classes)


def _xgboost(rows: Matrix, target: Any, **parameters: Any) -> Conversion:
    booster = xgboost.train({"nthread": 2, "seed": 1, **parameters}, xgboost.DMatrix(rows, target), ROUNDS)
    classes = ("low", "middle", "high") if "num_class" in parameters else ()
    return convert_xgboost(bytes(booster.save_raw("json")), classes=classes)


def _catboost(rows: Matrix, target: Any, loss: str) -> Conversion:
    import catboost  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional: `make catboost`

    from export.catboost.model import convert_catboost

    model = catboost.CatBoost(
        {"iterations": ROUNDS, "loss_function": loss, "verbose": 0, "allow_writing_files": False}
    )
    model.fit(rows, target)
    with tempfile.TemporaryDirectory() as folder:
        model.save_model(str(Path(folder, "model.cbm")))
        return convert_catboost(Path(folder, "model.cbm").read_bytes(), is_json=False)


def _sklearn(estimator: Any, rows: Matrix, target: Any) -> Conversion:
    return convert_sklearn(estimator.fit(rows, target), "model.skops", b"an estimator")
