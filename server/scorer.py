"""One request of one model, from the body's bytes to the answer's bytes."""

import os
import secrets
import time
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import orjson
import psutil

from server.bundle import Bundle
from server.decoder import row_decoder
from server.metrics import WorkerMetrics
from server.prediction_log import PredictionLog
from server.predictor import Predictor

SAMPLE_SECONDS = 1.0


class Answer(NamedTuple):
    """An answer with what its metrics and its log line need."""

    content: bytes
    sequence: int
    probability: float
    decision: str
    seconds: float


class Scorer:
    """Answers `/predict` for one model; made once per process.

    `answer` decodes, predicts and encodes; `record` counts and logs, once the
    client has its answer. Both run on the event loop's thread.
    """

    def __init__(self, bundle: Bundle, metrics: WorkerMetrics, log: PredictionLog | None) -> None:
        self.bundle = bundle
        self.predictor = Predictor(bundle)
        self.decode = row_decoder(bundle.schema)
        self.log = log
        # Unique per process: 48 random bits; the number after it is the log's seq.
        self.boot_id = secrets.token_hex(6)
        self._sequence = count(1).__next__
        model = bundle.label
        self._observe = metrics.probability(model)
        decisions = (bundle.decision.below, bundle.decision.otherwise)
        self._count: dict[str, Callable[[], None]] = {d: metrics.prediction(model, d) for d in decisions}
        self._tail = {
            d: b',"decision":%b,"model":%b}' % (orjson.dumps(d), orjson.dumps(model)) for d in decisions
        }
        self._head = f'{{"id":"{self.boot_id}-'.encode()
        self._clock = LineClock()
        self._usage = UsageSample()

    def answer(self, body: bytes) -> Answer:
        """Score one JSON object.

        Raises the `Problem` to answer with: `MalformedBody`, `UnacceptableRow`
        or `ModelFailure`.
        """
        started = time.perf_counter()
        _, probability, decision = self.predictor.predict(self.decode(body))
        sequence = self._sequence()
        content = b'%b%d","probability":%a%b' % (self._head, sequence, probability, self._tail[decision])
        return Answer(content, sequence, probability, decision, time.perf_counter() - started)

    def record(self, body: bytes, answer: Answer) -> None:
        """Count one answer and queue its log line."""
        self._observe(answer.probability)
        self._count[answer.decision]()
        if self.log is not None:
            self.log.append(self._line(body, answer))

    def _line(self, body: bytes, answer: Answer) -> bytes:
        if b"\n" in body or b"\r" in body:
            body = body.translate(_LINE_BREAKS_TO_SPACES)
        return b'{"ts":"%b",%b,"seq":%d,"input":%b,"duration_us":%.1f,%b}\n' % (
            self._clock.now(),
            answer.content[1:-1],
            answer.sequence,
            body,
            answer.seconds * 1e6,
            self._usage.members(),
        )


#: JSON allows raw line breaks only between tokens, where a space means the same.
_LINE_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


class LineClock:
    """The time as RFC 3339 in UTC with microseconds; the calendar part is made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = b""

    def now(self) -> bytes:
        """For example `2026-11-23T09:42:45.000123Z`."""
        nanoseconds = time.time_ns()
        second, rest = divmod(nanoseconds, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%06dZ" % (self._prefix, rest // 1000)


class UsageSample:
    """CPU and memory of this process for the log, read at most once a second (18 us)."""

    def __init__(self) -> None:
        self._process = psutil.Process(os.getpid())
        self._process.cpu_percent()
        self._next = 0.0
        self._members = b""

    def members(self) -> bytes:
        """`"cpu_percent":…,"rss_mb":…` as they stand in a log line."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + SAMPLE_SECONDS
            rss_mb = self._process.memory_info().rss / 2**20
            self._members = b'"cpu_percent":%.1f,"rss_mb":%.1f' % (self._process.cpu_percent(), rss_mb)
        return self._members
