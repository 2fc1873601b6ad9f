"""Raw requests that servers read differently, or that never end: each problem, and closed."""

import contextlib
import re
import resource
import selectors
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import orjson
import psutil
import pytest

from loadtest.faults.connections import keep, reset
from loadtest.harness.http_bytes import LAST, get
from loadtest.harness.instances import wait_until
from loadtest.harness.reference_rows import ReferenceRow
from loadtest.harness.subject import Subject
from server.wire.guarded_protocol import MAX_HEAD_BYTES
from tests.support.bundles import ROW
from tests.support.servers import address, exchange, post, serving

BODY = orjson.dumps(ROW)
START = b"POST /predict HTTP/1.1\r\n"
HOST = b"Host: test\r\n"
JSON = b"Content-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
GET = b"GET /livez HTTP/1.1\r\n"
#: Documents of 50 KB.
MANY = 200


def request(*headers: bytes, start: bytes = START, body: bytes = BODY) -> bytes:
    return start + HOST + JSON + b"".join(headers) + b"\r\n" + body


def length(value: bytes) -> bytes:
    return request(b"Content-Length: " + value + b"\r\n")


def coding(value: bytes) -> bytes:
    return request(b"Transfer-Encoding: " + value + b"\r\n", body=CHUNKS)


VECTORS = {
    "content-length and transfer-encoding": (request(LENGTH, CHUNKED, body=CHUNKS), 400),
    "transfer-encoding and content-length": (request(CHUNKED, LENGTH, body=b"0\r\n\r\n" + SMUGGLED), 400),
    "content-length twice, equal": (request(LENGTH, LENGTH), 400),
    "content-length twice, different": (request(LENGTH, b"Content-Length: 3\r\n"), 400),
    "content-length list": (length(b"3, 3"), 400),
    "content-length with plus": (length(b"+3"), 400),
    "content-length negative": (length(b"-1"), 400),
    "content-length hexadecimal": (length(b"0x3"), 400),
    "content-length empty": (length(b""), 400),
    "content-length beyond 64 bits": (length(b"18446744073709551619"), 400),
    "content-length of 5,000 digits": (length(b"0" * 5000 + b"%d" % len(BODY)), 400),
    "chunk size beyond 64 bits": (request(CHUNKED, body=b"10000000000000003\r\nabc\r\n0\r\n\r\n"), 400),
    "coding xchunked": (coding(b"xchunked"), 400),
    "coding chunked, identity": (coding(b"chunked, identity"), 400),
    "coding with space before the colon": (request(b"Transfer-Encoding : chunked\r\n", body=CHUNKS), 400),
    "coding twice": (request(CHUNKED, CHUNKED, body=CHUNKS), 400),
    "coding with vertical tab": (coding(b"\x0bchunked"), 400),
    "coding folded": (request(b"Transfer-Encoding:\r\n chunked\r\n", body=CHUNKS), 400),
    "coding gzip, chunked": (coding(b"gzip, chunked"), 501),
    "coding in HTTP/1.0": (request(CHUNKED, start=b"POST /predict HTTP/1.0\r\n", body=CHUNKS), 400),
    "chunk extension with a line feed": (request(CHUNKED, body=b"3;a\nb\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk without its line end": (request(CHUNKED, body=b"3\r\nabc0\r\n\r\n"), 400),
    "chunk size 0x3": (request(CHUNKED, body=b"0x3\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk size -3": (request(CHUNKED, body=b"-3\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk lines ending in line feeds": (request(CHUNKED, body=b"3\nabc\n0\n\n"), 400),
    "headers ending in line feeds": (request(LENGTH).replace(b"\r\n", b"\n"), 400),
    "no host": (GET + b"\r\n", 400),
    "no host on the fast path": (START + JSON + LENGTH + b"\r\n" + BODY, 400),
    "two hosts": (GET + HOST + HOST + b"\r\n", 400),
    "host with a space": (GET + b"Host: a b\r\n\r\n", 400),
    "host with a path": (GET + b"Host: a/b\r\n\r\n", 400),
    "NUL in a header": (GET + HOST + b"X: a\x00b\r\n\r\n", 400),
    "carriage return in a header": (GET + HOST + b"X: a\rb\r\n\r\n", 400),
    "header without a colon": (GET + HOST + b"nonsense\r\n\r\n", 400),
    "space in a header's name": (GET + HOST + b"X Y: 1\r\n\r\n", 400),
    "HTTP/2.0 in the request line": (b"GET /livez HTTP/2.0\r\nHost: test\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
    "line ends in the path": (b"GET /a%0d%0aX:1 HTTP/1.1\r\nHost: test\r\n\r\n", 404),
    "raw byte in the path": (b"GET /\xff HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "path of 100 KB": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: test\r\n\r\n", 414),
    "header of 100 KB": (GET + HOST + b"X: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    "header of 1 MB": (GET + HOST + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n", 431),
    "10,000 headers": (GET + HOST + b"X: 1\r\n" * 10_000 + b"\r\n", 431),
    "8 MB of a header without end": (GET + HOST + b"X: " + b"a" * 8_000_000, 431),
    "expectation of something": (request(LENGTH, b"Expect: foo\r\n"), 417),
    "TRACE": (b"TRACE /livez HTTP/1.1\r\nHost: test\r\n\r\n", 405),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "CONNECT to a path": (request(LENGTH, start=b"CONNECT /predict HTTP/1.1\r\n"), 400),
    "CONNECT to a URL": (request(CHUNKED, start=b"CONNECT http://a:1/ HTTP/1.1\r\n", body=CHUNKS), 400),
    "method in small letters": (b"get /livez HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "CONNECT and Upgrade": (
        b"CONNECT a:1 HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        400,
    ),
}
#: What asks for another protocol, as Java's client and `curl --http2`, a browser, and others do.
UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "TLS": b"connection: upgrade\r\nupgrade: TLS/1.0\r\n",
}


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("way", ["server", "asgi_server"])
def test_raw_vector(request: pytest.FixtureRequest, way: str, name: str) -> None:
    """The listed status, as a problem document; what lies behind the request is never run."""
    data, status = VECTORS[name]
    answers = exchange(request.getfixturevalue(way), data)
    assert [answer.status for answer in answers][:1] == [status]
    if status in (400, 408, 414, 417, 431, 501) and name != "line ends in the path":
        assert len(answers) == 1
        assert answers[0].headers["connection"] == "close"
        assert answers[0].headers["content-type"] == "application/problem+json"
        assert orjson.loads(answers[0].body)["detail"].startswith("expected ")


@pytest.mark.parametrize("way", ["server", "asgi_server"])
def test_nothing_behind_the_last_response_of_a_connection_is_run(
    request: pytest.FixtureRequest, way: str
) -> None:
    """Its request was whole, so that others may have been read behind it: good ones, and one that is none."""
    url, row = request.getfixturevalue(way), post("/predict", BODY, "X-Request-Timeout-Ms: 20000")
    page = post("/predict", b" " * 20_000, content_type="text/html")
    for behind in (row, row + row, b"x" + row, row + b"x" + row, row[:-1]):
        before = number_of(url)
        (answer,) = exchange(url, page + behind)
        assert (answer.status, answer.headers["connection"]) == (415, "close")
        assert number_of(url) == before + 1


def number_of(url: str) -> int:
    """The number of a row that is scored now."""
    (answer,) = exchange(url, post("/predict", BODY))
    return int(orjson.loads(answer.body)["id"].rpartition("-")[2])


def splits(data: bytes) -> dict[str, list[bytes]]:
    """The same bytes in one write, head and body apart, and in many."""
    end = data.index(b"\r\n\r\n") + 4
    crumbs = [data[i : i + 7] for i in range(0, len(data), 7)]
    return {"one": [data], "two": [data[:end], data[end:]], "crumbs": crumbs}


@pytest.mark.parametrize("writes", ["one", "two", "crumbs"])
@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("way", ["server", "asgi_server"])
def test_upgrade_is_ignored(request: pytest.FixtureRequest, way: str, upgrade: str, writes: str) -> None:
    """RFC 9110, section 7.8: each request is answered once, as if it did not ask."""
    url, wish = request.getfixturevalue(way), UPGRADES[upgrade]
    asked = [
        START + HOST + JSON + LENGTH + wish + b"\r\n" + BODY,
        START + HOST + JSON + wish + CHUNKED + b"\r\n" + CHUNKS,
        post("/predict/batch", b'{"rows":[%b]}' % BODY).replace(b"\r\n", b"\r\n" + wish, 1),
        GET + HOST + wish + b"\r\n",
        post("/predict", BODY),
    ]
    plain = exchange(url, post("/predict", BODY))[0]
    answers = exchange(url, *(piece for data in asked for piece in splits(data)[writes]))
    assert [answer.status for answer in answers] == [200] * len(asked)
    for answer in (answers[0], answers[1], answers[4]):
        assert orjson.loads(answer.body)["probability"] == orjson.loads(plain.body)["probability"]
    assert answers[3].body == b'{"status":"live"}'


def test_upgrades_behind_each_other_are_each_answered(server: str) -> None:
    one = START + HOST + JSON + LENGTH + UPGRADES["h2c"] + b"\r\n" + BODY
    answers = exchange(server, one * 500)
    assert [answer.status for answer in answers] == [200] * 500
    assert len({answer.body for answer in answers}) == 500


def test_body_of_an_upgrade_is_never_run_as_a_request(server: str) -> None:
    head = START + HOST + JSON + b"Content-Length: %d\r\n" % len(SMUGGLED) + UPGRADES["h2c"] + b"\r\n"
    for pieces in ([head + SMUGGLED], [head, SMUGGLED]):
        answers = exchange(server, *pieces)
        assert [answer.status for answer in answers] == [400]
        assert b"live" not in answers[0].body


@pytest.mark.parametrize("upgrade", ["", UPGRADES["h2c"].decode()], ids=["plain", "upgrade"])
@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/explain", "/livez"])
@pytest.mark.parametrize("way", ["server", "asgi_server"])
def test_half_closed_connection_gets_its_answer(
    request: pytest.FixtureRequest, way: str, path: str, upgrade: str
) -> None:
    """A client may close its half behind its request (`nc -N`, Erlang, many scripts)."""
    many = orjson.dumps({"rows": [ROW] * 2000})
    asked = get(path) if path == "/livez" else post(path, many if path.endswith("batch") else BODY)
    head, _, body = asked.partition(b"\r\n\r\n")
    with socket.create_connection(address(request.getfixturevalue(way)), 60) as connection:
        connection.sendall(head + b"\r\n" + upgrade.encode() + b"\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        received = read_until_closed(connection)
    assert received.startswith(b"HTTP/1.1 200")
    assert received.endswith(b"}")


@pytest.mark.parametrize("way", ["server", "asgi_server"])
@pytest.mark.parametrize("version", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nConnection: close\r\n"])
def test_last_answer_is_read_by_a_client_that_sends_on(
    request: pytest.FixtureRequest, way: str, version: bytes
) -> None:
    """To close under bytes that still come resets the answer away."""
    last = post("/predict", BODY).replace(b"HTTP/1.1\r\n", version, 1)
    with socket.create_connection(address(request.getfixturevalue(way)), 60) as connection:
        connection.sendall(last)
        connection.recv(1, socket.MSG_PEEK)  # the answer is there
        for _ in range(5):
            connection.sendall(post("/predict", BODY))
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        received = read_until_closed(connection)
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", received) == [b"200"]
    assert received.endswith(b"}")


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_half_a_request_and_no_more_is_400(server: str, path: str) -> None:
    with socket.create_connection(address(server), 60) as connection:
        connection.sendall(post("/explain", BODY) + post(path, BODY)[:-5])
        connection.shutdown(socket.SHUT_WR)
        received = read_until_closed(connection)
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", received) == [b"200", b"400"]
    assert b"expected the whole request" in received


TEXT = post("/predict", BODY, content_type="text/plain")
ODD_CHUNKS = b"Host: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"
#: Requests whose body is cut off or broken, and the status that their heads, or else the end, call for.
CUT_OFF = {
    "a text": (TEXT[:-5], b"415"),
    "a text in chunks": (START + b"Content-Type: text/plain\r\n" + ODD_CHUNKS, b"415"),
    "a batch of text": (post("/predict/batch", BODY, content_type="text/plain")[:-5], b"415"),
    "of no route": (post("/none", BODY)[:-5], b"404"),
    "of another method": (post("/livez", BODY)[:-5], b"405"),
    "too long": (post("/predict", b" " * (2**20 + 1))[:-5], b"413"),
    "a row": (post("/predict", BODY)[:-5], b"400"),
    "a row in chunks": (START + JSON + ODD_CHUNKS, b"400"),
    "a row that is expected": (request(LENGTH, b"Expect: 100-continue\r\n")[:-5], b"400"),
}


@pytest.mark.parametrize("way", ["server", "asgi_server"])
def test_head_decides_before_an_end_that_came_with_it(request: pytest.FixtureRequest, way: str) -> None:
    """One answer, whether the broken or missing end is seen with the head or after it."""
    url = request.getfixturevalue(way)
    for before in (b"", get("/livez"), post("/predict", BODY), TEXT, get("/livez") * 3):
        for name, (data, status) in CUT_OFF.items():
            for cut in (len(data), data.index(b"\r\n\r\n") + 4):
                with socket.create_connection(address(url), 60) as connection:
                    connection.sendall(before + data[:cut])
                    if data[cut:]:
                        connection.sendall(data[cut:])
                    connection.shutdown(socket.SHUT_WR)
                    received = read_until_closed(connection)
                statuses = re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", received)
                assert statuses[-1:] == [status], (before, name, cut)
                assert len(statuses) == 1 + before.count(b" HTTP/1.1\r\n"), (before, name, cut)


def read_until_closed(connection: socket.socket) -> bytes:
    """What came until the server closed."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65_536):
            received += chunk
    return received


def more(connection: socket.socket) -> bytes:
    """What comes next of an answer that is not whole yet."""
    received = connection.recv(65_536)
    assert received, "closed amid an answer"
    return received


def readable(connections: Iterable[socket.socket], seconds: float = 0.0) -> list[socket.socket]:
    """Those on which something comes within so long: select(2) itself takes no descriptor above 1,023."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(seconds) if isinstance(key.fileobj, socket.socket)]


@pytest.fixture(scope="module")
def impatient(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server that gives a client two seconds for a request."""
    folder = tmp_path_factory.mktemp("impatient")
    with serving(three, folder, request_timeout_seconds="2") as subject:
        yield subject


#: Requests cut off in line, head, body and chunk.
HALVES = (
    b"POST /predict HT",
    START + HOST,
    request(LENGTH, body=BODY[:5]),
    request(CHUNKED, body=b"5\r\nab"),
)
#: What can go on for ever, byte by byte: head, body, a chunk's extension, a trailer.
ENDLESS = (
    START, request(LENGTH, body=b""), request(CHUNKED, body=b"1;"), request(CHUNKED, body=b"0\r\nX: ")
)  # fmt: skip


def test_half_a_request_is_408_and_closed(impatient: Subject) -> None:
    with begun(impatient, HALVES) as connections:
        for connection in connections:
            received = read_until_closed(connection)
            assert received.startswith(b"HTTP/1.1 408")
            assert b"connection: close" in received


def test_dribbled_bytes_do_not_move_the_deadline(impatient: Subject) -> None:
    with begun(impatient, ENDLESS) as connections:
        left = dict(zip(connections, ENDLESS, strict=True))
        for _ in range(300):  # far beyond it
            for connection in readable(left, 0.2):
                assert connection.recv(65_536).startswith(b"HTTP/1.1 408")
                del left[connection]
            for connection, start in left.items():
                with contextlib.suppress(ConnectionError):  # it is closed just now
                    connection.sendall(b"{" if start.endswith(b"\r\n\r\n") else b"X")
            if not left:
                break
        assert not left


@contextlib.contextmanager
def begun(subject: Subject, starts: Sequence[bytes]) -> Iterator[list[socket.socket]]:
    """A connection for each beginning of a request, on which it was sent."""
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(address(subject.url), 60)) for _ in starts
        ]
        for connection, start in zip(connections, starts, strict=True):
            connection.sendall(start)
        yield connections


def test_client_that_reads_nothing_is_cut_off(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, request_timeout_seconds="1") as subject, unread(subject) as connection:

        def has_ended() -> bool:  # tcp(7), TCP_INFO: the first byte is the state, 1 if established
            return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1

        wait_until(has_ended, "the end", 60.0)
        assert exchange(subject.url, get("/livez"))[0].status == 200
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_client_that_reads_slowly_gets_every_answer(impatient: Subject) -> None:
    """For longer than a client that reads nothing is given."""
    received = 0
    with unread(impatient) as connection:
        for _ in range(30):
            received += len(connection.recv(65_536))
            time.sleep(0.2)
        connection.sendall(LAST)
        while chunk := connection.recv(2**20):
            received += len(chunk)
    answer = len(exchange(impatient.url, get("/openapi.json"))[0].body)
    assert received > MANY * answer


@contextlib.contextmanager
def unread(subject: Subject) -> Iterator[socket.socket]:
    """A connection with more answers under way than the kernel holds for it."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address(subject.url))
        connection.sendall(get("/openapi.json") * MANY)
        yield connection


def test_connection_without_a_request_is_closed(server: str) -> None:
    """Whether it is silent or sends line ends, which begin none."""
    with (
        socket.create_connection(address(server), 60) as silent,
        socket.create_connection(address(server), 60) as other,
    ):
        with contextlib.suppress(ConnectionError):
            for _ in range(300):  # it is closed amid them
                if readable([other], 0.2):
                    break
                other.sendall(b"\r\n")
            assert other.recv(1) == b""
        assert read_until_closed(silent) == b""


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param([b"nonsense\r\n\r\n"], id="no request"),
        pytest.param([request(b"Content-Length: +3\r\n")], id="head"),
        pytest.param([request(b"Transfer-Encoding: chunked\r\n", body=b"zz\r\n")], id="body"),
        pytest.param([post("/predict", BODY), b"nonsense\r\n\r\n"], id="behind two"),
    ],
)
def test_refusal_waits_for_the_answers_before_it(server: str, behind: list[bytes]) -> None:
    """The first request is under way in the app when the refused one comes."""
    with socket.create_connection(address(server), 60) as connection:
        connection.sendall(post("/explain", BODY) + b"".join(behind))
        received = read_until_closed(connection)
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]
    assert statuses == [200] * len(behind) + [400]
    assert received.count(b'"base":') == 1


def test_head_that_begins_behind_many_requests_has_its_own_size(server: str) -> None:
    """40 KB of requests in one read, and a part of one more: none of them is the size of that head."""
    asked = get("/livez")
    with socket.create_connection(address(server), 60) as connection:
        connection.sendall(asked * 1000 + asked[:10])
        received = b""
        while received.count(b'{"status":"live"}') < 1000:
            received += connection.recv(2**20)
        connection.sendall(asked[10:] + LAST)
        assert read_until_closed(connection).count(b'{"status":"live"}') == 1


def test_refused_request_is_counted(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path) as subject:
        for _ in range(3):
            exchange(subject.url, VECTORS["no host"][0])
        page = exchange(subject.url, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")[0].body.decode()
    count = 'hotrow_request_duration_seconds_count{code="400",method="other",route="other"} 3.0'
    assert count in page


def test_endless_heads_do_not_fill_the_memory(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path) as subject:
        process = psutil.Process(subject.process.pid)
        exchange(subject.url, SMUGGLED)
        before = process.memory_info().rss
        for _ in range(30):
            exchange(subject.url, VECTORS["8 MB of a header without end"][0])
        grown = process.memory_info().rss - before
    assert grown < 30 * 2**20
    assert MAX_HEAD_BYTES < 2**15


@pytest.mark.parametrize(
    ("asked", "clients", "seconds"),
    [
        pytest.param(post("/predict", BODY), 1, 2.0, id="rows of one"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost:a\r\n\r\n", 12, 0.2, id="the smallest of twelve"),
    ],
)
def test_requests_behind_each_other_do_not_fill_the_memory(
    three: Path, tmp_path: Path, asked: bytes, clients: int, seconds: float
) -> None:
    """Of a client that reads nothing no more is read, nor parsed, than it can be answered."""
    requests = asked * (20 * 2**20 // len(asked))
    with serving(three, tmp_path) as subject, ExitStack() as open_ones:
        process = psutil.Process(subject.process.pid)
        exchange(subject.url, get("/livez"))
        before = process.memory_info().rss
        for _ in range(clients):
            connection = open_ones.enter_context(socket.create_connection(address(subject.url)))
            connection.settimeout(seconds)
            with pytest.raises(TimeoutError):
                connection.sendall(requests)
        grown = process.memory_info().rss - before
    assert grown < 32 * 2**20


def test_requests_behind_each_other_are_answered_in_order(server: str) -> None:
    """More than one read gives, small and large ones, with and without a length, to whom reads at last."""
    large = b'{"rows":[%b]}' % BODY + b" " * 100_000
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (large[:70_000], large[70_000:]))
    batch = b"POST /predict/batch HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    pattern = (
        get("/livez") * 90
        + post("/predict", BODY)
        + get("/nothing")
        + batch
        + b"Content-Length: %d\r\n\r\n%b" % (len(large), large)
        + batch
        + b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunks
    )
    statuses = [200] * 90 + [200, 404, 200, 200]
    assert [answer.status for answer in exchange(server, pattern * 3)] == statuses * 3


@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        pytest.param(b"1;a=", b"x", id="extension"),
        pytest.param(b"", b"0", id="zeros of a length"),
        pytest.param(b"0\r\n", b"a: b\r\n", id="trailers"),
        pytest.param(b"0\r\nX: ", b"x", id="a trailer"),
        pytest.param(b"", b"1;" + b"a" * 500 + b"\r\n \r\n", id="an extension for each byte"),
    ],
)
def test_what_stands_around_a_chunked_body_is_bounded(server: str, begun: bytes, piece: bytes) -> None:
    """None of it is kept, where 190 MB once became 2.4 GB."""
    many = request(CHUNKED, body=begun + piece * (8 * 10**6 // len(piece)))
    assert [answer.status for answer in exchange(server, many)] == [431]


def test_trailers_and_extensions_of_the_usual_size_are_passed_over(server: str) -> None:
    """As of `aws-chunked`, which signs each chunk, and of one byte in each."""
    signed = b"".join(b"1;chunk-signature=%064d\r\n%c\r\n" % (0, byte) for byte in BODY)
    plain = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY + b" " * 9000)
    for body in (signed, plain):
        whole = request(CHUNKED, body=body + b"0\r\nX-Checksum: 7\r\nExpect: never\r\n\r\n")
        assert [answer.status for answer in exchange(server, whole, post("/predict", BODY))] == [200, 200]


def test_good_requests_pass_beside_a_refused_one(server: str) -> None:
    with socket.create_connection(address(server), 60) as half:
        half.sendall(START + HOST)
        assert [a.status for a in exchange(server, post("/predict", BODY))] == [200]


def test_memory_of_a_crowd_that_has_gone_is_given_back(
    three: Path, three_rows: list[ReferenceRow], tmp_path: Path
) -> None:
    """Without it 3,000 connections leave 19 MB behind."""
    crowd = 3000
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < crowd + 200:
        pytest.skip(f"{crowd} connections need `ulimit -n {crowd + 200}`")
    with serving(three, tmp_path) as subject:
        process = psutil.Process(subject.pid)
        reset(keep(subject.url, three_rows[0].request, 100)[0])
        before = process.memory_info().rss
        reset(keep(subject.url, three_rows[0].request, crowd)[0])
        wait_until(lambda: process.memory_info().rss - before < 12 * 2**20, "the memory back", 60.0)
