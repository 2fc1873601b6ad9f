"""CatBoost models: trees over float32 rows, sums in float64."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import catboost  # type: ignore[import-not-found,unused-ignore]  # optional: 280 MB
import numpy as np
import onnx
from onnx import numpy_helper

from export.catboost.json_model import CatBoostModel, parse_catboost
from export.errors import ExportRefused
from export.forest.conversion import Conversion, threshold_feature, two_labels
from export.forest.extremes import EXTREMES_32
from export.forest.graph import build_graph
from export.forest.paths import path_arrays
from export.forest.source import JsonRows, number_matrix
from server.errors import first_line
from server.model.files import OUTPUT
from server.model.link import Margins
from server.model.schema import Feature, Matrix, Schema

_IDENTITY = ("RMSE", "MAE", "Quantile", "MAPE", "Huber", "Expectile", "Lq", "LogCosh")
_TASKS = {
    "Logloss": ("binary", "logistic"),
    "CrossEntropy": ("binary", "logistic"),
    "MultiClass": ("multiclass", "softmax"),
    "MultiClassOneVsAll": ("multiclass", "one_vs_all"),
    **dict.fromkeys(_IDENTITY, ("regression", "identity")),
}
#: After the sums CatBoost takes exponentials by functions of its own.
OUTPUT_BOUND = 1e-12


class CatBoostSource:
    """A CatBoost model, predicting on one thread."""

    def __init__(self, model: Any, task: str) -> None:
        self._model = model
        self._is_class = task != "regression"

    def margins(self, rows: Matrix) -> Margins:
        """Raw scores, float64 [n] or [n, K], of rows float64 [n, F]."""
        return self._predict(rows, "RawFormulaVal")

    def outputs(self, rows: Matrix) -> Margins:
        """Probabilities (of two classes the second's), or values."""
        found = self._predict(rows, "Probability" if self._is_class else "RawFormulaVal")
        return np.ascontiguousarray(found[:, 1]) if found.ndim > 1 and found.shape[1] == 2 else found

    def predictions(self, rows: JsonRows, schema: Schema) -> Margins:
        """The prediction of a matrix of numbers; see `Source`."""
        return self.outputs(number_matrix(rows, schema))

    def _predict(self, rows: Matrix, kind: str) -> Margins:
        with np.errstate(over="ignore"):
            narrow = rows.astype(np.float32)
        return np.asarray(self._model.predict(narrow, prediction_type=kind, thread_count=1), dtype=np.float64)


def convert_catboost(content: bytes, *, classes: Sequence[str] = (), is_json: bool) -> Conversion:
    """The conversion of a `.cbm` or `.json` file's bytes; raises `ExportRefused`."""
    name = "model.json" if is_json else "model.cbm"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        booster = catboost.CatBoost()
        try:
            booster.load_model(str(path), format="json" if is_json else "cbm")
            text = Path(folder) / "text.json"
            booster.save_model(str(text), format="json")
        except (catboost.CatBoostError, ValueError) as error:
            raise ExportRefused(f"expected a model CatBoost can load, got: {first_line(error)}") from None
        model = parse_catboost(text.read_bytes())
    if model.loss not in _TASKS:
        raise ExportRefused(
            f"expected a loss whose output is known, got {model.loss}: train with one of {', '.join(_TASKS)}"
        )
    task, link = _TASKS[model.loss]
    names = tuple(classes or model.classes) or tuple(map(str, range(model.forest.targets)))
    if task == "multiclass" and len(names) != model.forest.targets:
        raise ExportRefused(f"expected names of {model.forest.targets} classes, got {len(names)}")
    return Conversion(
        family="catboost",
        task=task,
        graph=lambda metadata: _graph(model, metadata),
        link={"name": link},
        features=_features(model),
        source=CatBoostSource(booster, task),
        file=name,
        content=content,
        classes=names if task == "multiclass" else (),
        decisions=two_labels(task, model.classes),
        forest=model.forest,
        contributions=lambda: path_arrays(model.forest, scale=model.scale, bias=model.bias),
        output_bound=OUTPUT_BOUND,
        extremes=EXTREMES_32,
        gaps=model.gaps,
        record={"loss": model.loss, "trees": len(model.forest.trees) // model.forest.targets},
    )


def _features(model: CatBoostModel) -> tuple[Feature, ...]:
    thresholds = model.forest.thresholds()
    return tuple(threshold_feature(name, thresholds[i]) for i, name in enumerate(model.feature_names))


def _graph(model: CatBoostModel, metadata: Mapping[str, str]) -> bytes:
    """The graph of the forest with scale and bias behind it."""
    graph = onnx.load_from_string(build_graph(model.forest, metadata))
    if model.scale == 1.0 and not any(model.bias):
        return bytes(graph.SerializeToString())
    graph.graph.node[-1].output[0] = "sums"
    constants = {"scale": np.array(model.scale), "bias": np.array(model.bias)}
    graph.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    graph.graph.node.extend(
        [
            onnx.helper.make_node("Mul", ["sums", "scale"], ["scaled"]),
            onnx.helper.make_node("Add", ["scaled", "bias"], [OUTPUT]),
        ]
    )
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString())
