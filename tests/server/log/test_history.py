"""What `GET /history` tells: every minute once, bounded, from any worker, whoever is killed."""

import mmap
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from loadtest.harness.instances import wait_until
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import observer_of
from server.log.history import AREAS, KEPT_MINUTES, Entries, History
from server.log.minutes import Minutes, quantile
from server.log.ring import Ring, ring_bytes
from server.log.stream import Tallies
from server.metrics.layout import SlotLayout
from server.metrics.row_counter import RowCounter
from server.metrics.shared import SharedMetrics, WorkerMetrics
from server.model.bundle import Bundle
from server.model.reference import read_reference
from tests.support import patient
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.monitored import monitored_bundle
from tests.support.servers import exchange, post, serving

pytestmark = pytest.mark.whole

#: Beside other work the observer takes its time.
PATIENCE = 60.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("history") / "three")


def test_entries_come_back_in_order_and_the_oldest_make_room() -> None:
    choose, memory = random.Random(3), mmap.mmap(-1, 8192)
    entries, reader = Entries(memory, 0, 8192), Entries(memory, 0, 8192)
    given: list[bytes] = []
    for minute in range(2000):
        given.append(choose.randbytes(choose.randrange(700)))
        entries.add(minute, given[-1])
        found = list(reader.since(0))
        assert found == given[-len(found) :]
        assert len(found) >= min(minute + 1, 4)
        assert list(reader.since(minute)) == found[-1:]
    entries.add(2000, choose.randbytes(5000))  # larger than half of the area: left out
    assert list(reader.since(0)) == found
    entries.add(2000 + KEPT_MINUTES, b"a day later")
    assert list(reader.since(0)) == [b"a day later"]


def test_what_is_written_over_while_it_is_read_is_not_told() -> None:
    memory = mmap.mmap(-1, 4096)
    entries, reader = Entries(memory, 0, 4096), Entries(memory, 0, 4096)
    for minute in range(4):
        entries.add(minute, random.Random(minute).randbytes(800))
    reading = reader.since(0)
    first = next(reading)
    for minute in range(4, 9):
        entries.add(minute, random.Random(minute).randbytes(800))
    assert first == random.Random(0).randbytes(800)
    assert all(content == random.Random(i).randbytes(800) for i, content in enumerate(reading, 1))


def test_quantiles_are_those_of_prometheus() -> None:
    bounds, counts = (1.0, 2.0, 4.0), np.array([10.0, 10.0, 0.0, 0.0])
    assert quantile(bounds, counts, 0.5) == 1.0
    assert quantile(bounds, counts, 0.75) == 1.5
    assert quantile(bounds, np.array([0.0, 0.0, 0.0, 5.0]), 0.5) == 4.0


def test_a_day_is_told_minute_by_minute_in_bounded_memory(bundle: Bundle) -> None:
    """Two workers, 1,500 minutes, an observer that is started again: each count in its minute, once."""
    reference = read_reference(bundle)
    assert reference is not None
    layout = SlotLayout([(bundle.label, bundle.outcomes)], {bundle.label: reference})
    layout.register_fields(bundle.label, bundle.schema.names)
    shared = SharedMetrics(layout, 2)
    workers = [WorkerMetrics(shared, worker) for worker in range(2)]
    plan = workers[0].drift_plan(bundle.label, bundle.schema.names, (), 1000)
    assert plan is not None
    model = {**workers[0].history_plan(bundle.label, bundle.outcomes), "drift": plan}
    history, tallies = History(History.make()), Tallies()
    rings = [Ring(mmap.mmap(-1, ring_bytes(4096)))]
    regions = np.frombuffer(shared._memory).reshape(2, -1)

    def observer() -> Minutes:
        return Minutes(layout.history_plan(), regions, rings, history, [model])

    row = np.array([[0.3, 20_000.0, 1.0, np.nan]]).tobytes()
    tally = tallies.of(bundle.label, plan["size"])
    counters = [RowCounter(plan, shared.region(worker), tally) for worker in range(2)]
    now = 60.0 * (time.time() // 60)
    minutes = observer()
    minutes._began = now
    for minute in range(1500):
        for worker in workers:
            worker.duration("/predict", "POST", "200")(30e-6)
            worker.scored(bundle.label, bundle.outcomes)(0.3, 0)
            worker.count_rejected(bundle.label, [("income", "range"), ("unheard of", "unknown")])
        for counter in counters:
            counter.count([row] * (1 + minute % 3))
        now += 60.0
        minutes.look(now, [model], tallies.by_label)
        if minute == 700:
            minutes = observer()
            minutes._began = now
    told = [orjson.loads(entry) for entry in history.minutes.since(0)]
    assert len(told) == KEPT_MINUTES
    assert len({minute["from"] for minute in told}) == KEPT_MINUTES
    for minute in told:
        assert minute["requests"] == {"/predict": {"200": 2}}
        assert minute["seconds"] == 60.0
        assert minute["slow"] == 0
        assert 20.0 <= minute["latency_us"]["/predict"]["p99"] <= 30.0
        of_model = minute["models"][bundle.label]
        assert of_model["answers"] == {bundle.outcomes[0]: 2}
        assert sum(of_model["scores"]) == 2
        assert of_model["refused"] == {"": 2, "income": 2}
    columns = [orjson.loads(entry)["models"][bundle.label] for entry in history.columns.since(0)]
    assert [sum(c["income"]["bins"]) for c in columns[-3:]] == [2 * (1 + m % 3) for m in (1497, 1498, 1499)]
    assert columns[-1]["owner"]["missing"] == sum(columns[-1]["income"]["bins"])
    assert sum(AREAS) <= 33 * 2**20


def _history(url: str, **parameters: Any) -> Any:
    with patient.client() as client:  # a new connection each time: of any worker
        return client.get(f"{url}/history", params=parameters).raise_for_status().json()


def test_any_worker_tells_of_all(bundle: Bundle, tmp_path: Path) -> None:
    rows = sample_rows(THREE_FEATURES, 40, seed=3)
    bad = {"income": "much", "wealth": 1}
    with serving(bundle.directory, tmp_path, "--workers", "2") as subject:
        for body in (*rows, bad):
            exchange(subject.url, post("/predict", orjson.dumps(body)))
        exchange(subject.url, post("/predict/batch", orjson.dumps({"rows": [*rows, bad]})))

        def told() -> dict[str, Any]:
            """All minutes together: the test may run over the end of one."""
            found = _history(subject.url)
            return {"bins": found["bins"], "all": [*found["minutes"], *filter(None, [found["running"]])]}

        def requests(code: str, route: str = "/predict") -> int:
            return sum(minute["requests"].get(route, {}).get(code, 0) for minute in told()["all"])

        def counts() -> tuple[int, int, int]:
            return requests("200"), requests("422"), requests("422", "/predict/batch")

        # Of each worker what it answered is told a moment later, of one before the other.
        wait_until(lambda: counts() == (len(rows), 1, 1), "the requests to be told", PATIENCE)
        for _ in range(4):
            assert counts() == (len(rows), 1, 1)
        refused = [m["models"].get(bundle.label, {}).get("refused", {}) for m in told()["all"]]
        assert sum(r.get("income", 0) for r in refused) == 2
        assert sum(r.get("", 0) for r in refused) == 2
        page = scrape(subject.url)
        for field, reason in (("income", "kind"), ("", "unknown")):
            assert total(page, "hotrow_refused_fields_total", field=field, reason=reason) == 2
        assert total(page, "hotrow_refused_fields_total") == 4
        assert set(told()["bins"][bundle.label]["columns"]) == set(THREE_FEATURES.names)
        victim = observer_of(subject.pid)
        victim.kill()
        exchange(subject.url, post("/predict", orjson.dumps(rows[0])))
        wait_until(lambda: observer_of(subject.pid).pid != victim.pid, "a successor", PATIENCE)
        wait_until(lambda: 0 < requests("200") <= 1 + len(rows), "the successor to tell", PATIENCE)
        assert patient.get(f"{subject.url}/history?minutes=1441").status_code == 400
        assert patient.get(f"{subject.url}/history?minutes=x").status_code == 400


def test_without_a_log_there_is_no_history(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, log_mode="off") as subject:
        told = _history(subject.url, minutes=1440)
    assert (told["log"], told["minutes"], told["columns"], told["running"]) == ("off", [], [], None)
