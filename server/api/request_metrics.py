"""Around every request of the ASGI path: its place among those in flight, its duration, its last resort."""

import logging
import math
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.content_coding import unpacking
from server.api.problem_responses import failure_response, is_open_inference, overloaded
from server.errors import CLOSE
from server.metrics.names import METHODS, OTHER, route_label
from server.scoring.deadline import ARRIVED
from server.scoring.in_flight import SMALL_BYTES, Limiter, kind_of
from server.scoring.request_identity import REQUEST_ID, identity_in
from server.tracing.spans import Spans, span_head

logger = logging.getLogger(__name__)
#: What observes the seconds of a request of a path, method and status: `WorkerMetrics.duration`.
Duration = Callable[[str, str, str], Callable[[float], None]]


class RequestMetrics:
    """Observes the duration of every request of the ASGI path, and sheds those above a limit.

    Here are shed those that `SheddingProtocol` let pass: a head out of the ordinary, a
    request in the pipeline behind another, one whose kind was filled, or whose
    bytes were too many, while it came.
    """

    def __init__(
        self, app: ASGIApp, in_flight: Limiter, duration: Duration, spans: Spans | None = None
    ) -> None:
        self._app = app
        self._spans = spans
        self._duration = duration
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request and observe it when its response is out."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        scope[ARRIVED] = int(started * 1e9)
        path = scope["path"]
        place = Place(self._in_flight, kind_of(path), _body_bytes(scope))
        identity = identity_in(scope["headers"])
        response = _ResponseWatch(place, identity.request_id, send)
        try:
            unpacked = unpacking(scope, receive, self._in_flight.max_body_bytes)
            await self._run(scope, place.watching(unpacked), response, place)
        finally:
            place.leave()
            seconds = (response.ended or time.perf_counter()) - started
            self._duration(path, scope["method"], response.status)(seconds)
            if self._spans is not None and self._spans.takes(identity.parent):
                method = scope["method"] if scope["method"] in METHODS else OTHER
                head = span_head(method, path, response.status, route_label(path))
                began_ns, ended_ns = int(started * 1e9), int((started + seconds) * 1e9)
                self._spans.note(identity.parent, head, response.content, began_ns, ended_ns)

    async def _run(self, scope: Scope, receive: Receive, response: "_ResponseWatch", place: "Place") -> None:
        try:
            if not place.is_rejected:
                await self._app(scope, receive, response.send)
        except Exception as error:
            if place.is_rejected:
                pass  # it saw the client go, as it was told
            elif response.has_begun:
                raise
            else:  # answered here, the connection goes on: uvicorn would end it without saying so
                logger.exception("A request failed.")
                await (await failure_response(Request(scope), error))(scope, receive, response.send)
        if place.is_rejected and not response.has_begun:
            error_response = overloaded(is_open_inference(scope["path"]), self._in_flight.shed_one())
            await error_response(scope, receive, response.last)


class Place:
    """What one request takes of a worker: one of its kind once it is whole, and the bytes of its body."""

    def __init__(self, in_flight: Limiter, kind: str, expected_bytes: float) -> None:
        self._in_flight = in_flight
        self._kind = kind
        self._expected_bytes = expected_bytes
        self._held_bytes = 0
        self._has_begun = False
        self.is_whole = False
        #: Whether there is no room for it: at its head, or by what came.
        self.is_rejected = in_flight.is_full(kind)
        if not expected_bytes and not self.is_rejected:
            self._begin()

    def watching(self, receive: Receive) -> Receive:
        """`receive` for the app, which is told that the client has gone if there is no room for what came."""

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not self.is_whole:
                self._take(len(message.get("body", b"")), is_last=not message.get("more_body"))
                if self.is_rejected:
                    return {"type": "http.disconnect"}
            return message

        return received

    def _take(self, new_bytes: int, *, is_last: bool) -> None:
        if self._in_flight.hold(new_bytes, self._held_bytes + new_bytes):
            self._held_bytes += new_bytes
        else:
            self.is_rejected = True
            self._give_back()
        if is_last:
            self.is_whole = True
            if self._in_flight.is_full(self._kind):
                self.is_rejected = True
            elif not self.is_rejected:
                self._begin()

    def _begin(self) -> None:
        self.is_whole = self._has_begun = True
        self._in_flight.begin(self._kind)

    def leave(self) -> None:
        """The request has come to its end."""
        self._give_back()
        if self._has_begun:
            self._in_flight.end(self._kind)

    def _give_back(self) -> None:
        """Hold nothing any more: at once where there is no room, or all that come now find none either."""
        self._in_flight.release(self._held_bytes)
        self._held_bytes = 0

    @property
    def leaves_much(self) -> bool:
        """Whether more of the body may come than is worth keeping the connection for."""
        return not self.is_whole and self._expected_bytes > SMALL_BYTES


class _ResponseWatch:
    """What is sent of one response: with the request's id, and whether half a request ends it."""

    def __init__(self, place: Place, request_id: bytes, send: Send) -> None:
        self._place = place
        self._request_id = request_id
        self._send = send
        self.status, self.ended, self.has_begun = "500", 0.0, False
        #: The last piece that was sent.
        self.content = b""

    async def send(self, message: Message) -> None:
        """Send a message of the app, unless the request was rejected while it came."""
        if not self._place.is_rejected or self.has_begun:
            await self.last(message)

    async def last(self, message: Message) -> None:
        """Send a message."""
        if message["type"] == "http.response.start":
            self.status, self.has_begun = str(message["status"]), True
            if self._place.leaves_much:
                message = {**message, "headers": [*message.get("headers", []), CLOSE]}
            if self._request_id:
                headers = [*message.get("headers", []), (REQUEST_ID, self._request_id)]
                message = {**message, "headers": headers}
        self.content = message.get("body", b"")
        await self._send(message)
        self.ended = time.perf_counter()  # what runs after the last message is ours


def _body_bytes(scope: Scope) -> float:
    """The length that the head announces, endless if it is chunked."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    return math.inf if b"transfer-encoding" in headers or not length.isdigit() else int(length)
