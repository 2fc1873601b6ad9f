"""scikit-learn estimators that are no plain tree ensemble: skl2onnx, with its bound measured.

Columns with an encoder become categories of the schema: the graph takes their codes,
and what the encoder makes of each is a table, so a client's row is one matrix.
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

from export.errors import ExportRefused
from export.forest.conversion import Conversion, by_labels
from export.forest.extremes import EXTREMES_32
from export.forest.graph import build_graph
from export.forest.paths import path_arrays
from export.forest.source import as_sent
from export.forest.trees import Forest
from export.onnx.lean import Entry, Score, lean_graph, matrix_entry
from export.onnx.source import open_session
from export.sklearn.calibrations import exact_calibrations
from export.sklearn.columns import column_knots, used_columns
from export.sklearn.converters import own_converters, unknown_steps
from export.sklearn.folding import columns_of, folded
from export.sklearn.functions import least_values
from export.sklearn.members import Member, native_columns, read_member, with_trees
from export.sklearn.source import FittedSource
from export.sklearn.tables import Finite, finite_columns, takes_unknown, with_tables
from server.errors import first_line
from server.model.link import Margins
from server.model.schema import Feature, Matrix

#: Largest accepted difference, of scores up to 1; larger ones scale it.
BOUND = 1e-5
#: The same after a link alone: NumPy's `exp` and SciPy's `expit` differ from C's in the last bits.
OUTPUT_BOUND = 1e-12
_MATRIX = "X"
_OPSETS = {"": 18, "ai.onnx.ml": 3}
_ELEMENTS = ((DoubleTensorType, TensorProto.DOUBLE), (FloatTensorType, TensorProto.FLOAT))


def convert_pipeline(estimator: Any, file: str, content: bytes, classes: tuple[str, ...]) -> Conversion:
    """The conversion of any estimator skl2onnx knows; raises `ExportRefused` for others.

    The trees at the end of a pipeline are ours: skl2onnx converts what is before them.
    """
    names = getattr(estimator, "feature_names_in_", [f"f{i}" for i in range(estimator.n_features_in_)])
    texts = tuple(map(str, names))
    native = native_columns(estimator, texts)
    finite = finite_columns(estimator, texts) | native
    used = used_columns(estimator, texts)
    try:
        coded = with_tables(estimator, texts, finite, used)
    except TypeError as error:  # scikit-learn's own, of texts where an encoder was shown numbers
        raise ExportRefused(
            f"expected encoders that take the columns of the table, got one that says: "
            f"{first_line(error)[:200]}; encode the columns in one ColumnTransformer before the model, or "
            "before all members of it"
        ) from None
    ensemble = read_member(coded.steps[-1][1]) if hasattr(estimator, "steps") else None
    features = _features(estimator, texts, finite, native, used)
    raw = _sums_behind(estimator, ensemble) if ensemble else None
    source = FittedSource(estimator, features, finite, native, raw, texts)
    _check_target(source, classes)
    whole = Conversion(
        family="scikit-learn",
        **by_labels(classes),
        graph=lambda _: b"",
        link=ensemble.link if ensemble else {"name": "identity"},
        features=features,
        source=source,
        file=file,
        content=content,
        categories={i: feature.categories for i, feature in enumerate(features) if feature.categories},
        takes_missing=any(feature.nullable for feature in features),
        ignored=tuple(name for name in texts if name not in used),
        extremes=tuple(value for value in EXTREMES_32 if abs(value) < _LARGEST),
        record={"estimator": _estimator_words(estimator)},
    )
    width = len(features)
    forest = folded(columns_of(coded[:-1], width), ensemble.forest, width) if ensemble else None
    if forest is not None:
        return _trees_alone(whole, forest)
    model, entry, score, sampled = _converted(coded[:-1] if ensemble else coded, features, classes, ensemble)
    knots = column_knots(estimator, texts)
    return replace(
        whole,
        graph=lambda metadata: lean_graph(model, len(features), entry, score, metadata),
        knots=tuple(points for name, points in zip(texts, knots, strict=True) if name in used),
        precision="float32" if score.served_element == TensorProto.FLOAT else "float64",
        bound=BOUND,
        output_bound=BOUND,
        sampled=sampled,
        record={**whole.record, "converter": "skl2onnx"},
    )


def _trees_alone(whole: Conversion, forest: Forest) -> Conversion:
    """A pipeline whose columns are folded into its trees: equal to the bit, but for the link's last bits."""
    return replace(
        whole,
        graph=partial(build_graph, forest),
        forest=forest,
        precision=forest.precision,
        output_bound=OUTPUT_BOUND,
        contributions=lambda: (
            None if forest.sparse else path_arrays(forest, divisor=whole.link.get("divisor", 1))
        ),
        record={**whole.record, "trees": len(forest.trees)},
    )


def _sums_behind(estimator: Any, ensemble: Member) -> Callable[[Any], Margins]:
    """The sums of leaves of the trees at the end of a pipeline, of a table of its rows."""

    def sums(table: Any) -> Margins:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "X does not have valid feature names": ours are positions
            prepared = estimator[:-1].transform(table)
        dense = prepared.toarray() if hasattr(prepared, "toarray") else np.asarray(prepared)
        return ensemble.raw(np.asarray(dense, dtype=np.float64))

    return sums


def _check_target(source: FittedSource, classes: tuple[str, ...]) -> None:
    least = np.array([[feature.minimum or 0.0 for feature in source.features]])
    try:
        outputs = source.outputs(least)
    except (ValueError, TypeError) as error:
        raise ExportRefused(_unscored(source, least, first_line(error)[:200])) from None
    if outputs.ndim > 1 and not classes:
        raise ExportRefused(f"expected one target, got {outputs.shape[1]}: train a model for each")


def _unscored(source: FittedSource, row: Matrix, reason: str) -> str:
    try:
        source.outputs(np.repeat(row, 2, axis=0))
    except (ValueError, TypeError):
        return (
            f"expected a model that scores every number, got one that says: {reason}; prepare such columns "
            "outside of the model"
        )
    return (
        "expected a model that scores a row by itself, got one that scores two rows but not one (as "
        "scikit-learn's SparsePCA does): fit another step in its place, such as PCA"
    )


#: Beyond, sums of products overflow differently in float32 and float64.
_LARGEST = 1e15


def _converted(
    estimator: Any, features: tuple[Feature, ...], classes: tuple[str, ...], ensemble: Member | None
) -> tuple[onnx.ModelProto, Entry, Score, bool]:
    """skl2onnx's graph in float64 if ONNX Runtime has its operators, else in float32; whether a part is."""
    refusal = ""
    for tensor_type, element in _ELEMENTS:
        entry = matrix_entry(_MATRIX, element, absent_is_zero=False)
        types = [(_MATRIX, tensor_type([None, len(features)]))]
        try:
            with own_converters(estimator), exact_calibrations(estimator):
                made = to_onnx(
                    estimator, initial_types=types, options=_options(estimator), target_opset=_OPSETS
                )
            model = with_trees(made)
            score = _score(model, classes, ensemble)
        except ExportRefused:
            raise
        except Exception as error:  # noqa: BLE001  # each of its converters raises its own kind
            refusal = first_line(error)
            continue
        try:
            open_session(lean_graph(model, len(features), entry, score, {}))
        except ExportRefused as error:  # ONNX Runtime has not each operator in float64
            refusal = str(error)
            continue
        return model, entry, score, element == TensorProto.FLOAT or _has_single(made)
    raise ExportRefused(_unconverted(estimator, refusal))


def _unconverted(estimator: Any, refusal: str) -> str:
    if unknown := unknown_steps(estimator):
        return (
            f"expected steps that have a converter, got {unknown[0]}: fit another in its place "
            "(docs/compatibility.md lists those that have one), or make its columns outside of the model"
        )
    return (
        f"expected an estimator skl2onnx converts, got {_estimator_words(estimator)}, of which it says: "
        f"{refusal[:200]}; prepare such columns outside of the model, save the booster at the end alone and "
        "serve that, or, of a calibrated pipeline, calibrate the last step"
    )


#: Operators of which ONNX gives the result in float32, whatever comes in.
_SINGLE = {
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "Scaler",
    "SVMClassifier",
    "SVMRegressor",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
}


def _has_single(model: onnx.ModelProto) -> bool:
    return any(node.op_type in _SINGLE and node.domain == "ai.onnx.ml" for node in model.graph.node)


def _options(estimator: Any) -> dict[int, dict[str, bool]] | None:
    return {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None


def _score(model: onnx.ModelProto, classes: tuple[str, ...], ensemble: Member | None) -> Score:
    output = model.graph.output[-1]
    element = output.type.tensor_type.elem_type
    if ensemble is not None:
        return Score(
            output.name,
            ensemble.forest.targets,
            None,
            is_matrix=True,
            element=TensorProto.FLOAT if ensemble.forest.precision == "float32" else TensorProto.DOUBLE,
            forest=ensemble.forest,
        )
    if len(classes) == 2:
        return Score(output.name, 1, 1, is_matrix=False, element=element)
    return Score(output.name, len(classes) or 1, None, is_matrix=False, element=element)


def _features(
    estimator: Any,
    names: tuple[str, ...],
    finite: Finite,
    native: Collection[str],
    used: Collection[str],
) -> tuple[Feature, ...]:
    """The columns the estimator was fitted on, each nullable if it scores a row without it."""
    least = least_values(estimator, names)
    features = tuple(
        Feature(name, "category", categories=tuple(map(str, finite[name])))
        if name in finite
        else Feature(name, minimum=least.get(name))
        for name in names
        if name in used
    )
    source = FittedSource(estimator, features, finite, native, columns=names)
    return as_sent(features, source, takes_unknown(estimator, names, finite), (ValueError, TypeError))


def _estimator_words(estimator: Any) -> str:
    steps: Mapping[str, Any] = dict(getattr(estimator, "steps", ()))
    return " + ".join(type(step).__name__ for step in steps.values()) or type(estimator).__name__
