"""Requests beyond what a worker answers at once: refused at little more than the cost of receiving them.

Under overload most requests are refused, and what a refusal costs is taken from
the answers to the others. A request with a plain head is refused here, before
uvicorn's parser: no scope, no task, and its body is dropped as it comes. Every
other one is refused in `measured.py`, behind the parser.
"""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from server.api.problem_responses import is_open_inference, refusal
from server.errors import Problem, Unavailable
from server.metrics.shared import WorkerMetrics
from server.wire.guarded_protocol import GuardedProtocol, header_lines
from server.wire.plain_head import CLOSE, HEAD_END, MAX_PLAIN_HEAD_BYTES, plain_head

#: Routes that tell how the server is: they answer when it is overloaded too.
EXEMPT = frozenset({"/livez", "/readyz", "/metrics", "/models", "/v2/health/live", "/v2/health/ready"})
#: When to try again is drawn from these, so that the refused do not come back at once.
RETRY_AFTER_SECONDS = (1, 2, 3, 4, 5)
#: Bodies up to here are worked on at once: it takes no longer than a few single rows do.
SMALL_BYTES = 16_384
#: One that the event loop works on, while another one's rows are in ONNX Runtime.
AT_WORK = 2
#: Of the requests in flight one in so many may wait for its turn. The others are
#: still being received: slow senders alone must not fill the queue.
WAITING_SHARE = 8
_POST = re.compile(rb"POST /[\w./~-]* HTTP/1\.1\r\n")


class Sheddable(NamedTuple):
    """A request that can be refused unread: its path, and the length of its body."""

    path: str
    body_bytes: int


class InFlight:
    """The requests of the ordinary way that one worker is answering, and how many it may.

    Two limits: of all that are in flight, and of those with large bodies that wait
    for their turn. What is small never waits, and is not refused for the second one.
    """

    def __init__(self, metrics: WorkerMetrics, most: int, most_bytes: int) -> None:
        self.metrics = metrics
        #: A longer body is not read to its end, so its connection must close.
        self.most_bytes = most_bytes
        self._most = most
        self._most_waiting = max(1, most // WAITING_SHARE)
        self._count = 0
        self._waiting = 0
        self._coming = 0
        self._turns = asyncio.Semaphore(AT_WORK)
        self._count_shed = metrics.shed("inflight")
        self._default_headers: Any = None
        self._answers: dict[tuple[bool, int], bytes] = {}
        #: Observes the seconds of a request refused unread, by its path.
        self.observer = lru_cache(256)(lambda path: metrics.duration(path, "POST", "503"))

    @property
    def is_full(self) -> bool:
        """Whether one more would be one too many, whatever it is."""
        return self._count >= self._most

    @property
    def is_strained(self) -> bool:
        """Whether some requests are refused: all, or those with large bodies."""
        return self._waiting > 0 or self.is_full

    def has_room(self, body_bytes: int) -> bool:
        """Whether a request with a body of this length is taken."""
        waits = body_bytes > SMALL_BYTES
        return not self.is_full and not (waits and self._waiting + self._coming >= self._most_waiting)

    def expect(self, loop: asyncio.AbstractEventLoop) -> None:
        """A large body was let through: it waits as soon as the event loop has seen all that came."""
        if not self._coming:
            loop.call_soon(self._expect_none)
        self._coming += 1

    def _expect_none(self) -> None:
        self._coming = 0

    @asynccontextmanager
    async def turn(self, body_bytes: int) -> AsyncIterator[None]:
        """The time to work on a request whose body has been received; raises `Unavailable`.

        Those with large bodies take turns: rows that are decoded and wait would fill
        the memory, and give the garbage collector work that no answer needs.
        """
        if body_bytes <= SMALL_BYTES:
            yield
            return
        if self._turns.locked() and self._waiting >= self._most_waiting:
            raise _unavailable(self._shed_one())
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()

    def add(self, change: int) -> None:
        """One more, or one less."""
        self._count += change
        self.metrics.add_in_flight(change)

    def shed(self, path: str, body_bytes: float) -> Response:
        """What refuses a request for this path; counted. With much to come the connection closes."""
        return _refused(is_open_inference(path), self._shed_one(), closing=body_bytes > SMALL_BYTES)

    def shed_unread(self, path: str, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """The whole answer that refuses a POST to this path; counted.

        `default_headers` are uvicorn's, which replaces the list (the date) once a second.
        """
        if default_headers is not self._default_headers:
            self._default_headers = default_headers
            self._answers = {
                (under_v2, seconds): _http(_refused(under_v2, seconds), default_headers)
                for seconds in RETRY_AFTER_SECONDS
                for under_v2 in (False, True)
            }
        return self._answers[is_open_inference(path), self._shed_one()]

    def _shed_one(self) -> int:
        """Count a refused request; in how many seconds it may try again."""
        self._count_shed()
        return random.choice(RETRY_AFTER_SECONDS)


def _unavailable(retry_after_seconds: int) -> Unavailable:
    words = "expected fewer requests at once, got more than this worker answers"
    return Unavailable(words, retry_after_seconds=retry_after_seconds)


@lru_cache
def _refused(under_v2: bool, retry_after_seconds: int, closing: bool = False) -> Response:
    answer = refusal("/v2" if under_v2 else "/", _unavailable(retry_after_seconds))
    if closing:
        answer.headers["Connection"] = "close"
    return answer


def _http(answer: Response, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    lines = header_lines([*default_headers, *answer.raw_headers])
    return b"%b%b\r\n%b" % (STATUS_LINE[answer.status_code], lines, bytes(answer.body))


class SheddingProtocol(GuardedProtocol):
    """The guarded protocol with a look, before its parser, at whether there is room."""

    def __init__(self, in_flight: InFlight, *guards: Any, **uvicorn_arguments: Any) -> None:
        super().__init__(*guards, **uvicorn_arguments)
        self._in_flight = in_flight
        self._unread = 0  # bytes of a refused request's body that are still to come

    def data_received(self, data: bytes) -> None:
        """Drop or refuse what there is no room for, and pass the rest on to the parser."""
        if self._unread and not self._lingering:
            self._active_ns = time.perf_counter_ns()
            self._unread, data = max(0, self._unread - len(data)), data[self._unread :]
        while data and self._in_flight.is_strained and self._may_shed():
            head_end = data.find(HEAD_END) + len(HEAD_END)
            request = _sheddable(data[:head_end]) if head_end <= MAX_PLAIN_HEAD_BYTES else None
            if request is None or request.body_bytes > self._in_flight.most_bytes:
                break
            if self._in_flight.has_room(request.body_bytes):
                if request.body_bytes > SMALL_BYTES:
                    self._in_flight.expect(self.loop)
                break
            self._shed(request.path)
            end = head_end + request.body_bytes
            self._unread, data = max(0, end - len(data)), data[end:]
            if self._unread:
                self._begin_incomplete()
        if data:
            super().data_received(data)

    def _may_shed(self) -> bool:
        # While the server drains, the ordinary way knows when to close.
        return not self._is_busy() and CLOSE not in self.server_state.default_headers

    def _refuse(self, problem: Problem) -> None:
        """Refuse a request, but not twice: what is to come of one that has its answer is dropped."""
        if self._unread:
            self._linger()
        else:
            super()._refuse(problem)

    def _shed(self, path: str) -> None:
        self._active_ns = started_ns = time.perf_counter_ns()
        self._fresh = False
        self.transport.write(self._in_flight.shed_unread(path, self.server_state.default_headers))
        self._in_flight.observer(path)((time.perf_counter_ns() - started_ns) / 1e9)

    def _is_busy(self) -> bool:
        """Whether the parser or the app is at work, or the client does not read its answers."""
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


@lru_cache(1024)
def _sheddable(head: bytes) -> Sheddable | None:
    """What a head says, None if the ordinary way must look at it; the same heads come again and again."""
    if _POST.match(head) is None:
        return None
    found = plain_head(head)
    if found is None or (path := found.target.decode()) in EXEMPT:
        return None
    return Sheddable(path, found.body_bytes)
