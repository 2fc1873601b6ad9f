"""XGBoost models: float32 from the row to the answer."""

import re
from typing import Any

import numpy as np
import xgboost

from export.conversion import Conversion, threshold_feature
from export.errors import ExportRefused
from export.graph import build_graph
from export.rows import EXTREMES_32
from export.source import JsonRows, number_matrix
from export.xgboost_json import XGBoostModel, parse_xgboost
from server.errors import first_line
from server.model.predictor import Margins
from server.model.schema import Feature, Matrix, Schema

_TASKS = {
    "binary:logistic": ("binary", "logistic32"),
    "reg:logistic": ("regression", "logistic32"),
    "multi:softprob": ("multiclass", "softmax32"),
    "multi:softmax": ("multiclass", "softmax32"),
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie"), ("regression", "exp32")),
    **dict.fromkeys(
        (
            "reg:squarederror",
            "reg:linear",
            "reg:squaredlogerror",
            "reg:pseudohubererror",
            "reg:absoluteerror",
            "reg:quantileerror",
        ),
        ("regression", "identity"),
    ),
    **dict.fromkeys(("rank:pairwise", "rank:ndcg", "rank:map"), ("ranking", "identity")),
}


class XGBoostSource:
    """An XGBoost model loaded from its file, predicting with the rounds that count."""

    def __init__(self, booster: xgboost.Booster, iterations: int) -> None:
        self._booster = booster
        self._rounds = (0, iterations)
        booster.set_param({"nthread": 1})

    def margins(self, rows: Matrix) -> Margins:
        """Raw scores, float64 [n] or [n, K] that hold float32, of rows float64 [n, F]."""
        return self._predict(rows, output_margin=True)

    def outputs(self, rows: Matrix) -> Margins:
        """Scores after the objective's link; of several classes their probabilities."""
        return self._predict(rows, output_margin=False)

    def answers(self, rows: JsonRows, schema: Schema) -> Margins:
        """The prediction of a matrix of numbers; see `Source`."""
        return self.outputs(number_matrix(rows, schema))

    def _predict(self, rows: Matrix, *, output_margin: bool) -> Margins:
        with np.errstate(over="ignore"):
            data = xgboost.DMatrix(rows.astype(np.float32), nthread=1)
        scores = self._booster.predict(
            data, output_margin=output_margin, iteration_range=self._rounds, validate_features=False
        )
        return np.asarray(scores, dtype=np.float64)


def load_booster(content: bytes) -> xgboost.Booster:
    """The booster of a `.json` or `.ubj` file's bytes; raises `ExportRefused` if XGBoost refuses it."""
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
    except (xgboost.core.XGBoostError, ValueError) as error:
        raise ExportRefused(f"expected a model XGBoost can load, got: {_reason(error)}") from None
    return booster


def convert_xgboost(content: bytes, file: str, *, classes: tuple[str, ...] = ()) -> Conversion:
    """The conversion of an XGBoost file's bytes; raises `ExportRefused` for what is not proven equal."""
    if content.lstrip()[:1] == b"{" and file.endswith(".json"):
        model = parse_xgboost(content)  # before XGBoost's own parser sees a file that is none
        booster = load_booster(content)
    else:
        booster = load_booster(content)
        model = parse_xgboost(bytes(booster.save_raw("json")))
    if model.objective not in _TASKS:
        raise ExportRefused(
            f"expected an objective whose output is known, got {model.objective}: "
            f"train with one of {', '.join(sorted(_TASKS))}"
        )
    task, link = _TASKS[model.objective]
    if task == "multiclass":
        booster.set_param({"objective": "multi:softprob"})  # multi:softmax would give the class alone
    names = classes or tuple(map(str, range(model.forest.targets)))
    if task == "multiclass" and len(names) != model.forest.targets:
        raise ExportRefused(f"expected names of {model.forest.targets} classes, got {len(names)}")
    return Conversion(
        family="xgboost",
        task=task,
        graph=lambda metadata: build_graph(model.forest, metadata),
        link={"name": link},
        features=_features(model),
        source=XGBoostSource(booster, model.iterations),
        file=file,
        content=content,
        classes=names if task == "multiclass" else (),
        forest=model.forest,
        precision="float32",
        extremes=EXTREMES_32,
        record=_record(model),
    )


def _record(model: XGBoostModel) -> dict[str, Any]:
    record = {
        "objective": model.objective,
        "booster": model.booster,
        "trees": len(model.forest.trees),
        "iterations": model.iterations,
    }
    return record if model.best_iteration is None else record | {"best_iteration": model.best_iteration}


def _features(model: XGBoostModel) -> tuple[Feature, ...]:
    pairs = zip(model.feature_names, model.forest.thresholds(), strict=True)
    return tuple(threshold_feature(name, thresholds) for name, thresholds in pairs)


def _reason(error: Exception) -> str:
    """XGBoost's message without its source path and its stack trace."""
    line = first_line(error)
    return re.sub(r"^\[[\d:]+\] \S+ ", "", line)
