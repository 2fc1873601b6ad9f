"""What is no head of a Ray cluster is refused soon, without Ray: it would be tried for minutes."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from server.batch.cluster import ray_cluster
from server.batch.cluster.ray_cluster import ClusterError, _check_address

#: What a gRPC server says first: a frame of settings, without any.
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@contextmanager
def answering(words: bytes | None) -> Iterator[str]:
    """A server that says these words to one client; None accepts and is silent until the client goes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, suppress(ConnectionResetError):
                if words is not None:
                    connection.sendall(words)
                while connection.recv(4096):
                    pass

        thread = Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_server_that_speaks_as_a_head_does_is_joined() -> None:
    with answering(SETTINGS) as address:
        _check_address(address)
    _check_address("auto")


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"no", None])
def test_another_server_is_one_sentence(words: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "CONNECT_SECONDS", 0.2)
    with (
        answering(words) as address,
        pytest.raises(ClusterError, match=f"the head of a Ray cluster at {address}, got another server"),
    ):
        _check_address(address)


@pytest.mark.parametrize("address", ["nothing", "127.0.0.1:x", "127.0.0.1:99999999", "127.0.0.1:1", ""])
def test_an_address_where_nothing_answers_is_one_sentence(address: str) -> None:
    with pytest.raises(ClusterError, match="got nothing: give --address the HOST:PORT of its head"):
        _check_address(address)


def test_the_address_of_ray_client_is_told_from_the_heads() -> None:
    with pytest.raises(ClusterError, match="Ray Client's: give the head's own port"):
        _check_address("ray://127.0.0.1:10001")
