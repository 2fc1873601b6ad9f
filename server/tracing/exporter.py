"""The process that sends spans: it reads what the observer hands on, and sends it in batches by OTLP.

`python -m server.tracing.exporter METRICS PLAN`, started by the observer (`server/tracing/outlet.py`). It
ends when nobody holds the other end of its standard input any more, and has then sent what was
left. What encodes, sends and tries again is OpenTelemetry's own exporter, which reads where
to, headers, certificates, compression and time from the environment. While it waits for a
collector, the pipe fills, and the observer drops.
"""

import logging
import mmap
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from server.metrics.exemplar_table import ExemplarTable
from server.metrics.names import REQUEST_LABELS
from server.tracing.span_text import FinishedRequest, read_request
from server.version import VERSION

logger = logging.getLogger(__name__)

#: Behind workers and observer, but not so far that it would get nothing where others use the processors.
LOW_PRIORITY = 5
_READ_BYTES = 2**16
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Collected(SpanProcessor):
    """Keeps the spans that ended, until they are taken."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def take(self) -> list[ReadableSpan]:
        spans, self._spans = self._spans, []
        return spans


class LastWords(logging.Handler):
    """Keeps what OpenTelemetry's exporter said last: it says so with every batch."""

    words = "no answer"

    def emit(self, record: logging.LogRecord) -> None:
        self.words = record.getMessage()


class Sender:
    """Makes spans of requests and sends them; says what became of them in the shared metrics."""

    def __init__(self, plan: dict[str, Any], values: "memoryview[float]") -> None:
        self._slots: dict[str, int] = plan["slots"]
        self._values = values
        self._exemplars = ExemplarTable(values, plan["exemplars"])
        self._exemplars.clear()  # where those of a process before lie is not known any more
        self._histograms = {
            labels: plan["durations"] + number * (len(plan["bounds"]) + 2)
            for number, labels in enumerate(REQUEST_LABELS)
        }
        self._bounds: Sequence[float] = plan["bounds"]
        self._collected = Collected()
        provider = TracerProvider(sampler=ALWAYS_ON, resource=resource(), shutdown_on_exit=False)
        provider.add_span_processor(self._collected)
        self._tracer = provider.get_tracer("hotrow", VERSION)
        self._exporter: SpanExporter = OTLPSpanExporter()
        self._said = LastWords()
        others = logging.getLogger("opentelemetry")
        others.propagate, others.handlers = False, [self._said]
        self._failed = False

    def send(self, lines: Sequence[bytes]) -> None:
        """Send the spans of some lines, and wait until they are sent or have failed."""
        requests = [read for line in lines if (read := read_request(line)) is not None]
        for request in requests:
            self._make(request)
        spans = self._collected.take()
        is_sent = bool(spans) and self._exporter.export(spans) is SpanExportResult.SUCCESS
        self._values[self._slots["exported"]] += len(spans) if is_sent else 0
        self._values[self._slots["failed"]] += len(lines) - (len(spans) if is_sent else 0)
        if is_sent:
            for request, span in zip(requests, spans, strict=True):
                self._exemplify(request, span)
        if spans and self._failed == is_sent:  # once a failure, not once a batch
            self._failed = not is_sent
            if is_sent:
                logger.info("Spans are sent again.")
            else:
                logger.error("Spans cannot be sent and are dropped: %s", self._said.words)

    def _make(self, request: FinishedRequest) -> None:
        parent = Context()
        if request.trace_id:
            flags = trace.TraceFlags(request.flags)
            remote = trace.SpanContext(request.trace_id, request.parent_id, True, flags)
            parent = trace.set_span_in_context(trace.NonRecordingSpan(remote), parent)
        span = self._tracer.start_span(
            request.name,
            parent,
            trace.SpanKind.SERVER,
            request.attributes,
            start_time=request.began_ns,
        )
        if request.has_failed:
            span.set_status(trace.StatusCode.ERROR)
        span.end(request.began_ns + request.took_ns)

    def _exemplify(self, request: FinishedRequest, span: ReadableSpan) -> None:
        first, context = self._histograms.get(request.labels), span.get_span_context()
        if first is not None and context is not None:
            seconds, ended = request.took_ns / 1e9, (request.began_ns + request.took_ns) / 1e9
            self._exemplars.keep(first, self._bounds, seconds, ended, context.trace_id, context.span_id)


def resource() -> Resource:
    """What the environment says of this service; its name is `hotrow` unless it says another."""
    found = Resource.create({SERVICE_VERSION: VERSION})
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return found.merge(Resource({SERVICE_NAME: "hotrow"}))
    return found


def batches(source: int, most: int, seconds: float) -> Iterator[list[bytes]]:
    """The lines that come from a descriptor, so many at most together, none kept for longer."""
    rest, lines, since, is_open = b"", list[bytes](), 0.0, True
    while is_open or lines:
        wait = max(0.0, since + seconds - time.monotonic()) if lines else None
        if is_open and len(lines) < most and select.select([source], [], [], wait)[0]:
            read = os.read(source, _READ_BYTES)
            is_open = bool(read)
            *whole, rest = (rest + read).split(b"\n")
            since = since if lines else time.monotonic()
            lines += whole
            continue
        yield lines[:most]
        lines = lines[most:]


def _number(name: str, default: int) -> int:
    """A variable of the environment that is a whole number."""
    text = os.environ.get(name, "").strip()
    if text.isascii() and text.isdigit():
        return int(text)
    if text:
        logger.error("expected %s to be a whole number, got %r: it is taken for %d", name, text, default)
    return default


def main(metrics: int, plan: str) -> None:
    """Send what comes until nothing can."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for number in _IGNORED:  # of the whole group: the observer ends first
        signal.signal(number, signal.SIG_IGN)
    os.nice(LOW_PRIORITY)
    sender = Sender(orjson.loads(plan), memoryview(mmap.mmap(metrics, 0)).cast("d"))
    most = max(1, _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512))
    for lines in batches(sys.stdin.fileno(), most, _number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000):
        sender.send(lines)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
