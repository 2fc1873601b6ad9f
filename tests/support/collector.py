"""A collector of OpenTelemetry for the tests: it reads what comes with the official messages."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class TakenSpan(NamedTuple):
    """A span as the collector has it, with the attributes of its resource."""

    span: Any
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector(ThreadingHTTPServer):
    """Takes spans while `status` is 200, answers with `status` otherwise, and not at all without one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[TakenSpan] = []
        self.headers: list[dict[str, str]] = []
        self.status: int | None = 200
        self.posts = 0
        self.released = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Take the body of a request; the status to answer with."""
        self.posts += 1
        if self.status is None:
            self.released.wait(60.0)
            return 503
        if self.status == 200:
            assert path == "/v1/traces"
            self.headers.append(headers)
            packed = headers.get("content-encoding") == "gzip"
            self.spans += spans_of(gzip.decompress(body) if packed else body)
        return self.status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.send_response(self.server.take(self.path, headers, body))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def spans_of(body: bytes) -> Iterator[TakenSpan]:
    """The spans of an `ExportTraceServiceRequest`."""
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for scope in of_resource.scope_spans:
            yield from (TakenSpan(span, _attributes(span.attributes), resource) for span in scope.spans)


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield collector
    finally:
        collector.released.set()
        collector.shutdown()
        thread.join()
        collector.server_close()
