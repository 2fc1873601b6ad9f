"""One row, allocated and bound once, between the decoder and ONNX Runtime."""

import os

# Read when onnxruntime is imported: no process of ours sends telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _ort

from server.errors import BundleError, ModelFailure, Problem, first_line
from server.model.bundle import GRAPH_FILE, Bundle, GoldenRow
from server.model.external_data import has_external_data
from server.model.files import INPUT, MANIFEST_FILE, OUTPUT
from server.model.judge import Judge, Verdicts
from server.model.link import (
    ClassLink,
    Link,
    ManyLink,
    Margins,
    c_exp,
    class_link_of,
    identity,
    link_of,
    many_link_of,
)
from server.model.outcome import Outcomes, Outputs, Predict, judged_row, outcomes_of, predict_row
from server.model.schema import Matrix, Row

#: What ONNX Runtime raises: exceptions of its own, which share no other base than `Exception`, and Python's.
ONNX_ERRORS: tuple[type[Exception], ...] = (
    *(kind for kind in vars(_ort).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)

#: How far, relative to it, an output may be from the source's: `exp` and `expf` of the C library have
#: variants by processor, scikit-learn uses NumPy's, and a difference of a link's parameters is far larger.
LINK_TOLERANCE = {"float64": 1e-12, "float32": 1e-5}

#: The types a graph may give its margins in; a float32 is a float64 too.
_DTYPES = {"tensor(double)": np.float64, "tensor(float)": np.float32}


class Predictor:
    """Scores rows with one bundle.

    Owns the session and one input row with its output, both bound to ONNX
    Runtime at construction: a call writes F float64 into the row and reads one
    float64 back, without allocating. Therefore it is **not thread-safe**; use
    one per thread. `margins` shares nothing and may run in any thread.

    `link` turns a margin into the response: a probability or a predicted value.
    Of a model of several classes `class_link` does, from all margins of a row.
    `exp` takes the exponents of many rows' links; it must give the bits of `c_exp`.

    Raises `BundleError` if ONNX Runtime refuses the graph or its signature is
    not `features` float64 [N, F] -> `margin` float64 or float32 [N, K], where K is
    1 or the number of classes.
    """

    def __init__(self, bundle: Bundle, exp: ManyLink = c_exp) -> None:
        self.bundle = bundle
        self._session = _open_session(bundle)
        width = len(bundle.schema)
        output = _check_signature(self._session, bundle, width)
        row = np.zeros((1, width), dtype=np.float64)
        margin = np.zeros((1, bundle.outputs), dtype=_DTYPES[output.type])
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(INPUT, onnxruntime.OrtValue.ortvalue_from_numpy(row))
        binding.bind_ortvalue_output(OUTPUT, onnxruntime.OrtValue.ortvalue_from_numpy(margin))
        # The binding points into these arrays: they live as long as it does.
        self._arrays = (row, margin, binding)
        self._row = row.data.cast("B")
        #: [1, K] in the graph's type: where the margins of the row that was scored last stand.
        self.margin_array = margin
        #: The first of them, or the only one, as a Python float.
        self.last_margin = _floats(margin)
        # Two frames of onnxruntime's Python wrapper less than run_with_iobinding.
        self._run = self._session._sess.run_with_iobinding
        self._bound = binding._iobinding
        # Without options of ours ONNX Runtime makes some for each call, and waits
        # for devices that a CPU does not have: 0.8 of 3.6 us.
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self.link, self._many_link, self.class_link = _links(bundle, exp)
        self.judge = _judge(bundle)
        self.score_by(self._margin_of_graph)

    def score_by(self, margin: Callable[[Row], float]) -> None:
        """Have one row's margin from this function from now on, which gives the graph's to the bit.

        It puts the margin into `margin_array`, too.
        """
        bundle = self.bundle
        #: The raw score of one encoded row (F float64 in schema order), in log-odds.
        self.margin = margin
        #: One encoded row to its response and outcome; raises `ModelFailure`, see `outcome.py`.
        self.predict: Predict = predict_row(
            bundle.task,
            bundle.decision.threshold,
            margin if self.class_link is None else self.row_margins,
            self.class_link or self.link,
        )
        if self.judge is not None:
            #: The same to the verdict of the bundle's policy, of which `judge` knows the outcome.
            self.judged = judged_row(self.judge.verdict, margin, self.link)
            self.predict = self._predict_by_policy

    def _predict_by_policy(self, row: Row) -> tuple[float, int]:
        assert self.judge is not None
        probability, verdict = self.judged(row)
        return probability, self.judge.outcome(verdict)

    def _margin_of_graph(self, row: Row) -> float:
        # From fill to run there is no await and no other thread: the row is
        # shared by every request of this process.
        self._row[:] = row
        self._run(self._bound, self._options)
        return self.last_margin[0]

    def row_margins(self, row: Row) -> list[float]:
        """All raw scores of one encoded row, [K]: one, or one a class."""
        self.margin(row)
        return self.last_margins()

    def last_margins(self) -> list[float]:
        """Those of the row that was scored last: the same until anything is awaited."""
        return list(self.last_margin)

    def margins(self, rows: Matrix) -> Margins:
        """Raw scores, float64 [n] or [n, K] of K classes, of n encoded rows, float64 [n, F], in one call.

        Equal to `margin` and `row_margins` of each row to the bit.
        """
        if self.bundle.row_by_row and len(rows) > 1:
            return np.concatenate([self.margins(rows[i : i + 1]) for i in range(len(rows))])
        (margins,) = self._session.run([OUTPUT], {INPUT: rows})
        shape = (-1, self.bundle.outputs) if self.bundle.classes else (-1,)
        return np.asarray(margins, dtype=np.float64).reshape(shape)

    def outputs(self, margins: Margins) -> list[float] | list[list[float]]:
        """What follows from raw scores, in plain values, equal to that of each row alone.

        Of [n] margins n probabilities (binary) or predicted values (regression,
        ranking); of [n, K] margins n lists of K probabilities (multiclass).
        """
        found: list[float] | list[list[float]] = self.output_array(margins).tolist()
        return found

    def output_array(self, margins: Margins) -> Margins:
        """The same as float64, [n] or [n, K]."""
        if self.class_link is None:
            return self._many_link(margins)
        return np.array(list(map(self.class_link, margins.tolist())), np.float64).reshape(margins.shape)

    def outcomes(self, outputs: Outputs, rows: Matrix) -> Outcomes:
        """The outcome of each of n outputs, [n] or [n, K], of n encoded rows, float64 [n, F], as `predict`'s.

        Raises `ModelFailure` for an output that is none.
        """
        if self.judge is not None:
            return self.judge.outcomes(self.verdicts(outputs, rows))
        return outcomes_of(self.bundle.task, self.bundle.decision.threshold, outputs)

    def verdicts(self, probabilities: Outputs, rows: Matrix) -> Verdicts:
        """What the bundle's policy, which it must have, says of n rows; raises `ModelFailure`."""
        assert self.judge is not None
        outcomes_of("binary", 0.0, probabilities)  # which refuses what is no probability
        return self.judge.verdicts(probabilities, rows)

    def check_golden_rows(self) -> int:
        """Score every golden row, which also warms the session up; their number.

        Raises `BundleError` when the margins, the outputs or the outcome of one are
        not the source model's: margins to the bit (or within the bound of a bundle
        that is not exact, in parts of a margin above 1), outputs but for the last bits
        of the C library's `exp`.
        """
        count = 0
        for count, golden in enumerate(self.bundle.golden_rows(), start=1):
            try:
                difference = self._difference(golden)
            except ModelFailure as error:
                raise BundleError(f"{error} (golden row {count} of {self.bundle.directory})") from None
            except Problem as error:
                faults = "; ".join(f"{e.pointer}: {e.detail}" for e in error.errors[:3])
                difference = f"a row that its features do not take ({faults or error})"
            if difference:
                raise BundleError(
                    f"expected golden row {count} of {self.bundle.directory} to come out as the source model "
                    f"has it, got {difference}: the graph or {MANIFEST_FILE} is not what was exported; "
                    "export it again"
                )
        if not count:
            raise BundleError(f"expected golden rows in {self.bundle.directory}, got none")
        return count

    def _difference(self, golden: GoldenRow) -> str:
        """In what a golden row does not come out as the source model has it, "" if in nothing."""
        bundle = self.bundle
        row = bundle.schema.encode(golden.fields)
        margins = self.row_margins(row)
        if not _within(margins, golden.margins, bundle.bound * max(1.0, *map(abs, golden.margins))):
            return f"the margin {_words(margins)} for {_words(golden.margins)}"
        output, index = self.predict(row)
        outputs = output if self.class_link else [output]
        if not _close(outputs, golden.outputs, bundle):
            return f"{', '.join(map(repr, outputs))} for {', '.join(map(repr, golden.outputs))}"
        outcome = bundle.outcomes[index]
        if outcome != golden.outcome and not self._may_turn(golden, outputs, index):
            return f"the outcome {outcome!r} for {golden.outcome!r}"
        return ""

    def _may_turn(self, golden: GoldenRow, outputs: Sequence[float], index: int) -> bool:
        """Whether the last bits of outputs may turn the outcome: over a limit, or from one class to another.

        Of classes the golden row's and ours must be equally likely but for these bits.
        """
        expected = golden.outputs
        if self.class_link is None:
            low, high = sorted((expected[0], outputs[0]))
            limits = self.judge.limits if self.judge else [self.bundle.decision.threshold]
            return any(low < limit <= high for limit in limits)
        if list(expected) == list(outputs) or golden.outcome not in self.bundle.outcomes:
            return False
        theirs = self.bundle.outcomes.index(golden.outcome)
        return abs(outputs[index] - outputs[theirs]) <= 2.0 * _tolerance(expected, self.bundle)


def _judge(bundle: Bundle) -> Judge | None:
    if bundle.policy is None:
        return None
    decision = bundle.decision
    return Judge(bundle.policy, bundle.schema.names, decision.threshold, decision.below, decision.otherwise)


def _floats(array: npt.NDArray[np.floating[Any]]) -> "memoryview[float]":
    """The memory of a float64 or float32 array, element by element."""
    return array.data.cast("B").cast("d" if array.dtype == np.float64 else "f")


def _links(bundle: Bundle, exp: ManyLink) -> tuple[Link, ManyLink, ClassLink | None]:
    try:
        if bundle.classes:
            return identity, many_link_of({"name": "identity"}), class_link_of(bundle.link)
        return link_of(bundle.link), many_link_of(bundle.link, exp), None
    except (TypeError, ValueError) as error:
        raise BundleError(f"expected a link of the server in {bundle.directory}, got: {error}") from None


def _within(values: Sequence[float], expected: Sequence[float], bound: float) -> bool:
    return len(values) == len(expected) and all(
        ours == theirs or abs(ours - theirs) <= bound for ours, theirs in zip(values, expected, strict=True)
    )


def _close(outputs: Sequence[float], expected: Sequence[float], bundle: Bundle) -> bool:
    """Whether outputs are as expected, but for the last bits of `exp` and what the bound explains."""
    return _within(outputs, expected, _tolerance(expected, bundle))


def _tolerance(expected: Sequence[float], bundle: Bundle) -> float:
    """By how much outputs may be off that come of equal margins, or of such within the bound."""
    largest = max(map(abs, expected))
    return bundle.bound * max(1.0, largest) + LINK_TOLERANCE[bundle.precision] * largest


def _words(margins: Sequence[float]) -> str:
    return ", ".join(map(float.hex, margins))


def one_thread_session(graph: bytes, log_severity: int = 3) -> onnxruntime.InferenceSession:
    """A session on one thread; raises one of `ONNX_ERRORS`."""
    options = onnxruntime.SessionOptions()
    # One thread: a row costs less than waking another, and the order of the sum
    # (and so its last bit) stays the same. No spinning: an idle core stays idle.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = log_severity
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _open_session(bundle: Bundle) -> onnxruntime.InferenceSession:
    graph = bundle.read(GRAPH_FILE)
    if has_external_data(graph):
        raise BundleError(f"expected all weights inside {bundle.graph_path}, got external data")
    try:
        return one_thread_session(graph)
    except ONNX_ERRORS as error:
        raise BundleError(
            f"expected {bundle.graph_path} to be a graph ONNX Runtime can load, got: {first_line(error)}"
        ) from None


def _check_signature(
    session: onnxruntime.InferenceSession, bundle: Bundle, width: int
) -> onnxruntime.NodeArg:
    """The graph's output, if the graph is one this server runs."""

    def words(values: list[onnxruntime.NodeArg]) -> str:
        return ", ".join(f"{value.name} {value.type} {value.shape}" for value in values) or "nothing"

    inputs, outputs = session.get_inputs(), session.get_outputs()
    (feature,) = inputs if len(inputs) == 1 else (None,)
    if (
        feature is None
        or feature.name != INPUT
        or feature.type != "tensor(double)"
        or feature.shape[1:] != [width]
    ):
        raise BundleError(
            f"expected {bundle.graph_path} to take {INPUT} tensor(double) [N, {width}], got {words(inputs)}"
        )
    (margin,) = outputs if len(outputs) == 1 else (None,)
    if (
        margin is None
        or margin.name != OUTPUT
        or margin.type not in _DTYPES
        or margin.shape[1:] != [bundle.outputs]
    ):
        raise BundleError(
            f"expected {bundle.graph_path} to give {OUTPUT} tensor(double) [N, {bundle.outputs}], "
            f"got {words(outputs)}"
        )
    return margin
