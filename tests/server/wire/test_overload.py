"""More requests than a worker answers at once: shed before they cost, and told when to come back."""

import resource
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import orjson
import psutil
import pytest

from loadtest.harness.http_bytes import get
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import Subject, python
from loadtest.harness.target import started
from server.errors import MemoryExhausted
from server.scoring.address_space import check_address_space
from server.scoring.in_flight import SMALL_BYTES
from tests.server.wire.test_wire import VECTORS, read_until_closed
from tests.support.bundles import ROW
from tests.support.servers import RawResponse, address, exchange, post, serving

pytestmark = pytest.mark.whole

BATCH = post("/predict/batch", orjson.dumps({"rows": [ROW]}))
TENSORS = post("/v2/models/three/infer", b"{}")
#: One that takes the way through the parser, as all do that are not eligible.
INELIGIBLE = post("/predict/batch", b"{}", "TE: trailers")


def full_server(model: Path, folder: Path, places: int, **settings: str) -> AbstractContextManager[Subject]:
    """A server with so many batches in flight, which never end, and room for no more."""
    command = python("-m", "tests.support.full_server", "rows", str(places))
    return started(model, folder, (), {"max_inflight": str(places), **settings}, command=command)


@pytest.fixture(scope="module", params=["on", "off"])
def full(
    request: pytest.FixtureRequest, three: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server with as many batches in flight as it takes, with the fast path and without."""
    with full_server(three, tmp_path_factory.mktemp("full"), 3, fast_path=request.param) as subject:
        yield subject.url


def statuses(answers: list[RawResponse]) -> list[int]:
    return [answer.status for answer in answers]


@pytest.mark.parametrize("request_", [BATCH, INELIGIBLE, TENSORS], ids=["eligible", "ineligible", "tensors"])
def test_request_beyond_the_limit_is_told_when_to_come_back(full: str, request_: bytes) -> None:
    before = total(scrape(full), "hotrow_shed_total", reason="inflight")
    answer, *_ = exchange(full, request_)
    assert answer.status == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    document = orjson.loads(answer.body)
    assert document["error"] if request_ is TENSORS else document["status"] == 503
    assert total(scrape(full), "hotrow_shed_total", reason="inflight") == before + 1


def test_refusals_are_counted_by_their_route(full: str) -> None:
    def count() -> float:
        labels = {"route": "/predict/batch", "method": "POST", "code": "503"}
        return total(scrape(full), "hotrow_request_duration_seconds_count", **labels)

    before = count()
    exchange(full, BATCH, INELIGIBLE)
    assert count() == before + 2


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"])
def test_health_and_metrics_are_exempt(full: str, path: str) -> None:
    assert statuses(exchange(full, get(path)))[0] == 200
    assert statuses(exchange(full, post(path, b"{}")))[0] == 405


@pytest.mark.parametrize("way", ["", "TE: trailers"], ids=["eligible", "ineligible"])
@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_one_kind_that_is_full_refuses_none_of_another(full: str, path: str, way: str) -> None:
    asked = post(path, orjson.dumps(ROW), *filter(None, [way]))
    assert statuses(exchange(full, asked, get("/model")))[:2] == [200, 200]


@pytest.mark.parametrize(
    "pieces",
    [
        (BATCH, BATCH, get("/livez")),
        (BATCH + BATCH + get("/livez"),),
        (BATCH[:-5], BATCH[-5:] + BATCH[:-20], BATCH[-20:] + get("/livez")),
        (BATCH[:20], BATCH[20:] + BATCH, get("/livez")),
        (BATCH[:-5], BATCH[-5:] + INELIGIBLE, get("/livez")[:9], get("/livez")[9:]),
    ],
    ids=["one by one", "in one piece", "in parts", "head in parts", "parser behind"],
)
def test_what_lies_behind_a_refused_request_is_read(full: str, pieces: tuple[bytes, ...]) -> None:
    assert statuses(exchange(full, *pieces))[:3] == [503, 503, 200]


@pytest.mark.parametrize("name", VECTORS)
def test_raw_vector_is_judged_before_it_is_shed(full: str, name: str) -> None:
    data, status = VECTORS[name]
    answers = exchange(full, data)
    if status in (400, 408, 414, 417, 431, 501) and name != "line ends in the path":
        assert statuses(answers) == [status]
        assert answers[0].headers["connection"] == "close"
    else:
        assert answers[0].status in (status, 503)


def test_body_of_a_refused_request_has_a_deadline(three: Path, tmp_path: Path) -> None:
    with (
        full_server(three, tmp_path, 1, request_timeout_seconds="1") as subject,
        socket.create_connection(address(subject.url), 60) as connection,
    ):
        connection.sendall(BATCH[:-5])
        received = read_until_closed(connection)
    # It has its answer: a second one would be taken for that to the next request.
    assert received.startswith(b"HTTP/1.1 503")
    assert received.count(b"HTTP/1.1") == 1


def test_large_bodies_take_turns_and_beyond_those_that_may_wait_are_shed(three: Path, tmp_path: Path) -> None:
    rows = [ROW | {"income": float(1000 + i)} for i in range(2000)]
    large = post("/predict/batch", orjson.dumps({"rows": rows}))
    assert len(large) > SMALL_BYTES
    with serving(three, tmp_path, max_inflight="8") as subject, ThreadPoolExecutor(24) as pool:

        def ask(_: int) -> RawResponse:
            return exchange(subject.url, large)[0]

        answers = list(pool.map(ask, range(96)))
        assert set(statuses(answers)) == {200, 503}
        good = [orjson.loads(answer.body)["probabilities"] for answer in answers if answer.status == 200]
        assert all(probabilities == good[0] for probabilities in good)
        page = scrape(subject.url)
        assert total(page, "hotrow_predictions_total") == 2000 * len(good)
        assert total(page, "hotrow_shed_total", reason="inflight") == len(answers) - len(good)
        assert total(page, "hotrow_requests_in_flight") == 1  # the scrape itself


def test_of_the_largest_bodies_at_once_some_are_answered_and_all_are_told(
    three: Path, tmp_path: Path
) -> None:
    rows = orjson.dumps({"rows": [ROW] * 1000})[:-1]
    largest = post("/predict/batch", rows + b" " * (2**24 - len(rows) - 1) + b"}")
    with serving(three, tmp_path) as subject, ThreadPoolExecutor(8) as pool:
        for senders in (2, 4, 8):  # two fit; of more each would push all others out
            crowd = [pool.submit(exchange, subject.url, largest) for _ in range(senders)]
            seen = Counter(statuses([one.result()[0] for one in crowd]))
            assert seen[200] >= 1, seen
            assert seen[200] + seen[503] == senders, seen


def test_small_requests_are_answered_while_large_bodies_wait_and_are_shed(
    three: Path, tmp_path: Path
) -> None:
    large = post("/predict/batch", orjson.dumps({"rows": [ROW] * 10_000}))
    small = (BATCH, INELIGIBLE.replace(b"{}", b"[]"), get("/model"), get("/v2/models/three/ready"))
    with serving(three, tmp_path, max_inflight="64") as subject, ThreadPoolExecutor(24) as pool:
        crowd = [pool.submit(exchange, subject.url, large) for _ in range(120)]
        seen = []
        while not all(one.done() for one in crowd):
            seen.append([exchange(subject.url, one)[0].status for one in small])
        assert {503} < set(statuses([one.result()[0] for one in crowd])) <= {200, 503}
        assert seen
        assert all(row == [200, 422, 200, 200] for row in seen), seen


def test_body_that_is_too_long_to_be_read_ends_the_connection_of_a_refused_request(full: str) -> None:
    endless = post("/predict/batch", b"")[:-2].replace(b"Length: 0", b"Length: 1000000000000") + b"\r\n"
    with socket.create_connection(address(full), 60) as connection:
        connection.sendall(endless + bytes(1000))
        received = read_until_closed(connection)
    assert received.startswith(b"HTTP/1.1 503")
    assert b"connection: close" in received.lower()


def test_room_in_a_limited_address_space_is_looked_at_before_the_work() -> None:
    """A library that does not look whether it gets memory would end the process."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    check_address_space(2**60)  # without a limit the kernel decides
    mapped = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**30, before[1]))
    try:
        check_address_space(2**26)
        with pytest.raises(MemoryExhausted):
            check_address_space(2**29)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_batch_without_memory_is_503_and_the_next_is_answered(three: Path, tmp_path: Path) -> None:
    large = post("/predict/batch", orjson.dumps({"rows": [ROW] * 10_000}))
    unlimited = resource.RLIM_INFINITY
    with serving(three, tmp_path) as subject:
        assert statuses(exchange(subject.url, BATCH))[0] == 200
        mapped = psutil.Process(subject.pid).memory_info().vms
        resource.prlimit(subject.pid, resource.RLIMIT_AS, (mapped + 2**21, unlimited))
        seen = {status for _ in range(10) for status in statuses(exchange(subject.url, large))[:1]}
        resource.prlimit(subject.pid, resource.RLIMIT_AS, (unlimited, unlimited))
        assert 503 in seen
        assert seen <= {200, 413, 503}
        assert statuses(exchange(subject.url, large))[0] == 200
    assert "Traceback" not in (tmp_path / "server.log").read_text()
