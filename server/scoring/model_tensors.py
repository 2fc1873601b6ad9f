"""A bundle's inputs and outputs as tensors: what the Open Inference Protocol says of a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from server.errors import FieldError, UnacceptableRow
from server.model.bounds import Bounds
from server.model.bundle import CERTIFICATE_FILE, Bundle
from server.model.predictor import INPUT
from server.model.schema import FieldRefused, Matrix
from server.scoring.scored import Scored
from server.scoring.tensors import BYTES, Array, Tensor

PLATFORM = "onnx_onnxv1"
_MATRIX_DATATYPES = ("FP64", "FP32")


class ModelTensors:
    """Turns input tensors into rows and answers into output tensors, for one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._width = len(bundle.schema)
        self._bounds = Bounds(bundle.schema)
        self._columns = {name: i for i, name in enumerate(bundle.schema.names)}
        self._properties = _properties(bundle)
        self._outputs = _outputs(bundle)

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs, all of which are answered unless some are asked for."""
        return list(self._outputs)

    def metadata(self, versions: Sequence[str]) -> dict[str, Any]:
        """The model metadata response."""
        return {
            "name": self.bundle.name,
            "versions": versions,
            "platform": PLATFORM,
            "inputs": [{"name": INPUT, "datatype": "FP64", "shape": [-1, self._width]}],
            "outputs": [
                {"name": name, "datatype": datatype, "shape": [-1, width]}
                for name, (datatype, width) in self._outputs.items()
            ],
            "properties": self._properties,
        }

    def rows(self, tensors: Sequence[Tensor]) -> Matrix:
        """The rows of a request, float64 [n, F], checked against the schema.

        Either one tensor `features` [n, F], or tensors named as features, [n] or
        [n, 1] each, of which those that lack are missing. A float64 tensor is not
        copied. Raises `UnacceptableRow`.
        """
        if len(tensors) == 1 and tensors[0].name == INPUT:
            matrix = self._matrix(tensors[0])
        else:
            matrix = self._from_columns(tensors)
        self._bounds.check(matrix)
        return matrix

    def raw_row(self, body: bytes) -> Matrix:
        """The one row of a raw binary request, as FP64 or FP32; raises `UnacceptableRow`."""
        for datatype, itemsize in (("<f8", 8), ("<f4", 4)):
            if len(body) == self._width * itemsize:
                row = np.frombuffer(body, dtype=datatype).reshape(1, -1).astype(np.float64, copy=False)
                self._bounds.check(row)
                return row
        raise UnacceptableRow(
            f"expected one row of {8 * self._width} bytes (FP64) or {4 * self._width} (FP32), got {len(body)}"
        )

    def _matrix(self, tensor: Tensor) -> Matrix:
        if tensor.datatype not in _MATRIX_DATATYPES:
            raise UnacceptableRow(f"expected {INPUT} as FP64 or FP32, got another datatype")
        if len(tensor.shape) != 2 or tensor.shape[1] != self._width:
            raise UnacceptableRow(
                f"expected {INPUT} of shape [rows, {self._width}], got {list(tensor.shape)}"
            )
        return tensor.values.reshape(tensor.shape).astype(np.float64, copy=False)

    def _from_columns(self, tensors: Sequence[Tensor]) -> Matrix:
        names = [tensor.name for tensor in tensors]
        if not names or len(set(names)) != len(names) or any(name not in self._columns for name in names):
            raise UnacceptableRow(
                f"expected one input {INPUT}, or inputs named as features, each once, got others"
            )
        counts = {tensor.shape for tensor in tensors if len(tensor.shape) == 1} | {
            tensor.shape[:1] for tensor in tensors if len(tensor.shape) == 2 and tensor.shape[1] == 1
        }
        fitting = all(len(t.shape) == 1 or t.shape[1:] == (1,) for t in tensors)
        if not fitting or len(counts) != 1:
            raise UnacceptableRow("expected inputs of one shape, [rows] or [rows, 1], got others")
        matrix = np.full((counts.pop()[0], self._width), np.nan)
        for tensor in tensors:
            matrix[:, self._columns[tensor.name]] = self._column(tensor)
        return matrix

    def _column(self, tensor: Tensor) -> Array:
        """Numbers as they are (of a category the code); texts as the schema encodes them."""
        if tensor.datatype != BYTES:
            return tensor.values.astype(np.float64, copy=False)
        feature = self.bundle.schema.features[self._columns[tensor.name]]
        codes, errors = np.empty(len(tensor.values)), []
        for row, text in enumerate(tensor.values.tolist()):
            try:
                codes[row] = np.nan if text is None else feature.encode(text)
            except FieldRefused as refusal:
                errors.append(FieldError(f"/{row}/{feature.name}", str(refusal)))
        if errors:
            raise UnacceptableRow(f"{len(errors)} values are not acceptable", errors=errors)
        return codes

    def tensor(self, name: str, scored: Scored) -> Tensor:
        """One output of scored rows."""
        datatype, width = self._outputs[name]
        values: Array
        if name == "margin":
            values = scored.margins.reshape(-1)
        elif datatype == BYTES:
            values = np.array(self.bundle.outcomes, dtype=object)[scored.outcomes]
        else:
            values = np.array(scored.outputs, dtype=np.float64).reshape(-1)
        return Tensor(name, datatype, (len(scored.outcomes), width), values)


def _outputs(bundle: Bundle) -> dict[str, tuple[str, int]]:
    """Name, datatype and width of each output."""
    margin = {"margin": ("FP64", bundle.outputs)}
    if bundle.task == "binary":
        return {"probability": ("FP64", 1)} | margin
    if bundle.task == "multiclass":
        return {"probabilities": ("FP64", bundle.outputs), "prediction": (BYTES, 1)} | margin
    return {"prediction": ("FP64", 1)} | margin


def _properties(bundle: Bundle) -> dict[str, str]:
    """What a client of tensors must know beside them; the protocol wants texts."""
    words = {
        "feature_names": ",".join(bundle.schema.names),
        "task": bundle.task,
        "exact": str(bundle.exact).lower(),
        "sha256": str(bundle.manifest.get("files", {}).get("model.onnx", "")),
        "certificate": CERTIFICATE_FILE,
    }
    if bundle.task == "binary":
        words["threshold"] = repr(bundle.decision.threshold)
    if bundle.outcomes != ("",):
        words["outcomes"] = ",".join(bundle.outcomes)
    for feature in bundle.schema.features:
        if feature.kind == "category":
            words[f"categories.{feature.name}"] = "|".join(feature.categories)
    return words
