"""A bundle's inputs and outputs as tensors: what the Open Inference Protocol says of a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from server.errors import MAX_OF_MATRIX, FieldError, UnacceptableRow, not_acceptable, shown
from server.model.bounds import Bounds
from server.model.bundle import PARITY_FILE, Bundle
from server.model.files import INPUT
from server.model.judge import Judge
from server.model.schema import MAX_EXACT_INTEGER, Matrix
from server.scoring.row_id import MEMBER, takes_id
from server.scoring.row_limit import check_rows
from server.scoring.scored import ScoredRows
from server.scoring.tensors import BYTES, DTYPES, Array, InputHead, Tensor, shape_of

PLATFORM = "onnx_onnxv1"
#: What `features` may come as: numbers, which are exact as float64 or refused.
MATRIX_DATATYPES = frozenset(DTYPES) - {"BOOL", "FP16"}
#: No category has it.
_NO_CODE = -1.0


class ModelTensors:
    """Turns input tensors into rows and answers into output tensors, for one bundle."""

    def __init__(self, bundle: Bundle, judge: Judge | None = None) -> None:
        self.bundle = bundle
        self._judge = judge
        self._width = len(bundle.schema)
        self._bounds = Bounds(bundle.schema)
        self._columns = {name: i for i, name in enumerate(bundle.schema.names)}
        numbers = {i: f.numbers for i, f in enumerate(bundle.schema.features) if f.kind == "category"}
        #: By column of categories the numbers that stand for them, in order, and the codes, if others.
        self._codes = {
            i: np.array(sorted(codes.items() or [(-np.inf, _NO_CODE)])).T
            for i, codes in numbers.items()
            if not codes or any(number != code for number, code in codes.items())
        }
        self._properties = _properties(bundle)
        self._outputs = _outputs(bundle)

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs, all of which are answered unless some are asked for."""
        return list(self._outputs)

    def metadata(self, versions: Sequence[str]) -> dict[str, Any]:
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

    def check(self, inputs: Sequence[InputHead], max_rows: int) -> None:
        """Refuse inputs that are no rows of this model, or too many, before their data is read.

        Either one input `features` [n, F], or inputs named as features, [n] or
        [n, 1] each, of which those that lack are missing; beside them `id`, where no
        feature is called so. Raises `UnacceptableRow`, and `MalformedBody` for what is
        no shape.
        """
        ids = [given for given in inputs if self._is_id(given.name)]
        inputs = [given for given in inputs if self._is_used(given.name)]
        names = [given.name for given in inputs]
        shapes = [shape_of(given) for given in inputs]
        if names == [INPUT]:
            self._check_matrix(inputs[0].datatype, shapes[0])
        elif not names or len(set(names)) != len(names) or any(name not in self._columns for name in names):
            raise UnacceptableRow(
                f"expected one input {INPUT}, or inputs named as features, each once, got others"
            )
        elif any(len(shape) > 2 or shape[1:] not in ((), (1,)) for shape in shapes) or (
            len({shape[0] for shape in shapes}) > 1
        ):
            raise UnacceptableRow("expected inputs of one shape, [rows] or [rows, 1], got others")
        check_rows(shapes[0][0], max_rows)
        if len(ids) > 1 or any(not _is_one_a_row(given, shapes[0][0]) for given in ids):
            raise UnacceptableRow(f"expected one {MEMBER} a row, as BYTES or integers, got others")

    def _is_id(self, name: str) -> bool:
        return name == MEMBER and takes_id(self.bundle.schema)

    def _is_used(self, name: str) -> bool:
        return not self._is_id(name) and name not in self.bundle.schema.ignored

    def ids(self, tensors: Sequence[Tensor]) -> Tensor | None:
        """The ids that a client gave its rows, if it did."""
        return next((tensor for tensor in tensors if self._is_id(tensor.name)), None)

    def _check_matrix(self, datatype: str, shape: tuple[int, ...]) -> None:
        if datatype not in MATRIX_DATATYPES:
            raise UnacceptableRow(f"expected {INPUT} as FP64, FP32 or integers, got another datatype")
        if len(shape) != 2 or shape[1] != self._width:
            raise UnacceptableRow(f"expected {INPUT} of shape [rows, {self._width}], got {list(shape)}")

    def rows(self, tensors: Sequence[Tensor]) -> Matrix:
        """The rows of inputs that `check` has let through, float64 [n, F], held to the schema.

        A float64 tensor is not copied. Raises `UnacceptableRow`.
        """
        tensors = [tensor for tensor in tensors if self._is_used(tensor.name)]
        if tensors[0].name == INPUT:
            matrix = self._coded(_as_float64(tensors[0]).reshape(tensors[0].shape))
        else:
            matrix = np.full((tensors[0].shape[0], self._width), np.nan)
            for tensor in tensors:
                matrix[:, self._columns[tensor.name]] = self._column(tensor)
        self._bounds.check(matrix)
        return matrix

    def raw_row(self, body: bytes) -> Matrix:
        """The one row of a raw binary request, as FP64 or FP32; raises `UnacceptableRow`."""
        for datatype, itemsize in (("<f8", 8), ("<f4", 4)):
            if len(body) == self._width * itemsize:
                row = np.frombuffer(body, dtype=datatype).reshape(1, -1).astype(np.float64, copy=False)
                row = self._coded(row)
                self._bounds.check(row)
                return row
        raise UnacceptableRow(
            f"expected one row of {8 * self._width} bytes (FP64) or {4 * self._width} (FP32), got {len(body)}"
        )

    def _coded(self, rows: Matrix) -> Matrix:
        """Rows with the codes of categories that are numbers, which are sent as in a table of training."""
        if self._codes:
            rows = rows.copy()
            for column in self._codes:
                rows[:, column] = self._code(column, rows[:, column])
        return rows

    def _code(self, column: int, values: Array) -> Array:
        """The codes of a column's values, of what is none of its numbers one that is refused."""
        if column not in self._codes:
            return values
        numbers, codes = self._codes[column]
        places = np.searchsorted(numbers, values) % len(numbers)
        return np.where(
            numbers[places] == values, codes[places], np.where(np.isnan(values), np.nan, _NO_CODE)
        )

    def _column(self, tensor: Tensor) -> Array:
        """Numbers as they are (of a category the code, or its number); texts as the schema encodes them."""
        column = self._columns[tensor.name]
        feature = self.bundle.schema.features[column]
        if tensor.datatype == "BOOL" and not feature.takes_truths:
            raise UnacceptableRow(f"expected {shown(tensor.name)} as {feature.expected}, got BOOL")
        if tensor.datatype != BYTES:
            return self._code(column, _as_float64(tensor).reshape(-1))
        codes = np.empty(len(tensor.values))
        errors: list[FieldError] = []
        for row, text in enumerate(tensor.values.tolist()):
            try:
                codes[row] = np.nan if text is None else feature.encode(text)
            except FieldError as error:
                errors.append(error.at(f"/{row}/{feature.name}"))
                if len(errors) == MAX_OF_MATRIX:
                    break
        if errors:
            unread = len(codes) - row - 1
            more = f", and {unread} more were not looked at" if unread else ""
            raise UnacceptableRow(f"{not_acceptable(len(errors), 'value')}{more}", errors=errors)
        return codes

    def tensor(self, name: str, scored: ScoredRows) -> Tensor:
        datatype, width = self._outputs[name]
        values: Array
        if name == "margin":
            values = scored.margins.reshape(-1)
        elif name == "because":
            assert self._judge is not None
            assert scored.verdicts is not None
            different, places = np.unique(scored.verdicts, return_inverse=True)  # few
            cells = map(self._judge.cells, different.tolist())
            values = np.array([because for because, _ in cells], dtype=object)[places]
        elif datatype == BYTES:
            values = np.array(self.bundle.outcomes, dtype=object)[scored.outcomes]
        else:
            values = np.array(scored.outputs, dtype=np.float64).reshape(-1)
        return Tensor(name, datatype, (len(scored.outcomes), width), values)


def _is_one_a_row(given: InputHead, rows: int) -> bool:
    is_kind = given.datatype == BYTES or given.datatype.startswith(("INT", "UINT"))
    return is_kind and shape_of(given) in ((rows,), (rows, 1))


def _as_float64(tensor: Tensor) -> Matrix:
    """Numbers of any datatype as float64; raises `UnacceptableRow` for integers that are none there."""
    if tensor.values.dtype.kind in "iu" and tensor.values.dtype.itemsize == 8:
        # Compared as they are: np.abs has no response for the least of all.
        beyond = (tensor.values > MAX_EXACT_INTEGER) | (tensor.values < -MAX_EXACT_INTEGER)
        if beyond.any():
            raise UnacceptableRow(
                f"expected integers within {MAX_EXACT_INTEGER} in {tensor.name}, got larger ones"
            )
    return tensor.values.astype(np.float64, copy=False)


def _outputs(bundle: Bundle) -> dict[str, tuple[str, int]]:
    """Name, datatype and width of each output."""
    margin = {"margin": ("FP64", bundle.outputs)}
    if bundle.task == "binary":
        decided = {"decision": (BYTES, 1), "because": (BYTES, 1)} if bundle.policy is not None else {}
        return {"probability": ("FP64", 1)} | decided | margin
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
        "certificate": PARITY_FILE,
    }
    if bundle.task == "binary":
        words["threshold"] = repr(bundle.decision.threshold)
    if bundle.outcomes != ("",):
        words["outcomes"] = ",".join(bundle.outcomes)
    for feature in bundle.schema.features:
        if feature.kind == "category":
            words[f"categories.{feature.name}"] = "|".join(feature.categories)
    return words
