"""The duration of every request of the ordinary way, and how many are in flight."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.metrics import WorkerMetrics


class Measured:
    """Observes the duration of every request of the ordinary way, and counts those in flight."""

    def __init__(self, app: ASGIApp, metrics: WorkerMetrics) -> None:
        self._app = app
        self._metrics = metrics

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
        self._metrics.add_in_flight(1)
        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.add_in_flight(-1)
            seconds = (ended or time.perf_counter()) - started
            self._metrics.duration(scope["path"], scope["method"], status)(seconds)
