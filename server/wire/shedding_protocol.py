"""Requests beyond what a worker answers at once: rejected at little more than the cost of receiving them.

Under overload most requests are rejected, and what a rejection costs is taken from
the responses to the others. A request with an eligible head is rejected here, before
uvicorn's parser: no scope, no task, and its body is dropped as it comes. Every
other one is rejected by `RequestMetrics`, behind the parser.
"""

import re
import time
from functools import lru_cache
from typing import Any, NamedTuple

from server.errors import CLOSE, Problem
from server.scoring.in_flight import SMALL_BYTES, STATUS, Limiter, kind_of, no_room
from server.wire.eligible_head import HEAD_END, MAX_ELIGIBLE_HEAD_BYTES, eligible_head
from server.wire.guarded_protocol import GuardedProtocol
from server.wire.memory_holders import MemoryHolders
from server.wire.overload_responses import OverloadResponses

#: A line of a head that holds a key.
_CREDENTIAL = re.compile(rb"\r\n(authorization|x-api-key):[ \t]*([^\r\n]*)", re.IGNORECASE)
_POST = re.compile(rb"POST /[\w./~-]* HTTP/1\.1\r\n")

#: Of requests that come behind each other so much is parsed at once: one read gives 256,000 bytes,
#: which are 8,000 of the smallest, and a parsed one takes a kilobyte. In a body that does not say
#: its length so much more, as a share of what is there of it.
PIECE_BYTES, PIECE_SHARE = 4096, 32


class Sheddable(NamedTuple):
    """A request that can be rejected unread: its path, what it is limited with, the length of its body."""

    path: str
    kind: str
    body_bytes: int


class SheddingProtocol(GuardedProtocol):
    """The guarded protocol with a look, before its parser, at whether there is room."""

    def __init__(
        self,
        in_flight: Limiter,
        overload: OverloadResponses,
        has_keys: bool,
        slow_readers: MemoryHolders,
        *guards: Any,
        **uvicorn_arguments: Any,
    ) -> None:
        super().__init__(*guards, **uvicorn_arguments)
        self._has_keys = has_keys
        self._slow_readers = slow_readers
        self._in_flight = in_flight
        self._overload = overload
        self._unread = 0  # bytes of a rejected request's body that are still to come
        self._unparsed = memoryview(b"")  # what was read behind a request that waits for its turn
        self._unparsed_bytes = 0  # of that read, as counted by `Limiter`

    def data_received(self, data: bytes) -> None:
        """Drop or reject what there is no room for, and pass the rest on to the parser."""
        if self._unread and not self._lingering:
            self._active_ns = time.perf_counter_ns()
            self._window_bytes += len(data)
            self._unread, data = max(0, self._unread - len(data)), data[self._unread :]
            if not self._unread:
                self._end_incomplete()
        while data and self._in_flight.is_strained and self._may_shed():
            head_end = data.find(HEAD_END) + len(HEAD_END)
            head = data[:head_end]
            if self._has_keys:
                head, _ = parted(head)  # what is remembered holds none
            request = _sheddable(head) if head_end <= MAX_ELIGIBLE_HEAD_BYTES else None
            if request is None or request.body_bytes > self._in_flight.max_body_bytes:
                break
            if self._in_flight.has_room(request.kind, request.body_bytes):
                if request.body_bytes > SMALL_BYTES:
                    self._in_flight.expect(self.loop)
                break
            self._shed(request.path)
            end = head_end + request.body_bytes
            self._unread, data = max(0, end - len(data)), data[end:]
            if self._unread:
                self._begin_incomplete()
        if self._lingering or self._owed is not None:
            self._let_unparsed_go()
            self._receive(data)  # drops it
        elif self._unparsed or len(data) > PIECE_BYTES:
            self._unparsed = memoryview(bytes(self._unparsed) + data)
            self._parse_on()
        elif data:
            self._receive(data)

    def _parse_on(self) -> None:
        """Parse what was read, piece by piece, until a request waits for the response to one before it.

        While something is left, nothing more is read (`PipelineFlow`): a client that sends requests and
        reads no responses has one read in memory and some requests of it, and no read takes long.
        """
        while self._unparsed and not self.pipeline:
            size = max(PIECE_BYTES, self._body_bytes_to_come(PIECE_SHARE))
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._receive(piece)
        if not self._unparsed:
            self._let_unparsed_go()
        elif not self._unparsed_bytes:
            size = len(self._unparsed)
            if self._in_flight.hold(size, size):
                self._unparsed_bytes = size
            else:
                self._let_unparsed_go()
                self._reject(no_room(self._in_flight.shed_one()))

    def _let_unparsed_go(self) -> None:
        self._in_flight.release(self._unparsed_bytes)
        self._unparsed, self._unparsed_bytes = memoryview(b""), 0

    def on_response_complete(self) -> None:
        """A response is out: so the next request is at work, and more of those behind it are parsed."""
        super().on_response_complete()
        if self._unparsed:
            self._parse_on()

    def pause_writing(self) -> None:
        """A response waits for its client."""
        super().pause_writing()
        self._slow_readers.begin(self.give_up, self._unsent_bytes)

    def resume_writing(self) -> None:
        """The client has read on."""
        super().resume_writing()
        self._slow_readers.end(self.give_up)

    def give_up(self) -> None:
        """Reset the connection: other responses wait, too, and together they are too large."""
        self._reset()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was read."""
        self._slow_readers.end(self.give_up)
        self._let_unparsed_go()
        super().connection_lost(exc)

    def on_body(self, body: bytes) -> None:
        """A part of the body, rejected before it is kept where there is no room for it."""
        size = len(body)
        if self._is_responding() and not self._in_flight.admits(self.loop, size, self._body_bytes + size):
            self._stop(no_room(self._in_flight.shed_one()))
        super().on_body(body)

    def _may_shed(self) -> bool:
        # While the server drains, the ASGI path knows when to close.
        return not self._is_busy() and CLOSE not in self.server_state.default_headers

    def _reject(self, problem: Problem) -> None:
        """Reject a request, but not twice: what is to come of one that has its response is dropped."""
        if self._unread:
            self._linger()
        else:
            super()._reject(problem)

    def _shed(self, path: str) -> None:
        self._active_ns = started_ns = time.perf_counter_ns()
        self._fresh = False
        self.transport.write(self._overload.unread(path, self.server_state.default_headers))
        self._overload.observer(path)((time.perf_counter_ns() - started_ns) / 1e9)

    def _is_busy(self) -> bool:
        """Whether the parser or the app is at work, or the client does not read its responses."""
        cycle = self.cycle
        return (
            self._in_message
            or self._lingering
            or self._unread > 0
            or self.flow.write_paused
            or (cycle is not None and not cycle.response_complete)
        )

    def _is_incomplete(self) -> bool:
        return self._in_message or self._unread > 0


def parted(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A head without its keys, and the headers that hold them, names in lower case."""
    credentials = [(name.lower(), value) for name, value in _CREDENTIAL.findall(head)]
    return (_CREDENTIAL.sub(b"", head) if credentials else head), credentials


@lru_cache(1024)
def _sheddable(head: bytes) -> Sheddable | None:
    """What a head says, None if the ASGI path must look at it; the same heads come again and again."""
    if _POST.match(head) is None:
        return None
    found = eligible_head(head)
    if found is None:
        return None
    path = found.target.decode()
    kind = kind_of(path)
    return None if kind == STATUS else Sheddable(path, kind, found.body_bytes)
