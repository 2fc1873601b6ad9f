"""Many rows of one model: scored in one call, counted each, and logged as one request."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np
import orjson

from server.errors import Unavailable
from server.log.ring import LoggedResponse, RowMargins
from server.metrics.shared import WorkerMetrics
from server.model.bundle import Bundle
from server.model.link import Margins
from server.model.predictor import ONNX_ERRORS, Predictor
from server.model.row_names import FIRST_ROW, ROW_IDS, line_id
from server.model.row_order import RowOrder
from server.model.schema import Matrix, Schema
from server.scoring.deadline import ENDLESS, Deadline
from server.scoring.model_tensors import ModelTensors
from server.scoring.one_row import Scorer
from server.scoring.scored import ScoredRows

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
#: Up to here ONNX Runtime is called on the event loop: 32 rows of the shipped
#: model take it 0.15 ms, about what handing them to a thread and back costs
#: (`python -m loadtest bench rows`). Above, single rows would wait.
INLINE_ROWS = 32
#: Work in Python on many rows lets the event loop turn after so many of them (some 0.1 ms).
SLICE_ROWS = 250
#: Rows in one line of the log: a line must fit the log's segments, with room for the responses.
LINE_BYTES = 2**16
#: By its words alone the want of memory is told in ONNX Runtime's `Fail`, and in the
#: RuntimeError of a thread that has no stack.
_NO_MEMORY = ("allocate memory", "start new thread")

OpenBackend: TypeAlias = Callable[[Bundle, Predictor], tuple[Callable[[Matrix], Margins], str]]


class RowsScorer:
    """Scores the rows of whole requests for one model, for one event loop.

    A call of ONNX Runtime on many rows runs in a thread, one at a time, so that
    single rows are answered meanwhile. What `open_backend` opens, in a thread of
    its own, scores them from then on: their margins with equal bits, and a note for the log.
    """

    def __init__(
        self, scorer: Scorer, metrics: WorkerMetrics, open_backend: OpenBackend | None = None
    ) -> None:
        self.scorer = scorer
        self.bundle = scorer.bundle
        self.tensors = ModelTensors(scorer.bundle, scorer.predictor.judge)
        self._predictor = scorer.predictor
        self.judge = scorer.predictor.judge
        self._margins_of: Callable[[Matrix], Margins] = RowOrder(scorer.predictor).margins
        if open_backend is not None:
            # No daemon: a process that ends while the compiler works would take its memory away.
            threading.Thread(target=self._compile, args=(open_backend,), name="compiler").start()
        self.add_statistics = metrics.statistics(scorer.bundle.label)
        self._count = metrics.scored_rows(self.bundle.label, self.bundle.outcomes, self.bundle.task)

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "onnxruntime")

    async def score(self, rows: Matrix, deadline: Deadline = ENDLESS) -> ScoredRows:
        """Score n rows, float64 [n, F] in C order, which are acceptable ones (`Bounds`).

        Raises `ModelFailure` if there is no outcome of one (see `outcome.py`), and
        `DeadlineExceeded` if their turn comes too late.
        """
        started_ns = time.perf_counter_ns()
        if len(rows) <= INLINE_ROWS:
            deadline.check()
            margins = self._predictor.margins(rows)
        else:
            loop = asyncio.get_running_loop()
            try:
                margins = await loop.run_in_executor(self._thread, self._margins, rows, deadline)
            except ONNX_ERRORS as error:
                if any(words in str(error) for words in _NO_MEMORY):
                    raise MemoryError from None
                raise
        infer_ns = time.perf_counter_ns() - started_ns
        outputs: list[Any] = []
        for start in range(0, len(rows), SLICE_ROWS):
            if start:
                await asyncio.sleep(0)
            outputs += self._predictor.outputs(margins[start : start + SLICE_ROWS])
        await asyncio.sleep(0)
        verdicts = None
        if self.judge is not None:
            verdicts = self._predictor.verdicts(np.array(outputs), rows)
            await asyncio.sleep(0)
            outcomes = self.judge.outcomes(verdicts)
        else:
            outcomes = self._predictor.outcomes(np.array(outputs), rows)
        await asyncio.sleep(0)
        return ScoredRows(margins, outputs, outcomes, infer_ns, verdicts=verdicts)

    @contextmanager
    def numbered(self, scored: ScoredRows) -> Iterator[ScoredRows]:
        """The same with a number and an id; given back if the response cannot be made within."""
        sequence = self.scorer.take_sequence()
        with ExitStack() as stack:
            stack.callback(self.scorer.give_back, sequence)
            yield scored._replace(id=f"{self.scorer.instance_id}-{sequence}", sequence=sequence)
            stack.pop_all()

    async def apart(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of work on many rows, done in the thread of ONNX Runtime's."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _margins(self, rows: Matrix, deadline: Deadline) -> Margins:
        deadline.check()  # other requests' rows came first
        return self._margins_of(rows)

    def _compile(self, open_backend: OpenBackend) -> None:
        self._margins_of, note = open_backend(self.bundle, self._predictor)
        logger.info("%s: many rows are %s.", self.bundle.label, note)

    def members(self, scored: ScoredRows, first: int = 0, end: int | None = None) -> memoryview:
        """The JSON members of a response to rows `first` to `end`, without braces and without its id.

        No copy of them: with reasons they are 16 MB.
        """
        outputs, words = scored.outputs[first:end], self.bundle.outcomes
        named = [words[outcome] for outcome in scored.outcomes[first:end].tolist()]
        members: dict[str, Any] = {"model": self.bundle.label}
        if self.bundle.task == "binary":
            members |= {"probabilities": outputs, "decisions": named}
            if self.judge is not None and scored.verdicts is not None:
                members |= self.judge.columns(scored.verdicts[first:end].tolist())
        elif self.bundle.task == "multiclass":
            members |= {"probabilities": outputs, "predictions": named}
        else:
            members["predictions"] = outputs
        if scored.reasons:
            members["reasons"] = list(map(orjson.Fragment, scored.reasons[first:end]))
        if scored.row_ids:
            members[ROW_IDS] = list(map(orjson.Fragment, scored.row_ids[first:end]))
        return memoryview(orjson.dumps(members))[1:-1]

    async def record(self, texts: Iterable[bytes], rows: Matrix, scored: ScoredRows, started_ns: int) -> None:
        """Count the rows of one request and log them: before the response is sent.

        `texts` are the `rows`, float64 [n, F], as JSON objects. The log takes them in lines
        of at most `LINE_BYTES`, whose `input` is `{"rows": [...]}`, named as in `row_names`.
        In the log's strict mode either all lines are written or none, which raises `Unavailable`.
        Without memory for a line the response is not given, nor is the number of a line that is not there.
        """
        answered = self._answered(texts, scored, started_ns, time.perf_counter_ns())
        await asyncio.sleep(0)
        if self.scorer.is_strict:
            answered = self._written(answered, scored)
        self._count(scored.outputs, scored.outcomes)
        if not self.scorer.logs:
            return
        with ExitStack() as stack:
            if not self.scorer.is_strict:  # there every line is written by now
                stack.callback(self.scorer.give_back, scored.sequence)
            for piece in _scored_rows(rows, scored.outputs):
                self.scorer.log((), [piece])
                await asyncio.sleep(0)
            for one in answered:
                self.scorer.log([one])
                stack.pop_all()
                await asyncio.sleep(0)

    def _written(self, answered: Iterable[LoggedResponse], scored: ScoredRows) -> Iterator[LoggedResponse]:
        lines: list[LoggedResponse] = []
        try:
            lines.extend(answered)
            self.scorer.write(lines)
        except (OSError, MemoryError):
            self.scorer.give_back(*{scored.sequence, *(number for _, _, _, number, *_ in lines)})
            raise Unavailable("the prediction log cannot be written") from None
        return iter(lines)

    def _answered(
        self, texts: Iterable[bytes], scored: ScoredRows, began_ns: int, ended_ns: int
    ) -> Iterator[LoggedResponse]:
        """What the lines of one request are made of; a number is taken once nothing of its line can fail."""
        first = 0
        for part, chunk in enumerate(_chunks(map(self.scorer.logged_input, texts))):
            id_ = line_id(scored.id, part).encode()
            place = b',"%b":%d' % (FIRST_ROW.encode(), first) if part else b""
            members = bytes(self.members(scored, first, first + len(chunk)))
            line = b'{"id":"%b",%b%b%b}' % (id_, members, place, scored.identity)
            asked = b'{"rows":[%b]}' % b",".join(chunk)
            margins = RowMargins(scored.margins[first : first + len(chunk)].tobytes(), self.bundle.outputs)
            sequence = self.scorer.take_sequence() if part else scored.sequence
            yield began_ns, ended_ns, line, sequence, margins, asked
            first += len(chunk)


def _chunks(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for text in texts:
        if chunk and size + len(text) > LINE_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    yield chunk


def _scored_rows(rows: Matrix, outputs: Sequence[Any]) -> Iterator[bytes]:
    """Each row behind its score, of several classes the likeliest's, in pieces of about `LINE_BYTES`."""
    scores = np.array(outputs).reshape(len(rows), -1).max(axis=1, keepdims=True)
    step = max(1, LINE_BYTES // (8 * (1 + rows.shape[1])))
    for start in range(0, len(rows), step):
        yield np.hstack((scores[start : start + step], rows[start : start + step])).tobytes()


def row_texts(schema: Schema, rows: Matrix) -> Iterator[bytes]:
    """Each of n encoded rows, float64 [n, F], as the JSON object a client would send."""
    names = [orjson.dumps(name).replace(b"%", b"%%") for name in schema.names]
    template = b"{%b}" % b",".join(name + b":%b" for name in names)
    words = [
        (i, {b"%.1f" % code: orjson.dumps(word) for code, word in enumerate(feature.categories)})
        for i, feature in enumerate(schema.features)
        if feature.kind == "category"
    ]
    for start in range(0, len(rows), SLICE_ROWS):
        # orjson writes the shortest digits of each float64, and null for NaN.
        text = orjson.dumps(rows[start : start + SLICE_ROWS], option=orjson.OPT_SERIALIZE_NUMPY)
        for row in text[2:-2].split(b"],["):
            values = row.split(b",")
            for i, texts in words:
                values[i] = texts.get(values[i], b"null")
            yield template % tuple(values)
