"""What an ONNX file takes: one matrix of numbers, or several columns by name, of any type a row can have.

An input of several columns becomes as many features. Texts are categories of the
schema; the graph that is served looks them up by their code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportRefused
from export.forest.conversion import threshold_feature
from export.forest.evidence import Evidence
from export.onnx.lean import Entry, matrix_entry, source_name
from server.model.files import INPUT
from server.model.schema import Feature, Kind, Matrix

_TYPES = {
    "tensor(float)": (TensorProto.FLOAT, np.float32),
    "tensor(double)": (TensorProto.DOUBLE, np.float64),
    "tensor(float16)": (TensorProto.FLOAT16, np.float16),
    "tensor(int64)": (TensorProto.INT64, np.int64),
    "tensor(int32)": (TensorProto.INT32, np.int32),
    "tensor(bool)": (TensorProto.BOOL, np.bool_),
    "tensor(string)": (TensorProto.STRING, np.str_),
}
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
_FEATURES_AT_MOST = 100_000


@dataclass(frozen=True)
class Input:
    """One input of the file: its first feature, its number of features, its ONNX type and shape."""

    name: str
    first: int
    width: int
    element: int
    dtype: Any
    is_flat: bool

    @property
    def is_float(self) -> bool:
        """Whether a missing value can be told to it."""
        return self.element in _FLOATS


@dataclass(frozen=True)
class GraphInputs:
    """All inputs, and the features they are made of."""

    inputs: tuple[Input, ...]
    features: tuple[Feature, ...]
    absent_is_zero: bool

    @property
    def is_half(self) -> bool:
        """Whether an input has three digits only."""
        return any(entry.element == TensorProto.FLOAT16 for entry in self.inputs)

    @property
    def width(self) -> int:
        return len(self.features)

    def feed(self, rows: Matrix) -> dict[str, npt.NDArray[Any]]:
        """The tensors of encoded rows float64 [n, F], by the inputs' names."""
        filled = np.where(np.isnan(rows), 0.0, rows) if self.absent_is_zero else rows
        return {i.name: self._tensor(i, filled[:, i.first : i.first + i.width]) for i in self.inputs}

    def _tensor(self, entry: Input, values: Matrix) -> npt.NDArray[Any]:
        with np.errstate(over="ignore", invalid="ignore"):
            is_text = entry.element == TensorProto.STRING
            tensor = self._texts(entry, values) if is_text else values.astype(entry.dtype)
        return tensor.reshape(-1) if entry.is_flat else tensor

    def _texts(self, entry: Input, codes: Matrix) -> npt.NDArray[Any]:
        columns = [
            np.array(self.features[entry.first + i].categories, dtype=object)[column.astype(int)]
            for i, column in enumerate(codes.T)
        ]
        return np.stack(columns, axis=1)

    def entry(self) -> Entry:
        """The nodes from the served matrix to the file's inputs."""
        first = self.inputs[0]
        if len(self.inputs) == 1 and first.is_float and not first.is_flat:
            return matrix_entry(first.name, first.element, absent_is_zero=self.absent_is_zero)
        nodes: list[onnx.NodeProto] = []
        constants: list[TensorProto] = []
        for number, entry in enumerate(self.inputs):
            more, tables = self._nodes(entry, number)
            nodes += more
            constants += tables
        if self.absent_is_zero:
            nodes = [
                helper.make_node("IsNaN", [INPUT], ["is_absent"]),
                helper.make_node("Where", ["is_absent", "zero", INPUT], ["filled"]),
                *nodes,
            ]
            constants.append(numpy_helper.from_array(np.array(0.0), "zero"))
        return Entry(nodes, constants)

    def _nodes(self, entry: Input, number: int) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
        """Gather the columns of an input, give them its type, and its shape."""
        rows = "filled" if self.absent_is_zero else INPUT
        at, cast = np.arange(entry.first, entry.first + entry.width), f"typed{number}"
        constants = [numpy_helper.from_array(at, f"at{number}")]
        nodes = [helper.make_node("Gather", [rows, f"at{number}"], [f"columns{number}"], axis=1)]
        target = source_name(entry.name)
        typed = cast if entry.is_flat else target
        if entry.element == TensorProto.STRING:
            texts = np.array(self.features[entry.first].categories, dtype=object)
            constants.append(numpy_helper.from_array(texts, f"texts{number}"))
            nodes += [
                helper.make_node("Cast", [f"columns{number}"], [f"codes{number}"], to=TensorProto.INT64),
                helper.make_node("Gather", [f"texts{number}", f"codes{number}"], [typed]),
            ]
        else:
            nodes.append(helper.make_node("Cast", [f"columns{number}"], [typed], to=entry.element))
        if entry.is_flat:
            constants.append(numpy_helper.from_array(np.array([-1]), f"flat{number}"))
            nodes.append(helper.make_node("Reshape", [typed, f"flat{number}"], [target]))
        return nodes, constants


def read_inputs(
    declared: Sequence[Any],
    names: Sequence[str],
    evidence: Evidence,
    knots: Mapping[int, Sequence[float]],
    *,
    absent_is_zero: bool,
) -> GraphInputs:
    """The inputs of a session; `names` are those of a schema, `knots` the thresholds of each feature.

    Raises `ExportRefused` for types and shapes that no row can be turned into.
    """
    inputs: list[Input] = []
    for tensor in declared:
        first = inputs[-1].first + inputs[-1].width if inputs else 0
        inputs.append(_input(tensor, first, names if len(declared) == 1 else ()))
    own = [name for entry in inputs for name in _names(entry, alone=len(inputs) == 1)]
    if not inputs or len(own) > _FEATURES_AT_MOST:
        raise ExportRefused(
            f"expected 1 to {_FEATURES_AT_MOST} features in the ONNX file, got {len(own)}: convert it with "
            "as many"
        )
    if names and len(names) != len(own):
        raise ExportRefused(
            f"expected names of {len(own)} features, got {len(names)}: list them with --describe"
        )
    if names and len(inputs) > 1 and set(names) != set(own):
        raise ExportRefused(
            f"expected the names of the inputs, {', '.join(own[:8])}, in the schema, "
            f"got {', '.join(names[:8])}: write them so"
        )
    chosen = own if len(inputs) > 1 or not names else list(names)
    elements = [entry for entry in inputs for _ in range(entry.width)]
    features = tuple(
        _feature(name, entry, evidence, knots.get(i, ()))
        for i, (name, entry) in enumerate(zip(chosen, elements, strict=True))
    )
    return GraphInputs(tuple(inputs), features, absent_is_zero)


def _input(tensor: Any, first: int, names: Sequence[str]) -> Input:
    shape = list(tensor.shape)
    if tensor.type not in _TYPES or len(shape) not in (1, 2):
        raise ExportRefused(
            "expected inputs of numbers, booleans or texts of the shape [N, F] or [N], "
            f"got {tensor.name} {tensor.type} {shape}: export the model with one row of features a record"
        )
    element, dtype = _TYPES[tensor.type]
    width = 1 if len(shape) == 1 else shape[1]
    if not isinstance(width, int) or width < 1:
        if not names:
            raise ExportRefused(
                "expected a graph that says its number of features: name them with --describe"
            )
        width = len(names)
    if element == TensorProto.STRING and width > 1:
        raise ExportRefused(
            f"expected one column in the input of texts {tensor.name}, got {width}: give each an input"
        )
    return Input(tensor.name, first, width, element, dtype, is_flat=len(shape) == 1)


def _names(entry: Input, *, alone: bool) -> list[str]:
    if alone and entry.is_float and not entry.is_flat:
        return [f"f{i}" for i in range(entry.width)]
    return [entry.name] if entry.width == 1 else [f"{entry.name}_{i}" for i in range(entry.width)]


def _feature(name: str, entry: Input, evidence: Evidence, knots: Sequence[float]) -> Feature:
    if entry.element == TensorProto.STRING:
        texts = evidence.categories.get(name)
        if not texts:
            raise ExportRefused(
                f"expected the texts that {name} can have, which the file does not tell: give --describe "
                f'with {{"name": "{name}", "kind": "category", "categories": […]}}'
            )
        return Feature(name, "category", categories=texts, nullable=False)
    if entry.is_float:
        return threshold_feature(name, list(knots))
    kind: Kind = "flag" if entry.element == TensorProto.BOOL else "integer"
    return replace(threshold_feature(name, list(knots)), kind=kind, nullable=False)
