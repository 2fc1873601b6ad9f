"""CatBoost models: trees over float32 rows, sums in float64."""

import ast
import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import catboost  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional: 280 MB
import numpy as np
import numpy.typing as npt
import onnx
import pandas as pd  # type: ignore[import-untyped]  # ships no types
from onnx import numpy_helper

from export.catboost.json_model import CatBoostModel, parse_catboost
from export.errors import ExportRefused
from export.forest.conversion import Conversion, class_names, threshold_feature, two_labels
from export.forest.decided import places
from export.forest.evidence import Evidence
from export.forest.extremes import EXTREMES_32
from export.forest.graph import build_graph
from export.forest.paths import path_arrays
from export.forest.source import JsonRows, number_matrix
from server.errors import first_line
from server.model.files import OUTPUT
from server.model.link import Margins
from server.model.schema import Feature, Matrix, Schema

_IDENTITY = ("RMSE", "MAE", "Quantile", "MAPE", "Huber", "Expectile", "Lq", "LogCosh")
#: Of these `CatBoostRegressor.predict` gives the exponential.
_EXPONENTIAL = ("Poisson", "Tweedie")
_RANKING = (
    "YetiRank", "YetiRankPairwise", "PairLogit", "PairLogitPairwise", "QueryRMSE", "QuerySoftMax",
    "LambdaMart", "StochasticRank",
)  # fmt: skip
_SEVERAL = ("MultiRMSE", "MultiRMSEWithMissingValues", "MultiQuantile", "MultiLogloss", "MultiCrossEntropy")
_TASKS = {
    "Logloss": ("binary", "logistic"),
    "CrossEntropy": ("binary", "logistic"),
    "Focal": ("binary", "logistic"),
    "MultiClass": ("multiclass", "softmax"),
    "MultiClassOneVsAll": ("multiclass", "one_vs_all"),
    **dict.fromkeys(_IDENTITY, ("regression", "identity")),
    **dict.fromkeys(_EXPONENTIAL, ("regression", "exp")),
    **dict.fromkeys(_RANKING, ("ranking", "identity")),
}
#: What `predict` is asked for to get the answer after a link.
_ANSWERS = {"exp": "Exponent", "identity": "RawFormulaVal"}
#: After the sums CatBoost takes exponentials by functions of its own.
OUTPUT_BOUND = 1e-12
#: A text that is no category of anybody's.
_UNKNOWN = "\N{NO-BREAK SPACE}unknown"
#: What CatBoost makes of a column of booleans, with its hashes.
_BOOLEANS = {"0": -1438285038, "1": 1121341681}


class CatBoostSource:
    """A CatBoost model, predicting on one thread; `texts` are the categories of columns that have some."""

    def __init__(self, model: Any, link: str, texts: Mapping[int, Sequence[str]]) -> None:
        self._model = model
        self._answer = _ANSWERS.get(link, "Probability")
        self._texts = texts

    def margins(self, rows: Matrix) -> Margins:
        """Raw scores, float64 [n] or [n, K], of rows float64 [n, F]."""
        return self._scores(self.table(rows), "RawFormulaVal")

    def outputs(self, rows: Matrix) -> Margins:
        """Probabilities (of two classes the second's), or values."""
        return self._outputs(self.table(rows))

    def predictions(self, rows: JsonRows, schema: Schema) -> Margins:
        """The prediction of a table of numbers and texts; see `ModelSource`."""
        table = self.table(number_matrix(rows, schema))
        for i in self._texts:
            cells = [row.get(schema.names[i]) for row in rows]
            table[i] = [_UNKNOWN if cell is None else str(cell) for cell in cells]
        return self._outputs(table)

    def decided(self, rows: Matrix) -> npt.NDArray[np.int64]:
        """The places [n] of the classes that CatBoost predicts of rows float64 [n, F]."""
        found = self._model.predict(self._data(self.table(rows)), prediction_type="Class", thread_count=1)
        return places(found, self._model.classes_)

    def _outputs(self, table: Any) -> Margins:
        found = self._scores(table, self._answer)
        return np.ascontiguousarray(found[:, 1]) if found.ndim > 1 and found.shape[1] == 2 else found

    def table(self, rows: Matrix) -> Any:
        """Rows as float32, or as a frame with the texts of the codes."""
        with np.errstate(over="ignore"):
            narrow = rows.astype(np.float32)
        if not self._texts:
            return narrow
        frame = pd.DataFrame(narrow)
        for i, texts in self._texts.items():
            frame[i] = [_UNKNOWN if code != code else texts[int(code)] for code in rows[:, i].tolist()]
        return frame

    def _scores(self, table: Any, kind: str) -> Margins:
        found = self._model.predict(self._data(table), prediction_type=kind, thread_count=1)
        return np.asarray(found, dtype=np.float64)

    def _data(self, table: Any) -> Any:
        if not self._texts:
            return table
        named = table.set_axis(self._model.feature_names_, axis=1)
        return catboost.Pool(named, cat_features=list(self._texts))


def convert_catboost(
    content: bytes,
    *,
    classes: Sequence[str] = (),
    is_json: bool,
    evidence: Evidence = Evidence(),  # noqa: B008  # frozen
) -> Conversion:
    """The conversion of a `.cbm` or `.json` file's bytes; raises `ExportRefused`.

    `evidence` tells the categories, of which the file holds hashes alone.
    """
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
            raise ExportRefused(
                f"expected a model CatBoost can load, got: {first_line(error)}; save it again with save_model"
            ) from None
        model = parse_catboost(text.read_bytes(), partial(_hashes, evidence))
    if model.loss in _SEVERAL:
        raise ExportRefused(f"expected one target, got several ({model.loss}): train a model for each")
    if model.loss not in _TASKS:
        raise ExportRefused(
            f"expected a loss whose output is known, got {model.loss}: train with one of {', '.join(_TASKS)}"
        )
    task, link = _TASKS[model.loss]
    source = CatBoostSource(booster, link, model.categories)
    has_classes = task in ("binary", "multiclass") and len(model.classes) > 1
    return Conversion(
        family="catboost",
        task=task,
        graph=lambda metadata: _graph(model, metadata),
        link={"name": link},
        features=_features(model),
        source=source,
        categories=model.categories,
        file=name,
        content=content,
        classes=class_names(task, model.forest.targets, classes, model.classes),
        decisions=two_labels(task, model.classes),
        threshold=math.nextafter(model.threshold, 1.0) if has_classes and task == "binary" else None,
        decided=source.decided if has_classes else None,
        forest=model.forest,
        contributions=lambda: path_arrays(model.forest, scale=model.scale, bias=model.bias),
        output_bound=OUTPUT_BOUND,
        extremes=EXTREMES_32,
        gaps=model.gaps,
        record={"loss": model.loss, "trees": len(model.forest.trees) // model.forest.targets},
    )


def _features(model: CatBoostModel) -> tuple[Feature, ...]:
    thresholds = model.forest.thresholds()
    return tuple(
        # A text that is no category equals none, as CatBoost has it; a missing one it refuses.
        Feature(
            name, "category", categories=model.categories[i], default=model.categories[i][0],
            nullable=False, unknown="missing",
        )
        if i in model.categories
        else threshold_feature(name, thresholds[i])
        for i, name in enumerate(model.feature_names)
    )  # fmt: skip


def _hashes(evidence: Evidence, name: str, wanted: Sequence[int]) -> dict[str, int]:
    """The hashes of a column's categories, of which the model splits by those `wanted`."""
    texts = list(evidence.categories.get(name) or sorted(evidence.values(name) or ()))
    if not texts:
        raise ExportRefused(
            f"expected the categories of {name}, of which a CatBoost model holds hashes alone: give --data "
            "with the table it was trained on, or name them with --describe"
        )
    if {text.lower() for text in texts} <= {"true", "false"} and set(wanted) <= {*_BOOLEANS.values()}:
        return _BOOLEANS
    return hashes_of(texts)


def hashes_of(texts: Sequence[str]) -> dict[str, int]:
    """CatBoost's own hash of each text, which a tiny model of these tells."""
    labels = [0.0] * len(texts) + [1.0]
    rows = catboost.Pool([[text] for text in [*texts, _UNKNOWN]], labels, cat_features=[0])
    parameters = {"iterations": 1, "one_hot_max_size": 255, "verbose": 0, "allow_writing_files": False}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hashes.py"
        tiny = catboost.CatBoost({**parameters, "thread_count": 1}).fit(rows)
        tiny.save_model(str(path), format="python", pool=rows)
        _, _, code = path.read_text().partition("\ncat_features_hashes = {")
    found: dict[str, int] = ast.literal_eval("{" + code.partition("\n}")[0] + "\n}")
    return {text: found[text] for text in texts}


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
