"""Which process is measured, and which model is asked, of what `--url` names."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadtest.harness.subject import LoadTestError
from loadtest.harness.target import at, listener


@contextmanager
def listening(host: str, port: int = 0) -> Iterator[int]:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen()
        yield server.getsockname()[1]


def test_the_process_is_the_one_that_listens_at_this_very_address() -> None:
    with listening("127.0.0.2") as port:
        assert listener(f"http://127.0.0.2:{port}") == os.getpid()
        assert listener(f"http://127.0.0.1:{port}") is None


def test_a_server_at_every_address_is_found_at_each_of_this_machine_and_at_no_other() -> None:
    with listening("0.0.0.0") as port:
        for host in ("127.0.0.1", "localhost", "127.0.0.3"):
            assert listener(f"http://{host}:{port}") == os.getpid()
        assert listener(f"http://192.0.2.7:{port}") is None  # an address for documents, nobody's
        assert listener(f"http://no-such-host.invalid:{port}") is None


def test_what_only_passes_requests_on_is_not_taken_for_the_server() -> None:
    perl = shutil.which("perl")
    if perl is None:
        pytest.skip("needs perl, which Debian has: it stands for a tunnel or a proxy")
    script = "use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1'); "
    script += "$| = 1; print $s->sockport, qq(\\n); <STDIN>;"
    with subprocess.Popen([perl, "-e", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert listener(f"http://127.0.0.1:{port}") is None
        process.communicate(b"\n", timeout=30)


@pytest.mark.parametrize(
    ("url", "server", "path", "model_path"),
    [
        ("http://127.0.0.1:1/", "http://127.0.0.1:1", "/predict", "/model"),
        ("http://127.0.0.1:1/predict", "http://127.0.0.1:1", "/predict", "/model"),
        ("http://127.0.0.1:1/model", "http://127.0.0.1:1", "/predict", "/model"),
        ("http://127.0.0.1:1/models/a b", "http://127.0.0.1:1", "/models/a b/predict", "/models/a b"),
        (
            "http://127.0.0.1:1/models/a/versions/2/predict",
            "http://127.0.0.1:1",
            "/models/a/versions/2/predict",
            "/models/a/versions/2",
        ),
    ],
)
def test_a_model_is_asked_by_the_name_in_the_url(url: str, server: str, path: str, model_path: str) -> None:
    target = at(url)
    assert (target.url, target.path, target.model_path) == (server, path, model_path)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://a", "http://a/metrics", "http://a/?x=1", "http://", ""]
)
def test_what_is_no_url_of_a_server_is_one_sentence(url: str) -> None:
    with pytest.raises(LoadTestError, match="expected"):
        at(url)
