"""Which process is measured, and which model is asked, of what `--url` names."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtest.harness.subject import LoadTestError
from loadtest.harness.target import at, listener

#: Listens at an address until its standard input ends.
LISTEN = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@contextmanager
def listening(folder: Path, host: str, module: str = "server") -> Iterator[tuple[int, int]]:
    """The process and the port of a `python -m MODULE` that listens, of which the command alone counts."""
    (folder / f"{module}.py").write_text(LISTEN)
    command = [sys.executable, "-m", module, host]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.communicate(timeout=60)


def test_the_process_is_the_one_that_listens_at_this_very_address(tmp_path: Path) -> None:
    with listening(tmp_path, "127.0.0.2") as (pid, port):
        assert listener(f"http://127.0.0.2:{port}") == pid
        assert listener(f"http://127.0.0.1:{port}") is None


def test_a_server_at_every_address_is_found_at_each_of_this_machine_and_at_no_other(tmp_path: Path) -> None:
    with listening(tmp_path, "0.0.0.0") as (pid, port):
        for host in ("127.0.0.1", "localhost", "127.0.0.3"):
            assert listener(f"http://{host}:{port}") == pid
        assert listener(f"http://192.0.2.7:{port}") is None  # an address for documents, nobody's
        assert listener(f"http://no-such-host.invalid:{port}") is None


def test_what_only_passes_requests_on_is_not_taken_for_the_server(tmp_path: Path) -> None:
    """A tunnel or a proxy, also one in Python."""
    with listening(tmp_path, "127.0.0.1", "tunnel") as (_, port):
        assert listener(f"http://127.0.0.1:{port}") is None


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
