"""Two paths, one behaviour: the fast path against the same server without it."""

import contextlib
import random
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import SettingsError
from server.model.bundle import Bundle
from server.process.arbiter import check_gunicorn
from server.wire.eligible_head import EligibleHead, eligible_head
from server.wire.fast_path import MAX_KNOWN_HEADS, Endpoint, FastPath, check_uvicorn
from tests.server.wire.test_wire import more, readable
from tests.support.bundles import ROW, THREE_FEATURES, sample_rows
from tests.support.servers import RawResponse, address, exchange, post, serving

BODY = orjson.dumps(ROW)
#: What may differ between two answers: the id, its length, and the second in which they were sent.
ID = re.compile(rb'"id":"[0-9a-f]{12}-\d+"')


def comparable(answers: list[RawResponse]) -> list[tuple[int, dict[str, str], bytes]]:
    lengths = {"date": "", "content-length": ""}
    return [(a.status, a.headers | lengths, ID.sub(b"", a.body)) for a in answers]


def odd_requests() -> Iterator[list[bytes]]:
    """Requests that the fast path must leave to the ASGI path, or answer like it."""
    head = b"POST /predict HTTP/1.1\r\nHost: test\r\n"
    json = b"Content-Type: application/json\r\n"
    length = b"Content-Length: %d\r\n" % len(BODY)
    yield [head + json + length + b"Connection: close\r\n\r\n" + BODY]
    yield [head + json + length + b"Connection: keep-alive\r\n\r\n" + BODY]
    yield [head + json + length + b"Expect: 100-continue\r\n\r\n" + BODY]
    yield [head + json + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)]
    yield [head.replace(b"1.1", b"1.0") + json + length + b"\r\n" + BODY]
    yield [head.replace(b"/predict", b"/predict?x=1") + json + length + b"\r\n" + BODY]
    yield [head.replace(b"/predict", b"/predict/") + json + length + b"\r\n" + BODY]
    yield [head.replace(b"POST", b"PUT") + json + length + b"\r\n" + BODY]
    yield [head.replace(b"POST", b"GET") + b"\r\n"]
    yield [head + length + b"\r\n" + BODY]
    yield [head + json + length + b"Content-Encoding: gzip\r\n\r\n" + BODY]
    yield [head + json + length + b"Content-Encoding: identity\r\n\r\n" + BODY]
    json_types = (b"application/json; charset=utf-8", b"APPLICATION/JSON", b"application/json;charset=UTF-8")
    other_words = (b'application/json; charset="utf8"', b"text/json", b"application/vnd.acme.v1+json")
    other_types = (b"application/json; charset=utf-16", b"application/jsonx", b"image/svg+xml", b"")
    for media_type in json_types + other_words + other_types:
        yield [head + b"Content-Type: " + media_type + b"\r\n" + length + b"\r\n" + BODY]
    yield [head + b"content-type:application/json\r\ncontent-length:   %d  \r\n\r\n" % len(BODY) + BODY]
    yield [head + json + length + b"X-Trace: 1\r\nAccept: */*\r\nCookie: a=b\r\n\r\n" + BODY]
    yield [head + json + b"Content-Length: 0\r\n\r\n"]
    yield [head + json + b"Content-Length: %d\r\n\r\n" % 2**21 + b"x" * 100]
    plain = post("/predict", BODY)
    yield [plain + plain + plain]
    yield [plain, plain, plain]
    yield [plain + plain[:60], plain[60:]]
    yield [b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n" + plain]
    yield [plain + b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"]
    yield [plain, b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n", plain]
    yield [post("/predict", b'{"income":"x"}') + plain]
    yield [plain[:-1], b"x"]
    for size in (1, 7, 40, len(plain) - len(BODY), len(plain) - 1):
        yield [plain[i : i + size] for i in range(0, len(plain), size)]


def bad_bodies() -> Iterator[bytes]:
    yield from (
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"{}",
        b'{"income":NaN}',
        b"\xff",
        b"\xef\xbb\xbf{}",
    )
    yield from (orjson.dumps(ROW | bad) for bad in ({"income": "nan"}, {"income": True}, {"income": -1}))
    yield from (
        orjson.dumps(ROW | bad) for bad in ({"contract": "x"}, {"owner": 3}, {"extra": 1, "owner": "y"})
    )
    yield orjson.dumps({"owner": 1})
    yield b'{"income":1,"income":2}'
    yield b'\n{"income":\r\n1}\n'


@pytest.mark.parametrize("pieces", list(odd_requests()))
def test_paths_agree_on_odd_requests(server: str, asgi_server: str, pieces: list[bytes]) -> None:
    assert comparable(exchange(server, *pieces)) == comparable(exchange(asgi_server, *pieces))


@pytest.mark.parametrize("body", list(bad_bodies()))
def test_paths_agree_on_bad_bodies(server: str, asgi_server: str, body: bytes) -> None:
    request = post("/predict", body)
    assert comparable(exchange(server, request)) == comparable(exchange(asgi_server, request))


def test_paths_agree_on_thousands_of_requests(server: str, asgi_server: str) -> None:
    """Valid, bad and damaged rows, sent over connections that stay open."""
    rng = random.Random(5)
    rows = sample_rows(THREE_FEATURES, 3000, seed=5)
    bodies = [orjson.dumps(row if rng.random() > 0.2 else row | {"owner": "x"}) for row in rows]
    for i in rng.sample(range(len(bodies)), 200):
        bodies[i] = bodies[i][: rng.randrange(len(bodies[i]))]
    for start in range(0, len(bodies), 100):
        requests = [post("/predict", body) for body in bodies[start : start + 100]]
        assert comparable(one_by_one(server, requests)) == comparable(one_by_one(asgi_server, requests))


def one_by_one(url: str, requests: list[bytes]) -> list[RawResponse]:
    """Answers of one connection, each read before the next request is sent."""
    answers = []
    with socket.create_connection(address(url), 60) as connection:
        for request in requests:
            connection.sendall(request)
            received = b""
            while b"\r\n\r\n" not in received or not complete(received):
                received += more(connection)
            head, _, body = received.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines[1:])}
            answers.append(RawResponse(int(lines[0].split(" ")[1]), headers, body))
    return answers


def complete(received: bytes) -> bool:
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return length is not None and len(body) >= int(length[1])


def test_answers_are_those_of_the_model(server: str, three: Path) -> None:
    """Every golden row over the socket gives the probability computed in process."""
    from server.model.predictor import Predictor

    bundle = Bundle.load(three)
    predictor = Predictor(bundle)
    for golden in bundle.golden_rows():
        (answer,) = exchange(server, post("/predict", orjson.dumps(golden.fields)))
        probability, decision = predictor.predict(bundle.schema.encode(golden.fields))
        document = orjson.loads(answer.body)
        assert document["probability"] == probability
        assert document["decision"] == ("grant", "decline")[decision]
        assert document["model"] == "three@1"


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /predict HTTP/1.1", *lines, "", ""]).encode()


ELIGIBLE = ("Host: a", "Content-Type: application/json", "Content-Length: 7")


def test_eligible_head_says_target_media_type_and_body_length() -> None:
    assert eligible_head(head(*ELIGIBLE)) == EligibleHead(b"/predict", b"application/json", 7, b"a")
    assert eligible_head(head(*ELIGIBLE, "Accept: */*", "traceparent: 00-ab")) == eligible_head(
        head(*ELIGIBLE)
    )


@pytest.mark.parametrize("value", ["keep-alive", "Keep-Alive"])
def test_head_that_asks_for_what_happens_anyway_is_eligible(value: str) -> None:
    assert eligible_head(head(*ELIGIBLE, f"Connection: {value}")) == eligible_head(head(*ELIGIBLE))


@pytest.mark.parametrize(
    "lines",
    [
        ELIGIBLE[1:],
        ELIGIBLE[:2],
        (ELIGIBLE[0], ELIGIBLE[2]),
        (*ELIGIBLE, "Host: b"),
        (*ELIGIBLE, "Content-Length: 7"),
        (*ELIGIBLE, "Content-Type: text/plain"),
        (*ELIGIBLE, "Transfer-Encoding: chunked"),
        (*ELIGIBLE, "Connection: close"),
        (*ELIGIBLE, "Connection: close", "Connection: keep-alive"),
        (*ELIGIBLE, "Connection: keep-alive, TE"),
        (*ELIGIBLE, "Expect: 100-continue"),
        (*ELIGIBLE, "Content-Encoding: gzip"),
        (*ELIGIBLE, "Proxy-Connection: close"),
        ("Host: a/b c", *ELIGIBLE[1:]),
        (*ELIGIBLE, *["A: 1"] * 100),
        (*ELIGIBLE, "no colon"),
        (*ELIGIBLE[:2], "Content-Length: -7"),
        (*ELIGIBLE[:2], "Content-Length: 7, 7"),
        (*ELIGIBLE[:2], "Content-Length: 0x7"),
    ],
)
def test_head_that_is_not_eligible_says_nothing(lines: tuple[str, ...]) -> None:
    assert eligible_head(head(*lines)) is None


def fast_path() -> FastPath:
    def never(*_: object) -> None:
        raise AssertionError

    return FastPath({"/predict": Endpoint(never, never)}, max_body_bytes=100)


def test_body_over_the_limit_takes_the_asgi_path() -> None:
    assert fast_path().eligible(head(*ELIGIBLE[:2], "Content-Length: 101")) is None


def test_known_heads_are_bounded() -> None:
    tested = fast_path()
    for i in range(3 * MAX_KNOWN_HEADS):
        plain = tested.eligible(head(*ELIGIBLE, f"X-Request-Id: {i}"))
        assert plain is not None
        assert plain.body_bytes == 7
    assert len(tested._known_heads) <= MAX_KNOWN_HEADS


def test_uvicorn_and_gunicorn_have_the_names_that_are_leaned_on() -> None:
    check_uvicorn()
    check_gunicorn()


def test_a_changed_name_is_said_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment, a new method or another body is no reason to refuse a release; a changed name is."""
    other = HttpToolsProtocol.on_url
    monkeypatch.setattr(HttpToolsProtocol, "added", other, raising=False)
    monkeypatch.setattr(HttpToolsProtocol, "on_message_begin", HttpToolsProtocol.pause_writing)
    check_uvicorn()
    monkeypatch.setattr(HttpToolsProtocol, "on_header", other)
    monkeypatch.delattr(HttpToolsProtocol, "timeout_keep_alive_handler")
    with pytest.raises(SettingsError, match=r"on_header takes \(self, url\); .*keep_alive_handler is gone"):
        check_uvicorn()


def test_idle_connection_is_closed(three: Path, tmp_path: Path) -> None:
    """One timer a connection watches for idle clients, also after fast answers; line ends are no request."""
    with (
        serving(three, tmp_path, keep_alive_seconds="1") as subject,
        socket.create_connection(address(subject.url), 60) as silent,
        socket.create_connection(address(subject.url), 60) as other,
    ):
        for connection in (silent, other):
            connection.sendall(post("/predict", BODY))
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        with contextlib.suppress(ConnectionError):  # closed beside the line ends that it was sent just then
            for _ in range(300):
                other.sendall(b"\r\n")
                if readable([other], 0.2):
                    break
            assert other.recv(65_536) == b""
        assert silent.recv(65_536) == b""


def test_connection_used_through_both_paths_stays_open(three: Path, tmp_path: Path) -> None:
    """An ordinary answer arms uvicorn's own timer, which knows nothing of the fast path."""
    with (
        serving(three, tmp_path, keep_alive_seconds="2") as subject,
        socket.create_connection(address(subject.url), 60) as connection,
    ):
        requests = [b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", *[post("/predict", BODY)] * 15]
        for request in requests:
            connection.sendall(request)
            received = b""
            while not received.endswith(b"}"):  # head and body may come apart
                received += more(connection)
            assert received.startswith(b"HTTP/1.1 200")
            time.sleep(0.2)


def test_long_line_reaches_the_log(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path) as subject:
        body = BODY[:-1] + b" " * 300_000 + b"}"
        (answer,) = exchange(subject.url, post("/predict", body))
        assert answer.status == 200
    (file,) = (tmp_path / "logs").glob("*.jsonl")
    assert orjson.loads(file.read_bytes())["id"] == orjson.loads(answer.body)["id"]
