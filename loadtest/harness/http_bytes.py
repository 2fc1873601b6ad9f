"""HTTP as bytes on a socket: requests written by hand, answers read to the last byte."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

Item = TypeVar("Item")


class RawResponse(NamedTuple):
    """An HTTP answer, read off the socket."""

    status: int
    headers: dict[str, str]
    body: bytes


#: Silence for so long ends the reading: a busy machine's server is slow, and no answer is a failure.
PATIENCE_SECONDS = 60.0
#: Sent last, so that a server which keeps connections alive closes this one.
LAST = b"GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


def address(url: str) -> tuple[str, int]:
    """Host and port of a server's URL."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80


def exchange(url: str, *pieces: bytes, timeout: float = PATIENCE_SECONDS) -> list[RawResponse]:
    """Send bytes over one connection, each piece by itself, and read every response.

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
    responses = list(_answers(received))
    return responses[:-1] if responses and responses[-1].status == 404 and len(responses) > 1 else responses


def first_status(url: str, request: bytes, timeout: float = PATIENCE_SECONDS) -> int:
    """The status of the first response to some bytes, 0 if there is none."""
    with contextlib.suppress(OSError):
        for response in exchange(url, request, timeout=timeout):
            return response.status
    return 0


async def converse(url: str, pieces: Iterable[bytes], seconds: float) -> bytes:
    """All that comes back over a connection whose writing side ends after these bytes, b"" if it is reset.

    Raises `TimeoutError` for one that the server does not end within so many seconds.
    """
    writer = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(*address(url))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            writer.write_eof()
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        if writer is not None:
            writer.transport.abort()


async def several_at_once(count: int, items: Iterable[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    """Work on all items, so many at a time."""
    left = iter(items)

    async def one_after_another() -> None:
        for item in left:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one_after_another())


def get(path: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode("latin-1")


def post(path: str, body: bytes, *headers: str, content_type: str | None = "application/json") -> bytes:
    """The bytes of a POST with a Content-Length."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def content_length(head: bytes) -> int:
    """The length a head (in any case) gives its body, 0 if it gives none."""
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def _answers(received: bytes) -> Iterator[RawResponse]:
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        yield RawResponse(int(status_line.split(" ")[1]), headers, rest[:length])
        received = rest[length:]
