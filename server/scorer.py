"""One request of one model, from the body's bytes to the answer's bytes."""

import secrets
import time
from collections.abc import Callable
from itertools import count

import orjson

from server.bundle import Bundle
from server.decoder import row_decoder
from server.errors import Unavailable
from server.log_line import LineFormat
from server.metrics import WorkerMetrics
from server.prediction_log import PredictionLog
from server.predictor import Predictor

Send = Callable[[bytes], None]


class Scorer:
    """Answers `/predict` for one model; made once per process, for one thread."""

    def __init__(self, bundle: Bundle, metrics: WorkerMetrics, log: PredictionLog | None) -> None:
        self.bundle = bundle
        self.predictor = Predictor(bundle)
        self.decode = row_decoder(bundle.schema)
        # Unique per process: 48 random bits; the number after it is the log's seq.
        self.boot_id = secrets.token_hex(6)
        self._predict = self.predictor.predict
        self._sequence = count(1).__next__
        self._head = f'{{"id":"{self.boot_id}-'.encode()
        model = orjson.dumps(bundle.label)
        decisions = (bundle.decision.below, bundle.decision.otherwise)
        self._tails = tuple(b',"decision":%b,"model":%b}' % (orjson.dumps(d), model) for d in decisions)
        self._count = metrics.scored(bundle.label)
        self._format = LineFormat()
        self._log = log
        self.answer = self._answer_logged_first if log is not None and log.strict else self._answer

    def _answer(self, body: bytes, send: Send, started_ns: int) -> None:
        """Score one JSON object and send the answer's bytes.

        `started_ns` is the `perf_counter_ns` at which the request was whole. Raises
        the `Problem` to answer with instead: `MalformedBody`, `UnacceptableRow`,
        `ModelFailure` or, in the log's strict mode, `Unavailable`.
        """
        probability, decision = self._predict(self.decode(body))
        sequence = self._sequence()
        content = self._content(sequence, probability, decision)
        send(content)
        # The client has its answer; what follows is ours.
        self._count(probability, decision)
        if self._log is not None:
            ended_ns = time.perf_counter_ns()
            self._log.append(self._format.line(started_ns, ended_ns, content[1:-1], sequence, body))

    def _answer_logged_first(self, body: bytes, send: Send, started_ns: int) -> None:
        """`answer` in the log's strict mode: no line, no answer."""
        assert self._log is not None
        probability, decision = self._predict(self.decode(body))
        sequence = self._sequence()
        content = self._content(sequence, probability, decision)
        ended_ns = time.perf_counter_ns()
        try:
            self._log.append(self._format.line(started_ns, ended_ns, content[1:-1], sequence, body))
        except OSError:
            raise Unavailable("the prediction log cannot be written") from None
        send(content)
        self._count(probability, decision)

    def _content(self, sequence: int, probability: float, decision: int) -> bytes:
        # orjson writes the shortest digits that parse back to the same float64.
        return b'%b%d","probability":%b%b' % (
            self._head,
            sequence,
            orjson.dumps(probability),
            self._tails[decision],
        )
