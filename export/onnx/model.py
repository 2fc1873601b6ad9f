"""Any ONNX file that takes rows of features and has a score among its outputs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from export.errors import ExportRefused
from export.forest.conversion import ABOVE_HALF, Conversion, two_labels
from export.forest.decided import Decided, places
from export.forest.evidence import Evidence
from export.forest.extremes import EXTREMES
from export.onnx.batch import check_freed, free_batch
from export.onnx.inputs import read_inputs
from export.onnx.lean import Score, lean_graph
from export.onnx.options import OnnxOptions
from export.onnx.safety import MAX_ONNX_BYTES, parse_onnx
from export.onnx.source import OnnxSource, open_session

#: Names converters give the scores of a classifier, the likeliest first.
_SCORE_NAMES = ("probabilities", "output_probability", "probability", "scores", "variable")
#: ONNX Runtime computes float16 in float32 and rounds where it likes: two steps of three digits.
_HALF_BOUND = 2.0**-9
_HALF_LARGEST = 1e3
_SCORE_TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)


def convert_onnx(
    content: bytes,
    options: OnnxOptions,
    evidence: Evidence = Evidence(),  # noqa: B008  # frozen
) -> Conversion:
    """The conversion of an ONNX file's bytes; raises `ExportRefused` for what cannot be served."""
    if len(content) > MAX_ONNX_BYTES:
        raise ExportRefused(
            f"expected an ONNX file of at most {MAX_ONNX_BYTES} bytes, got {len(content)}: convert a "
            "smaller one"
        )
    whole = parse_onnx(content)
    tensor = _score_tensor(whole, options.output)
    model = free_batch(whole)
    session = open_session(_with_output(model, tensor))
    knots = tree_thresholds(model)
    inputs = read_inputs(
        session.get_inputs(), options.names, evidence, knots, absent_is_zero=options.absent_is_zero
    )
    probe = OnnxSource(session, inputs, tensor, None)
    if model is not whole:
        check_freed(open_session(_with_output(whole, tensor)), probe)
    task, score = _score(probe.scores(np.zeros((3, inputs.width))), tensor, options)
    half = inputs.is_half or score.element == TensorProto.FLOAT16
    labels = class_labels(whole)
    named = options.classes or (labels if len(labels) == score.outputs else ())
    classes = named or tuple(map(str, range(score.outputs)))
    takes_missing = all(entry.is_float for entry in inputs.inputs) and not _fails_on_missing(probe)
    source = OnnxSource(session, inputs, tensor, score.column)
    alone = replace(source, row_by_row=True)
    return Conversion(
        family="onnx",
        task=task,
        graph=lambda metadata: lean_graph(model, inputs.width, inputs.entry(), score, metadata),
        link={"name": "identity"},
        features=inputs.features,
        source=source,
        alone=alone,
        file="source.onnx",
        content=content,
        classes=classes if task == "multiclass" else (),
        categories={i: f.categories for i, f in enumerate(inputs.features) if f.categories},
        knots=tuple(tuple(knots.get(i, ())) for i in range(inputs.width)),
        precision="float64" if score.element == TensorProto.DOUBLE else "float32",
        bound=_HALF_BOUND if half else 1e-5,
        takes_missing=takes_missing,
        extremes=tuple(value for value in EXTREMES if not half or abs(value) < _HALF_LARGEST),
        decisions=two_labels(task, labels),
        threshold=ABOVE_HALF if task == "binary" and len(labels) == 2 else None,
        decided=_decided(whole, alone, labels) if len(labels) == max(2, score.outputs) else None,
        record={"output": tensor, "absent": "0" if options.absent_is_zero else "nan"},
    )


def _fails_on_missing(probe: OnnxSource) -> bool:
    return bool(np.isnan(probe.scores(np.full((1, probe.width), np.nan))).any())


def _decided(model: onnx.ModelProto, source: OnnxSource, labels: Sequence[str]) -> Decided | None:
    """What tells the classes of the graph's own output of labels, None where it has no such."""
    kinds = (TensorProto.INT64, TensorProto.STRING)
    named = [output.name for output in model.graph.output if output.type.tensor_type.elem_type in kinds]
    if len(named) != 1:
        return None
    probe = source.labels(named[0], np.zeros((3, source.width)))
    if len(probe) != 3 or not set(probe) <= set(labels):
        return None
    return lambda rows: places(source.labels(named[0], rows), labels)


def class_labels(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the classes in the graph's own order, none where no operator has some."""
    for node in reversed(model.graph.node):
        for attribute in node.attribute:
            if attribute.name in ("classlabels_strings", "class_labels") and attribute.strings:
                return tuple(text.decode(errors="replace") for text in attribute.strings)
            if attribute.name in ("classlabels_int64s", "classlabels_ints") and attribute.ints:
                return tuple(map(str, attribute.ints))
    return ()


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
            raise ExportRefused(f"expected --output to be one of {', '.join(outputs)}, got {asked}: say that")
        return zipped.get(asked, asked)
    numbers = [
        output.name
        for output in model.graph.output
        if output.name in zipped or output.type.tensor_type.elem_type in _SCORE_TYPES
    ]
    named = [name for name in _SCORE_NAMES if name in numbers]
    if not named and len(numbers) != 1:
        raise ExportRefused(
            f"expected one output of scores, got {', '.join(numbers) or 'none'}: name it with --output"
        )
    found: str = (named or numbers)[0]
    return zipped.get(found, found)


def _score(scores: npt.NDArray[np.floating[Any]], tensor: str, options: OnnxOptions) -> tuple[str, Score]:
    """The task, told or guessed from the shape of three rows' scores."""
    if scores.ndim > 2 or scores.size % 3 or scores.shape[0] != 3:
        raise ExportRefused(
            f"expected scores [N] or [N, K], got the shape {list(scores.shape)} for 3 rows: reshape them"
        )
    columns = scores.size // 3
    task = options.task or {1: "regression", 2: "binary"}.get(columns, "multiclass")
    if task in ("regression", "ranking") and columns > 1:
        raise ExportRefused(
            f"expected one value a row for --task {task}, got {columns}: serve a model for each target, or "
            "choose one score with --output"
        )
    if (task == "multiclass") != (columns > 1) and not (task == "binary" and columns == 2):
        raise ExportRefused(
            f"expected a score that fits --task {task}, got {columns} values a row: say another"
        )
    element = onnx.helper.np_dtype_to_tensor_dtype(scores.dtype)
    if task == "binary" and columns == 2:
        return task, Score(tensor, 1, 1, is_matrix=False, element=element)
    return task, Score(tensor, columns, None, is_matrix=scores.ndim == 2, element=element)


def tree_thresholds(model: onnx.ModelProto) -> dict[int, list[float]]:
    """By feature the thresholds of all tree operators, ascending: where values matter."""
    found: dict[int, set[float]] = {}
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
            if np.isfinite(value):
                found.setdefault(i, set()).add(value)
    return {i: sorted(values) for i, values in found.items()}


def _numbers(attribute: onnx.AttributeProto) -> list[float]:
    if attribute.HasField("t"):
        return [float(value) for value in numpy_helper.to_array(attribute.t)]
    return list(attribute.floats)
