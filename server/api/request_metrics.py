"""Around every request of the ordinary way: how long it took, how many there are, and no more than that."""

import math
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.scoring.deadline import ARRIVED
from server.wire.shedding_protocol import EXEMPT, InFlight


class Measured:
    """Observes the duration of every request of the ordinary way, and sheds those above a limit.

    Here are shed those that `shedding.py` let pass: a head out of the ordinary, a
    request in the pipeline behind another. No byte of the body is waited for.
    """

    def __init__(self, app: ASGIApp, in_flight: InFlight) -> None:
        self._app = app
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request and observe it when its answer is out."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, ended = "500", 0.0

        async def watched(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)
            ended = time.perf_counter()  # what runs after the last message is ours

        started = time.perf_counter()
        scope[ARRIVED] = int(started * 1e9)
        path = scope["path"]
        is_shed = self._in_flight.is_full and path not in EXEMPT
        app = self._in_flight.shed(path, _body_bytes(scope)) if is_shed else self._app
        self._in_flight.add(1)
        try:
            await app(scope, receive, watched)
        finally:
            self._in_flight.add(-1)
            seconds = (ended or time.perf_counter()) - started
            self._in_flight.metrics.duration(path, scope["method"], status)(seconds)


def _body_bytes(scope: Scope) -> float:
    """The length that the head announces, endless if it is chunked."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    return math.inf if b"transfer-encoding" in headers or not length.isdigit() else int(length)
