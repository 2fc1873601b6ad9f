"""TLS, mutual TLS, a Unix socket, a prefix, and whom to believe who the client is."""

import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import orjson
import psutil
import pytest

from loadtest.harness.http_bytes import content_length, get
from loadtest.harness.subject import free_port, python
from server.access.tls import Tls, name_in, tls_of
from server.errors import SettingsError
from server.process.listeners import bind
from server.settings import Settings
from tests.support.bundles import ROW
from tests.support.certificates import Authority
from tests.support.monitored import logged
from tests.support.servers import eventually, exchange, post, serving

pytestmark = pytest.mark.whole

BODY = orjson.dumps(ROW)
REQUEST = post("/predict", BODY)


class Secure(NamedTuple):
    """A server that speaks TLS to clients with a certificate, and where its files are."""

    port: int
    pid: int
    folder: Path
    ca: Authority
    client: Path


def answer(connection: socket.socket, request: bytes) -> bytes:
    """Send a request over a connection, and read its answer to the end."""
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65_536)
    head, _, body = received.partition(b"\r\n\r\n")
    while len(body) < content_length(head):
        body += connection.recv(65_536)
    return head.split(b" ")[1] + b" " + body


def put(path: Path, content: bytes) -> None:
    made = path.with_suffix(".new")
    made.write_bytes(content)
    made.replace(path)


@pytest.fixture(scope="module")
def secure(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    with serving_securely(three, tmp_path_factory.mktemp("secure")) as server:
        yield server


@contextmanager
def serving_securely(model: Path, folder: Path, **environment: str) -> Iterator[Secure]:
    """Two workers, with a certificate of clients' asked for."""
    port = free_port()
    ca, client = Authority(folder), folder / "client.pem"
    put(folder / "cert.pem", ca.issue("server"))
    client.write_bytes(ca.issue("shop"))
    environment |= {
        "HOTROW_TLS_CERT": str(folder / "cert.pem"),
        "HOTROW_TLS_CLIENT_CA": str(folder / "ca.pem"),
        "HOTROW_LOG_DIR": str(folder / "logs"),
    }
    command = python("-m", "server", "--model", str(model), "--port", str(port), "--workers", "2")
    with open(folder / "server.log", "wb") as log:
        process = psutil.Popen(command, stderr=log, env={**os.environ, **environment})
    server = Secure(port, process.pid, folder, ca, client)
    try:
        until(
            lambda: f"Serving churn@1 at https://127.0.0.1:{port}" in said(server) or "https" in said(server)
        )
        until(lambda: answers(server))
        yield server
    finally:
        process.terminate()
        process.wait(60)


def said(server: Secure) -> str:
    return (server.folder / "server.log").read_text()


def until(is_true: "object", seconds: float = 120.0) -> None:
    assert callable(is_true)
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.02)


def connect(server: Secure, client: Path | None) -> ssl.SSLSocket:
    """A connection that trusts the server's authority, and shows this certificate, or none."""
    context = ssl.create_default_context(cafile=server.ca.certificate)
    if client is not None:
        context.load_cert_chain(client)
    plain = socket.create_connection(("127.0.0.1", server.port), 20)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def answers(server: Secure) -> bool:
    try:
        with connect(server, server.client) as connection:
            return answer(connection, get("/readyz")).startswith(b"200")
    except OSError:
        return False


def test_client_with_a_certificate_is_answered(secure: Secure) -> None:
    with connect(secure, secure.client) as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
        for _ in range(3):
            assert answer(connection, REQUEST).startswith(b'200 {"id"')
        for piece in (REQUEST[:50], REQUEST[50:-5]):
            connection.sendall(piece)
        assert answer(connection, REQUEST[-5:]).startswith(b'200 {"id"')
        assert answer(connection, post("/predict", BODY, "TE: a")).startswith(
            b'200 {"id"'
        )  # on the ASGI path
    eventually(lambda: len(logged(secure.folder / "logs")) >= 5)
    assert "shop" in {line["caller"] for line in logged(secure.folder / "logs")}


def test_caller_is_who_the_certificate_is_for(secure: Secure) -> None:
    """A mesh's certificates name the workload in a URI; a subject, and others, may be missing."""
    mesh = secure.folder / "mesh.pem"
    mesh.write_bytes(secure.ca.issue("pod", "DNS:pod.local,URI:spiffe://a.example/shop,URI:b:c"))
    with connect(secure, mesh) as connection:
        assert answer(connection, post("/predict", BODY, "X-Request-Id: of-mesh")).startswith(b"200")
    wanted = ("of-mesh", "spiffe://a.example/shop")
    eventually(
        lambda: (
            wanted in {(line.get("request_id"), line["caller"]) for line in logged(secure.folder / "logs")}
        )
    )
    subject = ((("organizationName", "a"),), (("commonName", 'b"c'),))
    assert name_in({"subject": subject, "subjectAltName": (("DNS", "d"),)}) == 'b"c'
    assert (
        name_in({"subject": (), "subjectAltName": (("IP Address", "::1"), ("DNS", "d"), ("DNS", "e"))}) == "d"
    )
    assert name_in({"subject": subject[:1]}) == name_in({}) == ""


@pytest.mark.parametrize("shows", ["none", "foreign"])
def test_client_without_a_certificate_of_ours_is_not(secure: Secure, tmp_path: Path, shows: str) -> None:
    client = None if shows == "none" else tmp_path / "client.pem"
    if client is not None:
        client.write_bytes(Authority(tmp_path).issue("shop"))

    with suppress(ssl.SSLError, ConnectionError), connect(secure, client) as connection:
        connection.sendall(REQUEST)
        received = connection.recv(100)  # of TLS 1.3 the refusal comes with the first read
        assert received == b""


def test_plain_http_to_a_tls_port_gets_no_answer(secure: Secure) -> None:
    with socket.create_connection(("127.0.0.1", secure.port), 20) as connection:
        connection.sendall(REQUEST)
        assert connection.recv(100) == b""


def test_certificate_is_renewed_without_the_end_of_a_connection(secure: Secure) -> None:
    with connect(secure, secure.client) as connection:
        first = connection.getpeercert(binary_form=True)
        put(secure.folder / "cert.pem", secure.ca.issue("renewed"))

        def is_renewed() -> bool:
            with closing(connect(secure, secure.client)) as fresh:
                assert answer(fresh, REQUEST).startswith(b"200")
                assert answer(connection, REQUEST).startswith(b"200")
                return fresh.getpeercert(binary_form=True) != first

        until(lambda: all(is_renewed() for _ in range(8)))  # of both workers
        put(secure.folder / "cert.pem", b"half of a certificate")
        until(lambda: said(secure).count("what was read before stays") == 2)
        with connect(secure, secure.client) as fresh:
            assert answer(fresh, REQUEST).startswith(b"200")
            assert answer(connection, REQUEST).startswith(b"200")
    put(secure.folder / "cert.pem", secure.ca.issue("server"))


def test_stop_waits_for_no_farewell_of_a_client_that_has_its_answer(three: Path, tmp_path: Path) -> None:
    """Clients keep connections for later, and look at them when they ask again."""
    with serving_securely(three, tmp_path, HOTROW_DRAIN_SECONDS="1000") as server:
        kept = connect(server, server.client)
        assert answer(kept, REQUEST).startswith(b"200")
    assert kept.recv(100) == b""
    kept.close()


def test_files_that_cannot_be_used_are_refused_in_words(tmp_path: Path) -> None:
    Authority(tmp_path).issue("a")
    key, other = tmp_path / "a.key", tmp_path / "ca.pem"
    for certificate, its_key in ((tmp_path / "none", None), (key, None), (other, key)):
        with pytest.raises(SettingsError, match="expected a certificate"):
            Tls(certificate, its_key, None)
    with pytest.raises(SettingsError, match="HOTROW_TLS_CERT beside"):
        tls_of(Settings(tls_key=key))


def test_unix_socket_answers_has_its_mode_and_replaces_one_that_is_left(three: Path, tmp_path: Path) -> None:
    path = tmp_path / "hotrow.sock"
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(path))
    environment = {"HOTROW_LOG_DIR": str(tmp_path / "logs"), "HOTROW_UDS_MODE": "600"}
    command = python("-m", "server", "--model", str(three), "--uds", str(path), "--workers", "2")
    with open(tmp_path / "log", "wb") as log:
        process = psutil.Popen(command, env={**os.environ, **environment}, stderr=log)
    try:
        until(lambda: f"at unix:{path}" in (tmp_path / "log").read_text())
        for _ in range(4):
            with closing(socket.socket(socket.AF_UNIX)) as connection:
                connection.connect(str(path))
                assert answer(connection, REQUEST).startswith(b'200 {"id"')
                assert answer(connection, get("/model")).startswith(b"200")
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(SettingsError, match="Address already in use"):
            bind(Settings(uds=path))
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_prefix_is_taken_away_and_who_the_client_is_is_believed_of_a_proxy(
    three: Path, tmp_path: Path
) -> None:
    with serving(three, tmp_path, root_path="/scoring/", trusted_proxies="127.0.0.0/8") as subject:
        for path in ("/scoring/predict", "/predict"):
            assert (
                exchange(subject.url, post(path, BODY), post(path, BODY, "Expect: 100-continue"))[0].status
                == 200
            )
        for path in ("/scoring/model", "/model", "/scoring/docs", "/scoring/v2", "/scoring/readyz"):
            assert exchange(subject.url, get(path))[0].status == 200
        assert exchange(subject.url, get("/scoring/nowhere"), get("/scoringpredict"))[0].status == 404
        document = orjson.loads(exchange(subject.url, get("/scoring/openapi.json"))[0].body)
        assert document["servers"] == [{"url": "/scoring"}]
        page = exchange(
            subject.url, get("/scoring/docs").replace(b"\r\n\r\n", b"\r\nX-Forwarded-Proto: https\r\n\r\n")
        )[0].body
        assert b"https://test/scoring/predict" in page
        assert b'="/' not in page  # whatever the prefix is
        metrics = exchange(subject.url, get("/metrics"))[0].body
        assert b'path="/predict"' in metrics or b'route="/predict"' in metrics
        assert b"scoring" not in metrics


@pytest.mark.parametrize(
    ("name", "value"),
    [("ROOT_PATH", "scoring"), ("ROOT_PATH", "/a b"), ("UDS_MODE", "999"), ("UDS_MODE", "66")],
)
def test_what_is_no_prefix_and_no_mode_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match="such as"):
        Settings.read({f"HOTROW_{name}": value})
