"""The metrics page: right with every number of workers, and after a death."""

import asyncio
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as text_parser
from prometheus_client.registry import Collector

from loadtest.harness.recording_client import Load
from loadtest.harness.reference_rows import scored
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import workers_of
from server.errors import UnacceptableRow
from server.metrics import exposition
from server.metrics.collector import MetricsCollector
from server.metrics.exposition import AT_ONCE, BURST, Exposition
from server.metrics.layout import SlotLayout
from server.metrics.names import CODES, METHODS, ROUTES
from server.metrics.shared import SharedMetrics, WorkerMetrics
from server.model.bounds import Bounds
from server.model.bundle import Bundle
from server.model.schema import Feature, Schema, name_in
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.monitored import monitored_bundle, send_all
from tests.support.servers import exchange, serving, system_tool

pytestmark = pytest.mark.whole

ROWS = sample_rows(THREE_FEATURES, 100, seed=2)
COUNTS = "hotrow_request_duration_seconds_count"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("metrics") / "three")


def test_a_scrape_gives_the_sum_of_all_workers() -> None:
    shared = SharedMetrics(SlotLayout([("m@1", ("a", "b"))]), 3)
    for worker in range(3):
        metrics = WorkerMetrics(shared, worker)
        observe = metrics.duration("/predict", "POST", "200")
        for _ in range(worker + 1):
            observe(0.00004)
        metrics.scored("m@1", ("a", "b"))(0.3, 1)
    page = generate_latest(MetricsCollector(shared, [{"name": "m", "version": "1", "sha256": "0"}]).registry)
    text = page.decode()
    assert 'hotrow_request_duration_seconds_count{code="200",method="POST",route="/predict"} 6.0' in text
    assert 'hotrow_predictions_total{decision="b",model="m@1"} 3.0' in text


def test_counters_go_on_where_a_dead_worker_left_them() -> None:
    shared = SharedMetrics(SlotLayout([("m@1", ("a", "b"))]), 1)
    WorkerMetrics(shared, 0).dropped("disk")()
    WorkerMetrics(shared, 0).dropped("disk")()
    assert shared.totals()[shared.layout.dropped["disk"]] == 2


def test_label_values_come_from_closed_sets() -> None:
    shared = SharedMetrics(SlotLayout([("m@1", ("a", "b"))]), 1)
    metrics = WorkerMetrics(shared, 0)
    for i in range(1000):
        metrics.duration(f"/random/{i}", f"VERB{i}", str(600 + i))(0.1)
    page = generate_latest(MetricsCollector(shared, [{"name": "m", "version": "1", "sha256": "0"}]).registry)
    lines = [line for line in page.decode().splitlines() if line.startswith(COUNTS)]
    lines = [line for line in lines if not line.endswith(" 0.0")]
    assert lines == [f'{COUNTS}{{code="other",method="other",route="other"}} 1000.0']
    assert len(ROUTES) * len(METHODS) * len(CODES) < 2000


def test_refusal_is_counted_by_its_own_status() -> None:
    """An alert on `4..` sees a key of another scope (403) and a missing log (409), too."""
    shared = SharedMetrics(SlotLayout([("m@1", ("a", "b"))]), 1)
    codes = ("400", "401", "403", "404", "408", "409", "413", "415", "422", "501", "503")
    for code in codes:
        WorkerMetrics(shared, 0).duration("/predict", "POST", code)(0.1)
    page = generate_latest(MetricsCollector(shared, [{"name": "m", "version": "1", "sha256": "0"}]).registry)
    for code in codes:
        assert f'{COUNTS}{{code="{code}",method="POST",route="/predict"}} 1.0' in page.decode().splitlines()


def test_promtool_finds_nothing_to_say(bundle: Bundle, tmp_path: Path) -> None:
    promtool = system_tool("promtool")
    with serving(bundle.directory, tmp_path) as subject:
        send_all(subject.url, ROWS)
        (page,) = exchange(subject.url, b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
    done = subprocess.run([promtool, "check", "metrics"], input=page.body, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_standard_process_and_python_metrics_are_there(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle.directory, tmp_path) as subject:
        names = {name for name, _ in scrape(subject.url)}
    standard = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"}
    assert standard | {"process_start_time_seconds", "python_info"} <= names
    assert {"hotrow_worker_cpu_seconds_total", "hotrow_worker_resident_memory_bytes"} <= names


def test_scrapes_go_on_and_no_counter_falls_when_a_worker_is_killed(bundle: Bundle, tmp_path: Path) -> None:
    with (
        serving(bundle.directory, tmp_path, "--workers", "2") as subject,
        Load(subject.url, scored([bundle], ROWS), pause=0.02) as clients,
    ):
        clients.wait_for(200)
        before = scrape(subject.url)
        for _ in range(3):
            victim = min(workers_of(subject.pid), key=lambda child: child.pid)
            os.kill(victim.pid, signal.SIGKILL)
            for _ in range(10):
                after = scrape(subject.url)
                fallen = [key for key in before if _counts(key[0]) and after.get(key, 0) < before[key]]
                assert not fallen
                before = after
                time.sleep(0.05)
        _wait_for_restarts(subject.url, 3)
    assert set(clients.records.statuses) == {200}


def _counts(name: str) -> bool:
    return name.endswith(("_total", "_bucket", "_count", "_sum"))


def _wait_for_restarts(url: str, deaths: int) -> None:
    end = time.monotonic() + 60
    while total(scrape(url), "hotrow_worker_restarts_total") < deaths and time.monotonic() < end:
        time.sleep(0.1)
    assert total(scrape(url), "hotrow_worker_restarts_total") == deaths


TEXT, OPENMETRICS = (
    "text/plain; version=0.0.4; charset=utf-8",
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("text/plain; version=x", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"', OPENMETRICS),
        ("application/openmetrics-text; version=abc", OPENMETRICS),
        ("Application/OpenMetrics-Text;version=1.0.0-beta;q=0.9,text/plain;q=0.8", OPENMETRICS),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.3", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=nonsense", TEXT),
        ('a"b\\,;=;;,q=,', TEXT),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1", OPENMETRICS),
    ],
)  # fmt: skip
def test_page_comes_in_one_of_two_formats(server: str, accept: str, expected: str) -> None:
    request = f"GET /metrics HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\n\r\n".encode()
    (answer,) = exchange(server, request)
    assert (answer.status, answer.headers["content-type"]) == (200, expected)
    assert answer.body.endswith(b"# EOF\n") == (expected == OPENMETRICS)
    assert answer.body.count(b"# EOF") == (expected == OPENMETRICS)
    assert b"# TYPE hotrow_requests_in_flight gauge" in answer.body


def test_pages_in_both_formats_are_what_the_library_makes(server: str) -> None:
    """Made a family at a time, they are read by Prometheus' own parsers."""
    for accept, parse in (("", text_parser), ("application/openmetrics-text", openmetrics_parser)):
        (answer,) = exchange(server, f"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n".encode())
        names = [family.name for family in parse(answer.body.decode())]
        assert len(names) == len(set(names)) > 10


def test_flood_of_scrapes_renders_few_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for together is one page; beyond a burst a page waits, and none is of before."""
    monkeypatch.setattr(exposition, "SECONDS_EACH", 3600.0)
    numbers = itertools.count()

    class Counted(Collector):
        def collect(self) -> Iterable[Metric]:
            yield GaugeMetricFamily("one", "A family.", value=float(next(numbers)))

    async def flood() -> list[bytes]:
        registry = CollectorRegistry()
        registry.register(Counted())
        pages = Exposition(registry)
        together = await asyncio.gather(*(pages.page("") for _ in range(500)))
        alone = [await pages.page("") for _ in range(BURST - 1)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pages.page(""), 0.05)
        return [page for page, _ in (*together, *alone)]

    found = asyncio.run(flood())
    assert len(set(found[:500])) == 1
    assert len(set(found)) == BURST


def test_event_loop_turns_while_a_long_family_is_rendered() -> None:
    class Long(Collector):
        def collect(self) -> Iterable[Metric]:
            family = GaugeMetricFamily("long", "A family.", labels=["number"])
            for number in range(20 * AT_ONCE + 1):
                family.add_metric([f"# {number}\n"], float(number))
            yield family

    async def page_and_turns(pages: Exposition, accept: str) -> tuple[bytes, int]:
        asked = asyncio.create_task(pages.page(accept))
        turns = 0
        while not asked.done():
            await asyncio.sleep(0)
            turns += 1
        return (await asked)[0], turns

    registry = CollectorRegistry()
    registry.register(Long())
    for accept, whole in (("", generate_latest), ("application/openmetrics-text", generate_openmetrics)):
        page, turns = asyncio.run(page_and_turns(Exposition(registry), accept))
        assert page == whole(registry)
        assert turns > 20


def test_why_a_field_is_refused_is_one_of_five_reasons() -> None:
    """Of rows as JSON and as numbers, on their way to a page of metrics."""
    whole = Feature("rooms", kind="integer", minimum=1, maximum=12, nullable=False)
    schema = Schema([*THREE_FEATURES.features, whole])
    layout = SlotLayout([])
    layout.register_fields("m@1", schema.names)
    shared = SharedMetrics(layout, 1)
    worker = WorkerMetrics(shared, 0)

    def count(refuse: Callable[[], object]) -> None:
        with pytest.raises(UnacceptableRow) as refused:
            refuse()
        worker.count_rejected("m@1", [(name_in(e.pointer), e.reason) for e in refused.value.errors])

    count(lambda: schema.encode({"income": "much", "contract": "barter", "wealth": 1}))  # and no rooms
    count(lambda: schema.encode({"income": -1e9, "contract": 7, "rooms": None}))
    count(lambda: schema.encode({"rooms": 1.5}))
    matrix = np.array([[9.0, np.nan, 0.0, 99.0], [9.0, np.nan, 0.0, np.nan], [9.0, 77.0, 0.0, 1.0]])
    count(lambda: Bounds(schema).check(matrix))
    (family,) = [
        f for f in MetricsCollector(shared, [{"name": "m"}]).collect() if f.name == "hotrow_refused_fields"
    ]
    told = {
        (s.labels["field"], s.labels["reason"]): s.value for s in family.samples if s.name.endswith("_total")
    }
    assert told == {
        **{("income", reason): 1 for reason in ("kind", "range", "missing")},
        ("contract", "kind"): 1,
        ("contract", "category"): 2,
        ("", "unknown"): 1,
        ("rooms", "missing"): 3,
        **{("rooms", reason): 1 for reason in ("kind", "range")},
    }
