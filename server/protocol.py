"""The fast door: a plain `POST /predict`, answered without leaving the protocol.

A request comes this way if it is whole, alone and plain; every other one, and
every one that is refused, takes the ordinary way through Starlette (`app.py`),
so there is one behaviour. No scope, task or ASGI message is made here.

What is plain is decided by the head's bytes: the request line and headers up to
the empty line. httptools parses a head the first time it is seen; a client that
keeps its connection sends the same head again and again, and equal bytes need no
second parse.
"""

import asyncio
import hashlib
import inspect
import time
from collections.abc import Callable
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import Problem, SettingsError
from server.scorer import Scorer

REQUEST_LINE = b"POST /predict HTTP/1.1\r\n"
HEAD_END = b"\r\n\r\n"
#: Heads that are remembered; beyond, all are forgotten. A head longer than
#: `MAX_PLAIN_HEAD_BYTES` takes the ordinary way, so the memory is bounded.
MAX_KNOWN_HEADS = 1024
MAX_PLAIN_HEAD_BYTES = 2048
#: A body may come in this many pieces, as from clients that send head and body
#: apart. Joining more would cost more than the parser does.
MAX_PIECES = 4

#: Headers after which a request is not plain: they change what it means, or how
#: its connection goes on.
UNPLAIN_HEADERS = frozenset(
    {b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"connection", b"trailer", b"te"}
)
JSON_TYPES = frozenset(
    {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"}
)

#: What this module leans on in uvicorn, none of it promised: `data_received`,
#: `on_message_begin`, `on_message_complete`, `connection_made`, `connection_lost`,
#: `_unset_keepalive_if_required`, and the attributes `transport`, `flow`, `cycle`,
#: `loop`, `server_state`, `timeout_keep_alive`, `timeout_keep_alive_task`. A change
#: of the class's source is a reason to read it again before trusting it.
KNOWN_PROTOCOL_SHA256 = "18fdf324b11bf160e38739eed01a48516b460be9e88f1e20e4546e7363fd9232"


def check_uvicorn() -> None:
    """Raise `SettingsError` if uvicorn's protocol is not the one this module was written for."""
    digest = hashlib.sha256(inspect.getsource(HttpToolsProtocol).encode()).hexdigest()
    if digest != KNOWN_PROTOCOL_SHA256:
        raise SettingsError(
            f"expected the uvicorn of requirements/server.txt, got {uvicorn.__version__}, which differs: "
            "install the locked requirements, or set HOTROW_FAST_DOOR=off"
        )


class FastDoor:
    """What all connections of one worker share: the scorer, the known heads, the answer's head."""

    def __init__(self, scorer: Scorer, observe: Callable[[float], None], max_body_bytes: int) -> None:
        self.answer = scorer.answer
        self.observe = observe
        self._max_body_bytes = max_body_bytes
        self._known_heads: dict[bytes, int | None] = {}
        self._default_headers: Any = None
        self._answer_head = b""

    def body_length(self, head: bytes) -> int | None:
        """The length of the body that follows a plain head, None if the head is not plain."""
        try:
            return self._known_heads[head]
        except KeyError:
            return self._learn(head)

    def _learn(self, head: bytes) -> int | None:
        if not head.startswith(REQUEST_LINE) or len(head) > MAX_PLAIN_HEAD_BYTES:
            return None
        length = plain_body_length(head)
        if length is not None and length > self._max_body_bytes:
            length = None
        if len(self._known_heads) >= MAX_KNOWN_HEADS:
            self._known_heads.clear()
        self._known_heads[head] = length
        return length

    def answer_head(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """Status line and headers up to the content length.

        uvicorn replaces the list of default headers (the date) once a second.
        """
        if default_headers is not self._default_headers:
            self._default_headers = default_headers
            lines = b"".join(b"%b: %b\r\n" % header for header in default_headers)
            self._answer_head = (
                b"HTTP/1.1 200 OK\r\n" + lines + b"content-type: application/json\r\ncontent-length: "
            )
        return self._answer_head


class _Head:
    """Collects what httptools finds in a head."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


def plain_body_length(head: bytes) -> int | None:
    """The body length a head announces, None unless it is plain.

    Plain is: exactly one Host, one Content-Length and one JSON Content-Type, and
    no header that changes the meaning of the request or its connection.
    """
    found = _Head()
    try:
        httptools.HttpRequestParser(found).feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    names = [name for name, _ in found.headers]
    if not found.complete or not UNPLAIN_HEADERS.isdisjoint(names):
        return None
    if any(names.count(name) != 1 for name in (b"host", b"content-length", b"content-type")):
        return None
    headers = dict(found.headers)
    if headers[b"content-type"].lower() not in JSON_TYPES:
        return None
    return int(headers[b"content-length"])


class HotrowProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the fast door before its parser."""

    def __init__(self, door: FastDoor, **uvicorn_arguments: Any) -> None:
        super().__init__(**uvicorn_arguments)
        self._door = door
        self._held = b""
        self._pieces = 0
        self._in_message = False
        self._active_ns = 0
        self._idle_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Answer a plain request, or pass the bytes on to uvicorn's parser."""
        self._active_ns = time.perf_counter_ns()
        if self._held:
            data = self._held + data
        head_end = data.find(HEAD_END) + len(HEAD_END)
        length = self._door.body_length(data[:head_end])
        if length is None or self._is_busy():
            self._pass_on(data)
            return
        missing = head_end + length - len(data)
        if missing == 0:
            self._answer(data, head_end)
        elif missing > 0 and self._pieces < MAX_PIECES:
            self._held, self._pieces = data, self._pieces + 1
        else:  # in crumbs, or with another request behind it
            self._pass_on(data)

    def _answer(self, data: bytes, head_end: int) -> None:
        started_ns = self._active_ns
        try:
            self._door.answer(data[head_end:], self._send, started_ns)
        except Problem:  # the ordinary way words it
            self._pass_on(data)
            return
        if self._held:
            self._held, self._pieces = b"", 0
        self._door.observe((time.perf_counter_ns() - started_ns) / 1e9)

    def _send(self, content: bytes) -> None:
        head = self._door.answer_head(self.server_state.default_headers)
        self.transport.write(b"%b%d\r\n\r\n%b" % (head, len(content), content))

    def _pass_on(self, data: bytes) -> None:
        self._held, self._pieces = b"", 0
        super().data_received(data)

    def _is_busy(self) -> bool:
        """Whether uvicorn is inside a request, or the client does not read its answers."""
        cycle = self.cycle
        return (
            self._in_message or self.flow.write_paused or (cycle is not None and not cycle.response_complete)
        )

    def on_message_begin(self) -> None:
        """The parser has begun a request: until its end the bytes are the parser's."""
        self._in_message = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The parser is between requests again."""
        self._in_message = False
        super().on_message_complete()

    # uvicorn arms and cancels a timer for every request. One timer a connection,
    # which looks at the time of the last bytes when it fires, costs nothing then.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to watch for an idle client."""
        super().connection_made(transport)
        self._active_ns = time.perf_counter_ns()
        self._watch(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching; uvicorn leaves its own timer armed after a reset."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _watch(self, seconds: float) -> None:
        self._idle_timer = self.loop.call_later(seconds, self._close_if_idle)

    def _close_if_idle(self) -> None:
        left = self.timeout_keep_alive - (time.perf_counter_ns() - self._active_ns) / 1e9
        if left > 0.0:
            self._watch(left)
        elif self._is_busy():
            self._watch(self.timeout_keep_alive)
        elif not self.transport.is_closing():
            self.transport.close()
