"""Spans that a collector takes: of which requests, what they say, and that nothing waits for a collector."""

import json
import mmap
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_parser

from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import Subject
from loadtest.harness.target import started
from server.log.ring import SPAN, Ring, ring_bytes
from server.metrics.layout import SlotLayout
from server.metrics.names import route_label
from server.tracing.exporter import Sender
from server.tracing.settings import trace_settings
from server.tracing.span_text import request_line
from server.tracing.spans import Spans, span_head
from tests.support.bundles import ROW
from tests.support.collector import Collector, TakenSpan, collecting
from tests.support.servers import eventually

TRACES = [f"{number:032x}" for number in range(1, 200)]
PARENT = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traced")


@pytest.fixture(scope="module")
def server(three: Path, folder: Path, collector: Collector) -> Iterator[Subject]:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=lending",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with started(three, folder, environment=environment) as subject:
        yield subject


@pytest.fixture(scope="module")
def client(server: Subject) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60.0) as client:
        yield client


def traced(
    client: httpx.Client, path: str, trace: str, document: object = ROW, flags: str = "01"
) -> httpx.Response:
    return client.post(path, json=document, headers={"traceparent": f"00-{trace}-{PARENT}-{flags}"})


def command_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # it ended
        return []


def lines_in(folder: Path) -> list[str]:
    return [line for file in folder.glob("logs/*.jsonl") for line in file.read_text().splitlines()]


def span_of(collector: Collector, trace: str) -> TakenSpan:
    def found() -> list[TakenSpan]:
        return [taken for taken in collector.spans if taken.span.trace_id.hex() == trace]

    eventually(lambda: bool(found()))
    (span,) = found()
    return span


def test_spans_of_sampled_parents_say_what_was_asked_and_answered(
    client: httpx.Client, collector: Collector
) -> None:
    answers = {
        TRACES[0]: traced(client, "/predict", TRACES[0]),  # the parser's, which learns the head
        TRACES[1]: traced(client, "/predict", TRACES[1], flags="03"),
        TRACES[2]: traced(client, "/models/three/predict", TRACES[2]),
        TRACES[3]: traced(client, "/predict", TRACES[3], {"income": "much"}),
        TRACES[4]: traced(client, "/predict/batch", TRACES[4], {"rows": [ROW, ROW]}),
        TRACES[5]: client.get("/nothing here", headers={"traceparent": f"00-{TRACES[5]}-{PARENT}-01"}),
    }
    assert traced(client, "/predict", TRACES[6], flags="00").status_code == 200
    assert client.post("/predict", json=ROW).status_code == 200
    assert client.post("/predict", json=ROW, headers={"traceparent": "00-ab"}).status_code == 200
    traced(client, "/predict", TRACES[7])
    span_of(collector, TRACES[7])
    said = {}
    for trace, answer in answers.items():
        taken = span_of(collector, trace)
        span, attributes = taken.span, taken.attributes
        assert (span.parent_span_id.hex(), len(span.span_id), span.kind) == (PARENT, 8, 2)
        assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 60e9
        assert attributes["http.response.status_code"] == answer.status_code
        assert taken.resource["service.name"] == "hotrow"
        assert taken.resource["deployment.environment.name"] == "test"
        if answer.status_code == 200 and "decision" in answer.json():
            document = answer.json()
            told = {name: attributes[f"hotrow.{name}"] for name in ("id", "model", "decision")}
            assert told == {name: document[name] for name in told}
        said[trace] = (span.name, attributes.get("http.route"), attributes["url.path"], span.status.code)
    assert list(said.values()) == [
        ("POST /predict", "/predict", "/predict", 0),
        ("POST /predict", "/predict", "/predict", 0),
        ("POST /models/{name}/predict", "/models/{name}/predict", "/models/three/predict", 0),
        ("POST /predict", "/predict", "/predict", 0),
        ("POST /predict/batch", "/predict/batch", "/predict/batch", 0),
        ("GET", None, "/nothing%20here", 0),
    ]
    traces = {taken.span.trace_id.hex() for taken in collector.spans}
    assert traces == {*answers, TRACES[7]}  # neither the unsampled nor those without a parent
    assert len({taken.span.span_id for taken in collector.spans}) == len(collector.spans)
    assert {headers["x-tenant"] for headers in collector.headers} == {"lending"}


def test_openmetrics_links_a_bucket_to_its_latest_trace(client: httpx.Client, collector: Collector) -> None:
    traced(client, "/predict", TRACES[10])
    span = span_of(collector, TRACES[10]).span

    def exemplars() -> dict[str, str]:
        page = client.get("/metrics", headers={"accept": "application/openmetrics-text"}).text
        families = openmetrics_parser(page)  # type: ignore[no-untyped-call]
        samples = [sample for family in families for sample in family.samples]
        return {s.exemplar.labels["trace_id"]: s.exemplar.labels["span_id"] for s in samples if s.exemplar}

    eventually(lambda: TRACES[10] in exemplars())
    assert exemplars()[TRACES[10]] == span.span_id.hex()
    assert TRACES[10] not in client.get("/metrics").text


def test_a_collector_that_refuses_or_hangs_costs_spans_and_nothing_else(
    client: httpx.Client, server: Subject, collector: Collector, folder: Path
) -> None:
    def became(result: str) -> float:
        return total(scrape(server.url), "hotrow_spans_total", result=result)

    eventually(lambda: became("exported") == len(collector.spans))
    failed, collector.status = became("failed"), 500
    assert traced(client, "/predict", TRACES[20]).status_code == 200
    eventually(lambda: became("failed") == failed + 1)
    # An answer is never waited for by those who ask for rows, nor by the log.
    collector.status, posts = None, collector.posts
    for trace in TRACES[21:60]:
        assert traced(client, "/predict", trace).status_code == 200
    eventually(lambda: collector.posts > posts)
    wanted = set(TRACES[21:60])
    eventually(lambda: wanted <= {json.loads(line).get("trace_id") for line in lines_in(folder)})
    collector.status = 200
    collector.released.set()


def test_the_sender_is_started_again(client: httpx.Client, server: Subject, collector: Collector) -> None:
    def senders() -> list[psutil.Process]:
        below = psutil.Process(server.pid).children(recursive=True)
        return [process for process in below if "server.tracing.exporter" in command_of(process)]

    eventually(lambda: len(senders()) == 1)  # the observer starts it when it has time
    (first,) = senders()
    first.send_signal(signal.SIGKILL)
    eventually(lambda: bool(found := senders()) and found[0].pid != first.pid)
    traced(client, "/predict", TRACES[70])
    span_of(collector, TRACES[70])


def test_without_a_parent_a_request_begins_a_trace(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Ring(mmap.mmap(-1, ring_bytes(2**16)))
    spans = Spans(ring.writer(), SPAN, pytest.fail, share=1.0)
    assert spans.takes(b"")
    assert not spans.takes(f"00-{TRACES[80]}-{PARENT}-02".encode())
    paths = {"/v2/models/a\nb/infer": "500", "/models/x/versions/2/predict": "503"}
    for path, status in paths.items():
        spans.note(b"", span_head("POST", path, status, route_label(path)), b"id\n1\n2\n", 1000, 3000)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "lending")
    layout = SlotLayout([("m@1", ("a", "b"))])
    values = memoryview(bytearray(layout.slots * 8)).cast("d")
    noted = ring.take(2**16).spans
    content = b"".join(request_line(began, ended - began, text) for began, ended, text in noted)
    Sender(layout.tracing_plan(), values).send([*content.splitlines(), b"no span"])
    taken = [taken for taken in collector.spans if taken.resource["service.name"] == "lending"]
    assert [(t.span.name, t.attributes["url.path"], t.attributes["error.type"]) for t in taken] == [
        ("POST /v2/models/{name}/infer", "/v2/models/a%0Ab/infer", "500"),
        ("POST /models/{name}/predict", "/models/x/versions/2/predict", "503"),
    ]
    assert len({t.span.trace_id for t in taken}) == 2
    assert {(t.span.parent_span_id, t.span.status.code) for t in taken} == {(b"", 2)}
    assert [values[slot] for slot in layout.spans.values()] == [2, 1, 0, 0]


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, 0.0),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/v1/traces"}, 0.0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, None),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_SAMPLER": "parentbased_always_on"},
            1.0,
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.25",
            },
            0.25,
        ),
    ],
)
def test_variables_say_which_requests_have_spans(environment: dict[str, str], share: float | None) -> None:
    found = trace_settings(environment)
    assert (found and found.share) == share


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318", "OTEL_EXPORTER_OTLP_ENDPOINT to be a URL"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1", "OTEL_EXPORTER_OTLP_ENDPOINT to be a URL"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL to be http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER to be otlp or none, got 'zipkin'"),
        ("OTEL_TRACES_SAMPLER", "xray", "OTEL_TRACES_SAMPLER to be one of parentbased_always_off"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "OTEL_TRACES_SAMPLER_ARG to be a share between 0 and 1, got '2'"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan", "got 'nan'"),
    ],
)
def test_what_cannot_be_had_is_said_and_ends_nothing(
    name: str, value: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    usual = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    }
    assert trace_settings({**usual, name: value}) is None
    assert words in caplog.text
