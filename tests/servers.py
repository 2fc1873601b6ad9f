"""Real servers for the tests, on free ports of 127.0.0.1, ended by their pid."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from loadtest.subject import Subject, free_port, python, running


class Answer(NamedTuple):
    """An HTTP answer, read off the socket."""

    status: int
    headers: dict[str, str]
    body: bytes


@contextmanager
def serving(bundle: Path, folder: Path, *options: str, **settings: str) -> Iterator[Subject]:
    """`python -m server` with this bundle, its log in `folder`, and `HOTROW_*` settings."""
    port = free_port()
    environment = {f"HOTROW_{name.upper()}": value for name, value in settings.items()}
    with running(
        "server",
        python("-m", "server", "--model", str(bundle), "--port", str(port), *options),
        f"http://127.0.0.1:{port}",
        "/readyz",
        environment={"HOTROW_LOG_DIR": str(folder / "logs"), **environment},
        log=folder / "server.log",
    ) as subject:
        yield subject


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command of ours, run to its end."""
    return subprocess.run(
        python(*arguments), capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


def address(url: str) -> tuple[str, int]:
    """Host and port of a server's URL."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    return host, int(port)


#: Sent last, so that a server which keeps connections alive closes this one.
LAST = b"GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


def exchange(url: str, *pieces: bytes, timeout: float = 2.0) -> list[Answer]:
    """Send bytes over one connection, each piece by itself, and read every answer.

    A request that asks the server to close goes last; its own answer, a 404, is
    left out. Where the pieces leave a request unfinished, the server waits for
    its rest, and reading ends after `timeout` seconds.
    """
    with socket.create_connection(address(url), timeout) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        with contextlib.suppress(ConnectionError):  # it refused, and reads no more
            for piece in (*pieces, LAST):
                connection.sendall(piece)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while chunk := connection.recv(65_536):
                received += chunk
    answers = list(_answers(received))
    return answers[:-1] if answers and answers[-1].status == 404 and len(answers) > 1 else answers


def post(path: str, body: bytes, *headers: str, content_type: str | None = "application/json") -> bytes:
    """The bytes of a POST with a Content-Length."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _answers(received: bytes) -> Iterator[Answer]:
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        yield Answer(int(status_line.split(" ")[1]), headers, rest[:length])
        received = rest[length:]


def system_tool(name: str) -> str:
    """The path of a tool `make system` installs; without it the test skips, or fails in CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed: run `make system`")
        pytest.skip(f"{name} is not installed: `make system` installs it")
    return found
