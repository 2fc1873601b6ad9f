"""scikit-learn estimators that are no plain tree ensemble: skl2onnx, with its bound measured.

Text columns of a ColumnTransformer become categories of the schema: the graph
takes their codes and looks the text up, so a client's row is one matrix.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import polars
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

from export.conversion import Conversion
from export.errors import ExportRefused
from export.onnx_lean import Entry, Score, lean_graph, matrix_entry, source_name
from export.onnx_source import open_session
from export.rows import EXTREMES_32
from export.sklearn_imputer import register_imputer
from export.sklearn_trees import Ensemble, raw_scores, read_ensemble
from export.source import JsonRows, number_columns, number_matrix
from server.errors import first_line
from server.model.predictor import INPUT, Margins
from server.model.schema import Feature, Matrix, Schema

#: What a missing text becomes; no encoder knows it.
_NO_TEXT = "\x00missing"
#: Largest accepted difference, of scores up to 1; larger ones scale it.
BOUND = 1e-5
_MATRIX = "X"
_OPSETS = {"": 18, "ai.onnx.ml": 3}
_ELEMENTS = ((DoubleTensorType, TensorProto.DOUBLE), (FloatTensorType, TensorProto.FLOAT))


class PipelineSource:
    """A fitted estimator, fed a matrix, or a table of named columns where it was fitted on one.

    Of a pipeline that ends in a tree ensemble the margins are the sums of its leaves.
    """

    def __init__(self, estimator: Any, features: tuple[Feature, ...], *, ends_in_trees: bool) -> None:
        self._estimator = estimator
        self._features = features
        self._ends_in_trees = ends_in_trees
        self._named = hasattr(estimator, "feature_names_in_")

    def margins(self, rows: Matrix) -> Margins:
        """Probabilities, values or sums of leaves, float64 [n] or [n, K], of rows float64 [n, F]."""
        if not self._ends_in_trees:
            return self.outputs(rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "X does not have valid feature names": ours are positions
            prepared = self._estimator[:-1].transform(self._input(rows))
        dense = prepared.toarray() if hasattr(prepared, "toarray") else np.asarray(prepared)
        return raw_scores(self._estimator[-1], dense)

    def outputs(self, rows: Matrix) -> Margins:
        """`predict_proba` (of two classes the second), or `predict`."""
        return predicted(self._estimator, self._input(rows))

    def answers(self, rows: JsonRows, schema: Schema) -> Margins:
        """The prediction of a table as in training: texts in columns of texts; see `Source`."""
        if not self._named:
            return predicted(self._estimator, number_matrix(rows, schema))
        columns: dict[str, Any] = number_columns(rows, schema)
        for feature in self._features:
            if feature.kind == "category":
                columns[feature.name] = [row.get(feature.name) for row in rows]
        return predicted(self._estimator, pd.DataFrame(columns))

    def _input(self, rows: Matrix) -> Any:
        if not self._named:
            return rows
        columns = zip(self._features, rows.T, strict=True)
        return polars.DataFrame({f.name: self._column(f, values) for f, values in columns})

    def _column(self, feature: Feature, codes: Matrix) -> Any:
        if feature.kind != "category":
            return codes
        texts = [*feature.categories, _NO_TEXT]
        known = (codes >= 0) & (codes < len(feature.categories))
        return [texts[int(code)] for code in np.where(known, codes, len(feature.categories))]


def predicted(estimator: Any, rows: Any) -> Margins:
    """Probabilities or values of any scikit-learn estimator, float64 [n] or [n, K]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        if not hasattr(estimator, "classes_"):
            values = np.asarray(estimator.predict(rows), dtype=np.float64)
            return values[:, 0] if values.ndim > 1 and values.shape[1] == 1 else values
        probabilities = np.asarray(estimator.predict_proba(rows), dtype=np.float64)
    return np.ascontiguousarray(probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities)


def convert_pipeline(estimator: Any, file: str, content: bytes, classes: tuple[str, ...]) -> Conversion:
    """The conversion of any estimator skl2onnx knows; raises `ExportRefused` for others.

    The trees at the end of a pipeline are ours: skl2onnx converts what is before them.
    """
    ensemble = read_ensemble(estimator.steps[-1][1]) if hasattr(estimator, "steps") else None
    features, takes_missing = _features(estimator)
    source = PipelineSource(estimator, features, ends_in_trees=ensemble is not None)
    _check_target(source, len(features), classes)
    head = estimator if ensemble is None else estimator[:-1]
    model, entry = _converted(head, features)
    score = _score(model, classes, ensemble)
    return Conversion(
        family="scikit-learn",
        task="multiclass" if len(classes) > 2 else "binary" if classes else "regression",
        graph=lambda metadata: lean_graph(model, len(features), entry, score, metadata),
        link=ensemble.link if ensemble else {"name": "identity"},
        features=features,
        source=source,
        file=file,
        content=content,
        classes=classes if len(classes) > 2 else (),
        knots=tuple(() for _ in features),
        precision="float32" if score.element == TensorProto.FLOAT else "float64",
        bound=BOUND,
        output_bound=BOUND,
        takes_missing=takes_missing,
        extremes=tuple(value for value in EXTREMES_32 if abs(value) < _LARGEST),
        decisions=(classes[0], classes[1]) if len(classes) == 2 else None,
        record={"estimator": _estimator_words(estimator), "converter": "skl2onnx"},
    )


def _check_target(source: PipelineSource, width: int, classes: tuple[str, ...]) -> None:
    outputs = source.outputs(np.zeros((1, width)))
    if outputs.ndim > 1 and not classes:
        raise ExportRefused(f"expected one target, got {outputs.shape[1]}: train a model for each")


#: Beyond, sums of products overflow differently in float32 and float64.
_LARGEST = 1e15


def _converted(estimator: Any, features: tuple[Feature, ...]) -> tuple[onnx.ModelProto, Entry]:
    """skl2onnx's graph in float64 if ONNX Runtime has its operators, else in float32."""
    refusal = ""
    register_imputer()
    for tensor_type, element in _ELEMENTS:
        entry, types = _entry(features, tensor_type, element, named=_wants_names(estimator))
        try:
            model = to_onnx(estimator, initial_types=types, options=_options(estimator), target_opset=_OPSETS)
            open_session(model.SerializeToString())
        except Exception as error:  # noqa: BLE001  # each of its converters raises its own kind
            refusal = first_line(error)
            continue
        return model, entry
    raise ExportRefused(
        f"expected an estimator skl2onnx converts, got {_estimator_words(estimator)}, "
        f"of which it says: {refusal[:200]}"
    )


def _options(estimator: Any) -> dict[int, dict[str, bool]] | None:
    return {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None


def _wants_names(estimator: Any) -> bool:
    return hasattr(estimator, "feature_names_in_") and bool(_transformers(estimator))


def _entry(
    features: tuple[Feature, ...], tensor_type: Any, element: int, *, named: bool
) -> tuple[Entry, list[tuple[str, Any]]]:
    if not named:
        types = [(_MATRIX, tensor_type([None, len(features)]))]
        return matrix_entry(_MATRIX, element, absent_is_zero=False), types
    nodes: list[onnx.NodeProto] = []
    constants: list[TensorProto] = []
    types = []
    for i, feature in enumerate(features):
        text = feature.kind == "category"
        types.append((feature.name, (StringTensorType if text else tensor_type)([None, 1])))
        constants.append(numpy_helper.from_array(np.array([i]), f"at{i}"))
        nodes.append(helper.make_node("Gather", [INPUT, f"at{i}"], [f"column{i}"], axis=1))
        if text:
            more, tables = _text_lookup(i, feature)
            nodes += more
            constants += tables
        else:
            nodes.append(helper.make_node("Cast", [f"column{i}"], [source_name(feature.name)], to=element))
    return Entry(nodes, constants), types


def _text_lookup(i: int, feature: Feature) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """A column of codes to a column of texts; a missing or unknown code becomes no text."""
    count = len(feature.categories)
    constants = [
        numpy_helper.from_array(np.array([*feature.categories, _NO_TEXT], dtype=object), f"texts{i}"),
        numpy_helper.from_array(np.array(float(count)), f"count{i}"),
        numpy_helper.from_array(np.array(0.0), f"first{i}"),
    ]
    nodes = [
        helper.make_node("GreaterOrEqual", [f"column{i}", f"first{i}"], [f"from{i}"]),
        helper.make_node("Less", [f"column{i}", f"count{i}"], [f"to{i}"]),
        helper.make_node("And", [f"from{i}", f"to{i}"], [f"known{i}"]),
        helper.make_node("Where", [f"known{i}", f"column{i}", f"count{i}"], [f"code{i}"]),
        helper.make_node("Cast", [f"code{i}"], [f"index{i}"], to=TensorProto.INT64),
        helper.make_node("Gather", [f"texts{i}", f"index{i}"], [source_name(feature.name)]),
    ]
    return nodes, constants


def _score(model: onnx.ModelProto, classes: tuple[str, ...], ensemble: Ensemble | None) -> Score:
    output = model.graph.output[-1]
    element = output.type.tensor_type.elem_type
    if ensemble is not None:
        return Score(
            output.name,
            ensemble.forest.targets,
            None,
            is_matrix=True,
            element=TensorProto.DOUBLE,
            forest=ensemble.forest,
        )
    if len(classes) == 2:
        return Score(output.name, 1, 1, is_matrix=False, element=element)
    return Score(output.name, len(classes) or 1, None, is_matrix=False, element=element)


def _features(estimator: Any) -> tuple[tuple[Feature, ...], bool]:
    """The columns the estimator was fitted on, and whether it scores missing numbers."""
    names = getattr(estimator, "feature_names_in_", None)
    texts = [f"f{i}" for i in range(estimator.n_features_in_)] if names is None else list(map(str, names))
    categories = _categories(estimator)
    features = tuple(
        Feature(name, "category", categories=categories[name], nullable=False)
        if name in categories
        else Feature(name)
        for name in texts
    )
    return features, _scores_missing(estimator, features)


def _scores_missing(estimator: Any, features: tuple[Feature, ...]) -> bool:
    row = np.array([[0.0 if f.kind == "category" else math.nan for f in features]])
    try:
        PipelineSource(estimator, features, ends_in_trees=False).outputs(row)
    except (ValueError, TypeError):
        return False
    return True


def _categories(estimator: Any) -> dict[str, tuple[str, ...]]:
    """The texts of each encoded column, by its name."""
    found: dict[str, tuple[str, ...]] = {}
    for transformer, columns in _transformers(estimator):
        for encoder in (transformer, *(step for _, step in getattr(transformer, "steps", ()))):
            for column, values in zip(columns, getattr(encoder, "categories_", ()), strict=False):
                if all(isinstance(value, str) for value in values):
                    found[str(column)] = tuple(map(str, values))
    return found


def _transformers(estimator: Any) -> list[tuple[Any, list[Any]]]:
    """The transformers of the ColumnTransformers in a pipeline, with their columns."""
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    return [
        (transformer, list(columns))
        for step in steps
        for _, transformer, columns in getattr(step, "transformers_", ())
        if not isinstance(columns, (str, slice))
    ]


def _estimator_words(estimator: Any) -> str:
    steps: Mapping[str, Any] = dict(getattr(estimator, "steps", ()))
    return " + ".join(type(step).__name__ for step in steps.values()) or type(estimator).__name__
