"""XGBoost models: float32 from the row to the answer."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xgboost

from export.errors import ExportRefused
from export.forest.conversion import Conversion, threshold_feature, two_labels
from export.forest.extremes import EXTREMES_32
from export.forest.graph import build_graph
from export.forest.source import JsonRows, number_matrix
from export.xgboost.json_model import XGBoostModel, parse_xgboost
from server.errors import first_line
from server.model.link import Margins, float32
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

    def __init__(self, booster: xgboost.Booster, iterations: int, missing: float | None = None) -> None:
        self._booster = booster
        self._missing = math.nan if missing is None else missing
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
            data = xgboost.DMatrix(rows.astype(np.float32), missing=self._missing, nthread=1)
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


def convert_xgboost(
    content: bytes,
    *,
    classes: Sequence[str] = (),
    labels: Sequence[str] = (),
    rounds: str = "best",
    missing: float | None = None,
) -> Conversion:
    """The conversion of an XGBoost file's bytes; raises `ExportRefused` for what is not proven equal.

    Of a booster that stopped early `rounds` are those up to the best one, or "all".
    `missing` is the value that the wrapper took for missing, beside NaN.
    """
    is_json = content.split(b"{", 1)[-1].lstrip()[:1] in (b'"', b"}")
    if is_json:
        model = parse_xgboost(content, rounds)  # before XGBoost's own parser sees a file that is none
        booster = load_booster(content)
    else:
        booster = load_booster(content)
        model = parse_xgboost(bytes(booster.save_raw("json")), rounds)
    absent = None if missing is None or math.isnan(missing) else float32(float(missing))
    forest = replace(model.forest, absent=absent)
    if model.objective not in _TASKS:
        raise ExportRefused(
            f"expected an objective whose output is known, got {model.objective}: "
            f"train with one of {', '.join(sorted(_TASKS))}"
        )
    task, link = _TASKS[model.objective]
    if task == "multiclass":
        booster.set_param({"objective": "multi:softprob"})  # multi:softmax would give the class alone
    names = tuple(classes or labels) or tuple(map(str, range(forest.targets)))
    if task == "multiclass" and len(names) != forest.targets:
        raise ExportRefused(f"expected names of {forest.targets} classes, got {len(names)}")
    return Conversion(
        family="xgboost",
        task=task,
        graph=lambda metadata: build_graph(forest, metadata),
        link={"name": link},
        features=_features(model),
        source=XGBoostSource(booster, model.iterations, absent),
        file="model.json" if is_json else "model.ubj",
        content=content,
        classes=names if task == "multiclass" else (),
        decisions=two_labels(task, labels),
        forest=forest,
        precision="float32",
        extremes=EXTREMES_32 if absent is None else (*EXTREMES_32, absent),
        record=_record(model, rounds) | ({} if absent is None else {"missing": absent}),
    )


def _record(model: XGBoostModel, rounds: str) -> dict[str, Any]:
    record = {
        "objective": model.objective,
        "booster": model.booster,
        "trees": len(model.forest.trees),
        "iterations": model.iterations,
    }
    if model.best_iteration is None:
        return record
    best = {"best_iteration": model.best_iteration, "rounds_trained": model.rounds_trained}
    return record | (best if rounds == "best" else {"rounds": "all"})


def _features(model: XGBoostModel) -> tuple[Feature, ...]:
    pairs = zip(model.feature_names, model.forest.thresholds(), strict=True)
    return tuple(threshold_feature(name, thresholds) for name, thresholds in pairs)


def _reason(error: Exception) -> str:
    """XGBoost's message without its source path and its stack trace."""
    line = first_line(error)
    return re.sub(r"^\[[\d:]+\] \S+ ", "", line)
