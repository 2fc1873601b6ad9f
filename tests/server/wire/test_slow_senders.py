"""Who sends slowly, much, or too much: harms no one else, and gets its answer."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import orjson
import psutil
import pytest

from loadtest.harness.http_bytes import get
from loadtest.harness.instances import wait_until
from loadtest.harness.subject import Subject
from server.wire.memory_holders import MemoryHolders
from tests.server.wire.test_wire import more, read_until_closed, readable
from tests.support.bundles import ROW
from tests.support.servers import address, exchange, post, serving

pytestmark = pytest.mark.whole

BODY = orjson.dumps(ROW)
BATCH = orjson.dumps({"rows": [ROW]})
#: One request of each kind and way.
ASKED = {
    "row": post("/predict", BODY),
    "row with a deadline": post("/predict", BODY, "X-Request-Timeout-Ms: 20000"),
    "row of a model": post("/models/three/predict", BODY, "TE: trailers"),
    "batch": post("/predict/batch", BATCH),
    "explanation": post("/explain", BODY),
    "tensors": post("/v2/models/three/infer", b'{"inputs":[]}'),
    "model": get("/model"),
    "readiness": get("/readyz"),
    "metrics": get("/metrics"),
}


def unfinished(path: str, size: int, sent: int = 1) -> bytes:
    """A request of which the end does not come."""
    return post(path, b" " * size)[: -(size - sent)]


@contextlib.contextmanager
def open_connections(url: str, count: int, data: bytes) -> Iterator[list[socket.socket]]:
    """Connections on which this was sent."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(address(url), 60))
            connection.sendall(data)
            connections.append(connection)
        yield connections


@pytest.fixture(scope="module")
def besieged(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that takes 16 requests of a kind, with slow senders to every route."""
    crowd = 75 if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2000 else 250
    folder = tmp_path_factory.mktemp("besieged")
    paths = ("/predict", "/predict/batch", "/explain", "/v2/models/three/infer")
    with (
        serving(three, folder, max_inflight="16", request_timeout_seconds="60") as subject,
        contextlib.ExitStack() as stack,
    ):
        for path in paths:
            stack.enter_context(open_connections(subject.url, crowd, unfinished(path, 400)))
        yield subject.url


@pytest.mark.parametrize("kind", ASKED)
def test_slow_senders_keep_no_other_from_its_answer(besieged: str, kind: str) -> None:
    expected = 400 if kind == "tensors" else 200
    answers = exchange(besieged, *[ASKED[kind]] * 5)
    assert [answer.status for answer in answers][:5] == [expected] * 5


@pytest.fixture(scope="module")
def impatient(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server with three seconds for 12,000 bytes, and room for two bodies of 1 MiB."""
    folder = tmp_path_factory.mktemp("impatient")
    settings = {"request_timeout_seconds": "3", "max_batch_bytes": str(2**20)}
    with serving(three, folder, **settings) as subject:
        yield subject


def test_slow_uploads_that_go_on_are_answered(impatient: Subject) -> None:
    """12 kB/s for twice as long as a client may be silent."""
    requests = [post("/predict", BODY + b" " * 72_000), post("/predict/batch", BATCH + b" " * 72_000)]
    with open_connections(impatient.url, len(requests), b"") as connections:
        for start in range(0, max(map(len, requests)), 2400):
            for connection, request in zip(connections, requests, strict=True):
                connection.sendall(request[start : start + 2400])
            time.sleep(0.2)
        for connection in connections:
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_upload_that_hardly_goes_on_is_408(impatient: Subject) -> None:
    """1 kB/s, which would take a quarter of an hour, is not progress."""
    with socket.create_connection(address(impatient.url), 60) as connection:
        connection.sendall(unfinished("/predict/batch", 10**6))
        received = b""
        connection.settimeout(0.2)
        for _ in range(300):
            with contextlib.suppress(ConnectionError):
                connection.sendall(b" " * 200)
            with contextlib.suppress(TimeoutError):
                received += connection.recv(65_536)
                break
        connection.settimeout(60)
        received += read_until_closed(connection)  # head and body may come apart
    assert received.startswith(b"HTTP/1.1 408")
    assert b"expected 12000 bytes of the body or its end within 3 s" in received


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_unfinished_uploads_share_a_budget_of_bytes(three: Path, tmp_path: Path, path: str) -> None:
    size = 2**20 - 2000
    settings = {"max_batch_bytes": str(2**20), "request_timeout_seconds": "60"}
    with serving(three, tmp_path, **settings) as subject:
        process = psutil.Process(subject.pid)
        exchange(subject.url, ASKED["batch"], ASKED["row"])
        before = process.memory_info().rss
        with open_connections(subject.url, 24, unfinished(path, size, size - 100)) as connections:
            wait_until(lambda: len(readable(connections)) >= 22, "refusals", 60.0)
            for connection in readable(connections):
                received = read_until_closed(connection)
                assert received.startswith(b"HTTP/1.1 503")
                assert b"connection: close" in received
            assert process.memory_info().rss - before < 16 * 2**20
            small = exchange(subject.url, ASKED["batch"], ASKED["row"], ASKED["explanation"])
            assert [answer.status for answer in small][:3] == [200] * 3
        large = post("/predict/batch", BATCH + b" " * (size - 100))
        wait_until(lambda: exchange(subject.url, large)[0].status == 200, "the room back", 60.0)


def test_oldest_of_too_many_gives_way() -> None:
    holders, gone = MemoryHolders(3), list[int]()
    slow = [partial(gone.append, number) for number in range(6)]
    for one in slow[:3]:
        holders.begin(one)
    holders.end(slow[1])  # whole
    for one in slow[3:]:
        holders.begin(one)
    assert gone == [0, 2]


def test_oldest_give_way_while_all_hold_too_much_but_not_the_only_one() -> None:
    holders, gone = MemoryHolders(100), list[int]()
    slow = [partial(gone.append, number) for number in range(4)]
    holders.begin(slow[0], 400)
    assert not gone
    for number in (1, 2):
        holders.begin(slow[number], 50)
    assert gone == [0]
    holders.begin(slow[1], 10)  # it has read, and is as old as before
    holders.begin(slow[3], 45)
    assert gone == [0, 1]


#: Clients as urllib, Java's and `requests` write: everything is sent before anything is read.
TOO_LARGE = [
    pytest.param("/predict", 20, "Content-Length", id="row"),
    pytest.param("/predict/batch", 40, "Content-Length", id="batch"),
    pytest.param("/predict/batch", 40, "chunked", id="chunked batch"),
    pytest.param("/v2/models/three/infer", 40, "Content-Length", id="tensors"),
]


@pytest.mark.parametrize(("path", "megabytes", "framing"), TOO_LARGE)
@pytest.mark.parametrize("way", ["server", "asgi_server"])
def test_body_over_the_limit_gets_its_answer(
    request: pytest.FixtureRequest, way: str, path: str, megabytes: int, framing: str
) -> None:
    body = b" " * (megabytes * 10**6)
    asked = post(path, body)
    if framing == "chunked":
        asked = asked.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked", 1)
        asked = asked.replace(body, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    for _ in range(3):
        with socket.create_connection(address(request.getfixturevalue(way)), 60) as connection:
            connection.sendall(asked)
            received = read_until_closed(connection)
        assert received.startswith(b"HTTP/1.1 413")
        assert received.lower().count(b"connection: close") == 1
        assert b"expected a body of at most" in received
        assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("size", [100, 200_000])
def test_refused_media_type_gets_its_answer_whatever_is_still_to_come(server: str, size: int) -> None:
    asked = post("/predict", b"x" * size, content_type="text/html")
    with socket.create_connection(address(server), 60) as connection:
        connection.sendall(asked[: -size + 1])
        first = b""
        while not first.endswith(b"}"):
            first += more(connection)
        connection.sendall(asked[-size + 1 :] + (ASKED["row"] if size == 100 else b""))
        rest = connection.recv(65_536)
    assert first.startswith(b"HTTP/1.1 415")
    # What is left of a small body is read, and the connection goes on; of a large one it closes.
    assert rest[:12] == (b"HTTP/1.1 200" if size == 100 else b"")
    assert (b"connection: close" in first.lower()) == (size != 100)
