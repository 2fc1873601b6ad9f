"""An ONNX file run as it came, as the ground truth of the graph that is served."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from export.errors import ExportRefused
from export.forest.source import JsonRows, number_matrix
from export.onnx.inputs import GraphInputs
from server.errors import first_line
from server.model.link import Margins
from server.model.predictor import ONNX_ERRORS, one_thread_session
from server.model.schema import Matrix, Schema

#: How far two probabilities may be from adding up to 1; float16 has three digits.
_SUM_TOLERANCE = 1e-2


def _check_pairs(scores: Margins) -> None:
    sums = scores.sum(axis=1)
    bad = np.flatnonzero(np.isfinite(sums) & (np.abs(sums - 1.0) > _SUM_TOLERANCE))
    if bad.size:
        first, second = scores[bad[0]].tolist()
        raise ExportRefused(
            f"expected two class probabilities that add up to 1, got {first:g} and {second:g}: if these are "
            "logits, add a softmax to the model; if they are two targets, choose one with --output or serve "
            "a model for each"
        )


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread; raises `ExportRefused` if ONNX Runtime refuses the file."""
    try:
        return one_thread_session(content, log_severity=4)
    except ONNX_ERRORS as error:
        raise ExportRefused(
            f"expected a graph ONNX Runtime can load, got: {first_line(error)}; convert it with an opset "
            "that it has"
        ) from None


@dataclass(frozen=True)
class OnnxSource:
    """Runs the untouched file; `column` picks one of two classes' probabilities.

    `row_by_row` asks it for one row at a time: of many together ONNX Runtime may add a row's products
    in another order.
    """

    session: onnxruntime.InferenceSession
    inputs: GraphInputs
    score: str
    column: int | None
    row_by_row: bool = False

    @property
    def width(self) -> int:
        return self.inputs.width

    def scores(
        self, rows: Matrix, session: onnxruntime.InferenceSession | None = None
    ) -> npt.NDArray[np.floating]:
        """The score tensor as it comes, before a column is picked, also from another session's file."""
        try:
            (scores,) = (session or self.session).run([self.score], self.inputs.feed(rows))
        except ONNX_ERRORS as error:
            raise ExportRefused(
                f"expected a graph that scores a row, got: {first_line(error)}; does it score one with "
                "onnxruntime alone?"
            ) from None
        if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f":
            raise ExportRefused(
                f"expected numbers from the output {self.score!r}, got something else: name another with "
                "--output"
            )
        return scores

    def margins(self, rows: Matrix) -> Margins:
        """The served scores, float64 [n] or [n, K]."""
        if self.row_by_row and len(rows) > 1:
            return np.concatenate([self.margins(rows[i : i + 1]) for i in range(len(rows))])
        scores = self.scores(rows).astype(np.float64).reshape(len(rows), -1)
        if self.column is not None:
            _check_pairs(scores)
            scores = scores[:, self.column : self.column + 1]
        return np.ascontiguousarray(scores[:, 0] if scores.shape[1] == 1 else scores)

    def outputs(self, rows: Matrix) -> Margins:
        """The same: the graph's own score is the answer."""
        return self.margins(rows)

    def labels(self, output: str, rows: Matrix) -> list[str]:
        """The values of an output of labels, [n] or [n, 1], of rows [n, F]."""
        if self.row_by_row and len(rows) > 1:
            return [label for i in range(len(rows)) for label in self.labels(output, rows[i : i + 1])]
        try:
            (found,) = self.session.run([output], self.inputs.feed(rows))
        except ONNX_ERRORS as error:
            raise ExportRefused(
                f"expected a graph that labels a row, got: {first_line(error)}; convert it without labels"
            ) from None
        return list(map(str, np.ravel(found).tolist()))

    def table(self, rows: Matrix) -> Matrix:
        return rows

    def predictions(self, rows: JsonRows, schema: Schema) -> Margins:
        """The scores of a matrix of numbers; see `Source`."""
        return self.outputs(number_matrix(rows, schema))
