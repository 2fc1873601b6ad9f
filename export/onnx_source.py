"""An ONNX file run as it came, as the ground truth of the graph that is served."""

import numpy as np
import numpy.typing as npt
import onnxruntime

from export.errors import ExportRefused
from export.source import JsonRows, number_matrix
from server.errors import first_line
from server.model.predictor import Margins
from server.model.schema import Matrix, Schema

_NUMPY = {"tensor(float)": np.float32, "tensor(double)": np.float64}


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread; raises `ExportRefused` if ONNX Runtime refuses the file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # onnxruntime's own exceptions share no other base
        raise ExportRefused(f"expected a graph ONNX Runtime can load, got: {first_line(error)}") from None


class OnnxSource:
    """Runs the untouched file; `column` picks one of two classes' probabilities."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        score: str,
        column: int | None,
        *,
        absent_is_zero: bool,
    ) -> None:
        self._session = session
        self._score = score
        self._column = column
        self._absent_is_zero = absent_is_zero
        (feature,) = session.get_inputs()
        self._input, self._dtype = feature.name, _NUMPY[feature.type]

    def scores(self, rows: Matrix) -> npt.NDArray[np.floating]:
        """The score tensor as it comes, before a column is picked."""
        filled = np.where(np.isnan(rows), 0.0, rows) if self._absent_is_zero else rows
        with np.errstate(over="ignore"):
            inputs = {self._input: filled.astype(self._dtype)}
        try:
            (scores,) = self._session.run([self._score], inputs)
        except Exception as error:  # noqa: BLE001  # as above
            raise ExportRefused(f"expected a graph that scores a row, got: {first_line(error)}") from None
        if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f":
            raise ExportRefused(f"expected numbers from the output {self._score!r}, got something else")
        return scores

    def margins(self, rows: Matrix) -> Margins:
        """The served scores, float64 [n] or [n, K]."""
        scores = self.scores(rows).astype(np.float64).reshape(len(rows), -1)
        if self._column is not None:
            scores = scores[:, self._column : self._column + 1]
        return np.ascontiguousarray(scores[:, 0] if scores.shape[1] == 1 else scores)

    def outputs(self, rows: Matrix) -> Margins:
        """The same: the graph's own score is the answer."""
        return self.margins(rows)

    def answers(self, rows: JsonRows, schema: Schema) -> Margins:
        """The scores of a matrix of numbers; see `Source`."""
        return self.outputs(number_matrix(rows, schema))
