"""Any ONNX file with one matrix of numbers as its input and a score among its outputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from export.conversion import Conversion, threshold_feature
from export.errors import ExportRefused
from export.onnx_lean import Score, lean_graph, matrix_entry
from export.onnx_options import OnnxOptions
from export.onnx_safety import MAX_ONNX_BYTES, parse_onnx
from export.onnx_source import OnnxSource, open_session
from export.rows import EXTREMES
from server.model.schema import Feature

#: Names converters give the scores of a classifier, the likeliest first.
_SCORE_NAMES = ("probabilities", "output_probability", "probability", "scores", "variable")
_TYPES = {"tensor(float)": TensorProto.FLOAT, "tensor(double)": TensorProto.DOUBLE}
_FEATURES_AT_MOST = 100_000


def convert_onnx(content: bytes, options: OnnxOptions, file: str = "source.onnx") -> Conversion:
    """The conversion of an ONNX file's bytes; raises `ExportRefused` for what cannot be served."""
    if len(content) > MAX_ONNX_BYTES:
        raise ExportRefused(f"expected an ONNX file of at most {MAX_ONNX_BYTES} bytes, got {len(content)}")
    model = parse_onnx(content)
    tensor = _score_tensor(model, options.output)
    original = open_session(_with_output(model, tensor))
    (feature,) = original.get_inputs() if len(original.get_inputs()) == 1 else (None,)
    if feature is None or feature.type not in _TYPES or len(feature.shape) != 2:
        raise ExportRefused(
            "expected one input of float32 or float64 [N, F], got "
            + (", ".join(f"{i.name} {i.type} {i.shape}" for i in original.get_inputs()) or "none")
        )
    width = _width(feature.shape[1], options.names)
    probe = OnnxSource(original, tensor, None, absent_is_zero=options.absent_is_zero)
    task, score = _score(probe.scores(np.zeros((3, width))), tensor, options)
    element = _TYPES[feature.type]
    entry = matrix_entry(feature.name, element, absent_is_zero=options.absent_is_zero)
    knots = tree_thresholds(model, width)
    classes = options.classes or tuple(map(str, range(score.outputs)))
    return Conversion(
        family="onnx",
        task=task,
        graph=lambda metadata: lean_graph(model, width, entry, score, metadata),
        link={"name": "identity"},
        features=_features(options.names or [f"f{i}" for i in range(width)], knots),
        source=OnnxSource(original, tensor, score.column, absent_is_zero=options.absent_is_zero),
        file=file,
        content=content,
        classes=classes if task == "multiclass" else (),
        knots=knots,
        precision="float32" if element == TensorProto.FLOAT else "float64",
        bound=1e-5,
        takes_missing=not np.isnan(probe.scores(np.full((1, width), np.nan))).any(),
        extremes=EXTREMES,
        record={"output": tensor, "absent": "0" if options.absent_is_zero else "nan"},
    )


def _with_output(model: onnx.ModelProto, tensor: str) -> bytes:
    """The file as it came, but that the score can be asked for where only a ZipMap gave it out."""
    if tensor in {output.name for output in model.graph.output}:
        return bytes(model.SerializeToString())
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    return bytes(opened.SerializeToString())


def _score_tensor(model: onnx.ModelProto, asked: str | None) -> str:
    """The name of the tensor with the scores, found behind a ZipMap if there is one."""
    zipped: dict[str, str] = {
        n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "ZipMap" and n.input
    }
    outputs = [output.name for output in model.graph.output]
    if asked is not None:
        if asked not in outputs:
            raise ExportRefused(f"expected --output to be one of {', '.join(outputs)}, got {asked}")
        return zipped.get(asked, asked)
    numbers = [
        output.name
        for output in model.graph.output
        if output.name in zipped
        or output.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.DOUBLE)
    ]
    named = [name for name in _SCORE_NAMES if name in numbers]
    if not named and len(numbers) != 1:
        raise ExportRefused(
            f"expected one output of scores, got {', '.join(numbers) or 'none'}: name it with --output"
        )
    found: str = (named or numbers)[0]
    return zipped.get(found, found)


def _width(declared: object, names: Sequence[str]) -> int:
    if isinstance(declared, int) and 0 < declared <= _FEATURES_AT_MOST:
        if names and len(names) != declared:
            raise ExportRefused(f"expected names of {declared} features, got {len(names)}")
        return declared
    if not names:
        raise ExportRefused("expected a graph that says its number of features: name them with --schema")
    return len(names)


def _score(scores: npt.NDArray[np.floating[Any]], tensor: str, options: OnnxOptions) -> tuple[str, Score]:
    """The task, told or guessed from the shape of three rows' scores."""
    if scores.ndim > 2 or scores.size % 3 or scores.shape[0] != 3:
        raise ExportRefused(f"expected scores [N] or [N, K], got the shape {list(scores.shape)} for 3 rows")
    columns = scores.size // 3
    task = options.task or {1: "regression", 2: "binary"}.get(columns, "multiclass")
    if (task == "multiclass") != (columns > 1) and not (task == "binary" and columns == 2):
        raise ExportRefused(f"expected a score that fits --task {task}, got {columns} values a row")
    element = onnx.helper.np_dtype_to_tensor_dtype(scores.dtype)
    if task == "binary" and columns == 2:
        return task, Score(tensor, 1, 1, is_matrix=False, element=element)
    return task, Score(tensor, columns, None, is_matrix=scores.ndim == 2, element=element)


def tree_thresholds(model: onnx.ModelProto, width: int) -> tuple[tuple[float, ...], ...]:
    """For each feature the thresholds of all tree operators, ascending: where values matter."""
    found: list[set[float]] = [set() for _ in range(width)]
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        values = [
            number
            for name in ("nodes_values", "nodes_values_as_tensor", "nodes_splits")
            if name in attributes
            for number in _numbers(attributes[name])
        ]
        features = attributes["nodes_featureids"].ints if "nodes_featureids" in attributes else ()
        for i, value in zip(features, values, strict=False):
            if i < width and np.isfinite(value):
                found[i].add(value)
    return tuple(tuple(sorted(values)) for values in found)


def _numbers(attribute: onnx.AttributeProto) -> list[float]:
    if attribute.HasField("t"):
        return [float(value) for value in numpy_helper.to_array(attribute.t)]
    return list(attribute.floats)


def _features(names: Sequence[str], knots: Sequence[Sequence[float]]) -> tuple[Feature, ...]:
    pairs = zip(names, knots, strict=True)
    return tuple(threshold_feature(name, list(thresholds)) for name, thresholds in pairs)
