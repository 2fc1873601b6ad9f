"""XGBoost models: float32 from the row to the answer."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import xgboost

from export.errors import ExportRefused
from export.forest.conversion import Conversion, class_names, threshold_feature, two_labels
from export.forest.extremes import EXTREMES_32
from export.forest.graph import build_graph
from export.forest.paths import linear_arrays, path_arrays
from export.forest.source import JsonRows, category_column, number_columns, number_matrix
from export.xgboost.json_model import XGBoostModel, parse_xgboost
from export.xgboost.linear import linear_graph
from server.errors import first_line
from server.model.link import Margins, float32
from server.model.schema import Feature, Inferred, Matrix, Schema

_TASKS = {
    "binary:logistic": ("binary", "logistic32"),
    "reg:logistic": ("regression", "logistic32"),
    "multi:softprob": ("multiclass", "softmax32"),
    "multi:softmax": ("multiclass", "softmax32"),
    **dict.fromkeys(
        ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"),
        ("regression", "exp32"),
    ),
    **dict.fromkeys(
        (
            "reg:squarederror",
            "reg:linear",
            "reg:squaredlogerror",
            "reg:pseudohubererror",
            "reg:absoluteerror",
            "reg:quantileerror",
            "binary:logitraw",
        ),
        ("regression", "identity"),
    ),
    **dict.fromkeys(("rank:pairwise", "rank:ndcg", "rank:map"), ("ranking", "identity")),
}

#: There XGBoost takes the exponentials of many rows at once, by another function than for one.
_AFT_BOUND = 2.0**-22
#: Where the parity report draws the features of a model without thresholds.
_LINEAR_KNOTS = (-10.0, -1.0, 0.0, 1.0, 10.0)


class XGBoostSource:
    """An XGBoost model loaded from its file, predicting with the rounds that count, one target of several."""

    def __init__(self, booster: xgboost.Booster, model: XGBoostModel, missing: float | None = None) -> None:
        self._booster = booster
        self._model = model
        self._missing = math.nan if missing is None else missing
        self._rounds = (0, 0) if model.weights is not None else (0, model.iterations)
        self._types = ["c" if i in model.coded else "q" for i in range(model.forest.width)]
        booster.set_param({"nthread": 1})

    def margins(self, rows: Matrix) -> Margins:
        """Raw scores, float64 [n] or [n, K] that hold float32, of rows float64 [n, F]."""
        return self._predict(self._matrix(rows), output_margin=True)

    def outputs(self, rows: Matrix) -> Margins:
        """Scores after the objective's link; of several classes their probabilities."""
        return self._predict(self._matrix(rows), output_margin=False)

    def table(self, rows: Matrix) -> Any:
        """Rows as float32, as a frame where XGBoost knows the names of columns, and asks for them."""
        names = self._booster.feature_names
        return _narrow(rows) if names is None else pd.DataFrame(_narrow(rows), columns=names)

    def predictions(self, rows: JsonRows, schema: Schema) -> Margins:
        """The prediction of a matrix of numbers, or of a frame where categories have names; see `Source`."""
        named = self._model.categories
        if not named:
            return self.outputs(number_matrix(rows, schema))
        columns: dict[str, Any] = number_columns(rows, schema)
        for i, values in named.items():
            columns[schema.names[i]] = category_column(rows, schema.names[i], values)
        for i in self._model.coded - named.keys():
            column = columns[schema.names[i]]
            columns[schema.names[i]] = pd.Categorical(column)
        frame = pd.DataFrame(columns)
        data = xgboost.DMatrix(frame, missing=self._missing, nthread=1, enable_categorical=True)
        return self._predict(data, output_margin=False)

    def _matrix(self, rows: Matrix) -> xgboost.DMatrix:
        types = self._types if self._model.coded else None
        return xgboost.DMatrix(
            _narrow(rows),
            missing=self._missing,
            nthread=1,
            feature_types=types,
            enable_categorical=types is not None,
        )

    def _predict(self, data: xgboost.DMatrix, *, output_margin: bool) -> Margins:
        scores = self._booster.predict(
            data, output_margin=output_margin, iteration_range=self._rounds, validate_features=False
        )
        found = np.asarray(scores, dtype=np.float64)
        return found if self._model.target is None else np.ascontiguousarray(found[:, self._model.target])


def _narrow(rows: Matrix) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return rows.astype(np.float32)


def load_booster(content: bytes) -> xgboost.Booster:
    """The booster of a `.json` or `.ubj` file's bytes; raises `ExportRefused` if XGBoost refuses it."""
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
    except (xgboost.core.XGBoostError, ValueError) as error:
        raise ExportRefused(
            f"expected a model XGBoost can load, got: {_reason(error)}; save it again with save_model"
        ) from None
    _check_whole(content, booster)
    return booster


#: A member of JSON, or of UBJSON, where its length stands before it (of a text behind S, of a count #).
_MEMBER = re.compile(rb'"([a-z_]{3,40})"\s{0,9}:|(?<![S#])L\0{7}([\x03-\x28])')
#: The version of the XGBoost that wrote a file, in either.
_VERSION = re.compile(
    rb'"version"\s{0,9}:\s{0,9}\[\s{0,40}(\d{1,3}),\s{0,40}(\d{1,3})|version\[#L\0{7}\x03i([\0-\x7f])i([\0-\x7f])'
)


def _newer_version(content: bytes) -> str | None:
    """The version of the XGBoost that wrote these bytes, if it is newer than the one here."""
    written = list(_VERSION.finditer(content))
    if not written:
        return None
    major, minor, *octets = written[-1].groups()
    version = (int(major), int(minor)) if major else tuple(octet[0] for octet in octets)
    here = tuple(map(int, xgboost.__version__.split(".")[:2]))
    return ".".join(map(str, version)) if version > here else None


def refuse_newer(content: bytes) -> None:
    """Raise `ExportRefused` for the state of a newer XGBoost's booster: parts would be left out."""
    if version := _newer_version(content):
        raise ExportRefused(
            f"expected a .skops or pickle of XGBoost {xgboost.__version__} or older, got one of {version}, "
            "of which parts would be left out here: give the Python it was trained with (--python "
            ".venv/bin/python), or save the booster there with save_model"
        )


def _check_whole(content: bytes, booster: xgboost.Booster) -> None:
    """Refuse a newer XGBoost's file of which this one leaves something out: it is another model to it."""
    version = _newer_version(content)
    form = "json" if _is_json(content) else "ubj"
    if version and (lost := _members(content) - _members(bytes(booster.save_raw(form)))):
        raise ExportRefused(
            f"expected an XGBoost that reads the whole file, got {xgboost.__version__}, which leaves "
            f"{', '.join(sorted(lost))} out of what {version} wrote, and predicts otherwise: export it where "
            "that version or a newer one is installed (3.3 and later need Python 3.12)"
        )


def _is_json(content: bytes) -> bool:
    return content.split(b"{", 1)[-1].lstrip()[:1] in (b'"', b"}")


def _members(content: bytes) -> set[str]:
    found = (m[1] or content[m.end() : m.end() + m[2][0]] for m in _MEMBER.finditer(content))
    return {name.decode("latin-1") for name in found if re.fullmatch(rb"[a-z_]+", name)}


def convert_xgboost(
    content: bytes,
    *,
    classes: Sequence[str] = (),
    labels: Sequence[str] = (),
    rounds: str = "best",
    missing: float | None = None,
    target: int | None = None,
) -> Conversion:
    """The conversion of an XGBoost file's bytes; raises `ExportRefused` for what is not proven equal.

    Of a booster that stopped early `rounds` are those up to the best one, or "all".
    `missing` is the value that the wrapper took for missing, beside NaN; `target` the one
    of several that is served.
    """
    is_json = _is_json(content)
    if is_json:
        model = parse_xgboost(content, rounds, target)  # before XGBoost's own parser sees a file that is none
        booster = load_booster(content)
    else:
        booster = load_booster(content)
        model = parse_xgboost(bytes(booster.save_raw("json")), rounds, target)
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
    return Conversion(
        family="xgboost",
        task=task,
        graph=lambda metadata: (
            build_graph(forest, metadata)
            if model.weights is None
            else linear_graph(model.weights, absent, metadata)
        ),
        link={"name": link},
        features=_features(model),
        categories={i: tuple(map(str, values)) for i, values in model.categories.items()},
        values=model.categories,
        source=XGBoostSource(booster, model, absent),
        file="model.json" if is_json else "model.ubj",
        content=content,
        classes=class_names(task, forest.targets, classes, labels),
        decisions=two_labels(task, labels),
        forest=forest if model.weights is None else None,
        contributions=lambda: (
            path_arrays(forest) if model.weights is None else linear_arrays(model.weights, absent)
        ),
        knots=(_LINEAR_KNOTS,) * forest.width,
        precision="float32",
        output_bound=_AFT_BOUND if model.objective == "survival:aft" else 0.0,
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
    if model.target is not None:
        record["output"] = str(model.target)
    if model.best_iteration is None:
        return record
    best = {"best_iteration": model.best_iteration, "rounds_trained": model.rounds_trained}
    return record | (best if rounds == "best" else {"rounds": "all"})


def _features(model: XGBoostModel) -> tuple[Feature, ...]:
    thresholds = model.forest.thresholds()
    return tuple(_feature(model, i, name, thresholds[i]) for i, name in enumerate(model.feature_names))


def _feature(model: XGBoostModel, i: int, name: str, thresholds: list[float]) -> Feature:
    if i in model.categories:
        texts = tuple(map(str, model.categories[i]))
        return Feature(name, "category", categories=texts, default=texts[0])
    if i in model.coded:
        return Feature(name, "integer", minimum=0.0, default=0.0)
    if i in model.flags:
        return Feature(name, inferred=Inferred("flag"))
    return threshold_feature(name, thresholds)


def _reason(error: Exception) -> str:
    """XGBoost's message without its source path and its stack trace."""
    line = first_line(error)
    return re.sub(r"^\[[\d:]+\] \S+ ", "", line)
