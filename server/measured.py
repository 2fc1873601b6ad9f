"""Around every request of the ordinary way: how long it took, how many there are, and no more than that."""

import random
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.deadline import ARRIVED
from server.errors import Unavailable
from server.metrics import WorkerMetrics
from server.refusals import refusal

#: Routes that tell how the server is: they answer when it is overloaded too.
EXEMPT = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
RETRY_AFTER_SECONDS = (1, 5)


class Measured:
    """Observes the duration of every request of the ordinary way, and sheds those above a limit.

    A request beyond `max_inflight` is answered 503 before a byte of its body is
    read; when to try again is drawn, so that the refused do not come back at once.
    """

    def __init__(self, app: ASGIApp, metrics: WorkerMetrics, max_inflight: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_inflight = max_inflight
        self._in_flight = 0
        self._count_shed = metrics.shed("inflight")

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
        app = self._app if self._has_room(scope["path"]) else self._shed(scope["path"])
        self._add(1)
        try:
            await app(scope, receive, watched)
        finally:
            self._add(-1)
            seconds = (ended or time.perf_counter()) - started
            self._metrics.duration(scope["path"], scope["method"], status)(seconds)

    def _has_room(self, path: str) -> bool:
        return self._in_flight < self._max_inflight or path in EXEMPT

    def _add(self, change: int) -> None:
        self._in_flight += change
        self._metrics.add_in_flight(change)

    def _shed(self, path: str) -> ASGIApp:
        self._count_shed()
        refused = Unavailable(
            "expected fewer requests at once, got more than this worker answers",
            retry_after_seconds=random.randint(*RETRY_AFTER_SECONDS),
        )
        return refusal(path, refused)
