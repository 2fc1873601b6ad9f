"""Names and origins: off by default; what is let through is the same on the fast path and the ASGI path."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from loadtest.harness.http_bytes import get
from server.settings import Settings
from tests.support.bundles import ROW
from tests.support.servers import RawResponse, exchange, post, serving

BODY = orjson.dumps(ROW)
ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module", params=["on", "off"])
def guarded(
    request: pytest.FixtureRequest, three: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server with names and an origin, with the fast path and without."""
    settings = {
        "allowed_hosts": "API.example.com, 127.0.0.1",
        "cors_origins": f"{ORIGIN}/,http://localhost:3000",
    }
    folder = tmp_path_factory.mktemp("guarded")
    with serving(three, folder, fast_path=request.param, **settings) as subject:
        yield subject.url


def asked(url: str, *headers: str, host: str = "api.example.com") -> RawResponse:
    request = post("/predict", BODY, *headers).replace(b"Host: test", f"Host: {host}".encode())
    return exchange(url, request)[0]


@pytest.mark.parametrize("host", ["api.example.com", "API.Example.com:8000", "127.0.0.1:1"])
def test_request_to_an_allowed_name_is_answered(guarded: str, host: str) -> None:
    for _ in range(2):  # the head is remembered
        assert asked(guarded, host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "api.example.com.evil", "[::1]:8000", "", "xapi.example.com"]
)
def test_request_to_another_name_is_refused(guarded: str, host: str) -> None:
    for _ in range(2):
        answer = asked(guarded, host=host)
        assert answer.status == 400
        assert b"HOTROW_ALLOWED_HOSTS" in answer.body
    assert exchange(guarded, get("/model"))[0].status == 400
    answers = exchange(guarded, get("/readyz"), get("/health"))
    assert [answer.status for answer in answers][:2] == [200, 200]


def test_page_of_an_allowed_origin_may_read_the_answer(guarded: str) -> None:
    for _ in range(2):
        answer = asked(guarded, f"Origin: {ORIGIN}")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
        assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
    problem = asked(guarded, "Origin: https://evil.example")
    assert (problem.status, "access-control-allow-origin" in problem.headers) == (200, False)
    assert "access-control-allow-origin" not in asked(guarded).headers
    bad = post("/predict", b"{}", f"Origin: {ORIGIN}").replace(b"Host: test", b"Host: 127.0.0.1")
    answer = exchange(guarded, bad)[0]
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (422, ORIGIN)


def test_preflight_says_what_may_be_sent(guarded: str) -> None:
    names = "content-type, content-encoding, x-api-key, x-request-id, traceparent, tracestate, baggage"
    lines = ["Access-Control-Request-Method: POST", f"Access-Control-Request-Headers: {names}"]
    for origin, status in ((ORIGIN, 200), ("https://evil.example", 400)):
        head = "\r\n".join(
            ["OPTIONS /predict HTTP/1.1", "Host: 127.0.0.1", f"Origin: {origin}", *lines, "", ""]
        )
        answer = exchange(guarded, head.encode())[0]
        assert answer.status == status
        assert ("access-control-allow-origin" in answer.headers) == (status == 200)


def test_both_are_off_by_default(server: str) -> None:
    assert (Settings().allowed_hosts, Settings().cors_origins) == ((), ())
    answer = asked(server, f"Origin: {ORIGIN}", host="any.example")
    assert (answer.status, "access-control-allow-origin" in answer.headers) == (200, False)


def test_health_is_answered_as_balancers_ask(server: str) -> None:
    asked = [get(path) for path in ("/health", "/healthz", "/ping")] + [
        b"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n"
    ]
    assert [answer.status for answer in exchange(server, *asked)] == [200] * 4
    assert exchange(server, get("/"))[0].status == 404


@pytest.mark.parametrize("value", ["app.example.com", "https://a/b", "ftp://a", ","])
def test_what_is_no_origin_is_refused(value: str) -> None:
    with pytest.raises(Exception, match="origins such as"):
        Settings.read({"HOTROW_CORS_ORIGINS": value})
