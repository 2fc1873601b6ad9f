"""The ordinary way of every request: a Starlette app around the scorer."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.bundle import CERTIFICATE_FILE, Bundle
from server.errors import (
    PROBLEM_JSON,
    BodyTooLarge,
    HotrowError,
    MethodNotAllowed,
    ModelFailure,
    NotFound,
    Problem,
    Unavailable,
    UnsupportedMedia,
)
from server.metrics import Layout, MetricsPage, SharedMetrics, WorkerMetrics
from server.prediction_log import PredictionLog
from server.scorer import Scorer
from server.settings import Settings

logger = logging.getLogger(__name__)


@dataclass
class Service:
    """Everything one worker answers with; found by the routes at `app.state.service`."""

    settings: Settings
    scorers: list[Scorer]
    metrics: WorkerMetrics
    page: MetricsPage
    log: PredictionLog | None
    ready: bool = False

    @property
    def default(self) -> Scorer:
        """The model that answers `/predict`."""
        return self.scorers[0]


def open_bundles(settings: Settings) -> list[Bundle]:
    """Load the bundles the settings name, hashes checked; raises `BundleError`."""
    return [Bundle.load(directory) for directory in settings.model]


def share_metrics(bundles: Sequence[Bundle], workers: int) -> SharedMetrics:
    """The counters of all workers; called once, before the first fork."""
    models = [(b.label, (b.decision.below, b.decision.otherwise)) for b in bundles]
    return SharedMetrics(Layout(models), workers)


def open_service(
    settings: Settings, bundles: Sequence[Bundle], shared: SharedMetrics, worker: int = 0
) -> Service:
    """Load, warm up and self-test everything one worker needs.

    Raises `BundleError` when a golden row is off by a bit, and `SettingsError`
    when the prediction log cannot be opened.
    """
    metrics = WorkerMetrics(shared, worker)
    log = None
    if settings.log_mode != "off":
        log = PredictionLog(
            settings.log_dir,
            f"{settings.port}-{worker}",
            metrics,
            queue_bytes=settings.log_queue_bytes,
            strict=settings.log_mode == "strict",
        )
    scorers = [Scorer(bundle, metrics, log) for bundle in bundles]
    for scorer in scorers:
        scorer.predictor.check_golden_rows()
    labels = [
        {"name": b.name, "version": b.version, "sha256": b.manifest["files"]["model.onnx"]} for b in bundles
    ]
    return Service(settings, scorers, metrics, MetricsPage(shared, labels), log)


def create_app(service: Service, extra_routes: Sequence[Any] = ()) -> Starlette:
    """The app of one worker; `extra_routes` come after its own."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if service.log is not None:
            service.log.start()
        # What start-up made stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        service.ready = True
        yield
        service.ready = False
        if service.log is not None:
            await asyncio.to_thread(service.log.close)

    app = Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/model", model),
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            *extra_routes,
        ],
        exception_handlers={
            HotrowError: answer_problem,
            HTTPException: answer_http_exception,
            Exception: answer_failure,
        },
        lifespan=lifespan,
    )
    app.state.service = service
    app.state.model_document = orjson.dumps(_model_document(service.default.bundle))
    app.add_middleware(Measured, metrics=service.metrics)
    return app


async def predict(request: Request) -> Response:
    """`POST /predict`: one row."""
    service: Service = request.app.state.service
    check_json(request)
    body = await read_body(request, service.settings.max_body_bytes)
    contents: list[bytes] = []
    service.default.answer(body, contents.append, time.perf_counter_ns())
    return Response(contents[0], media_type="application/json")


async def model(request: Request) -> Response:
    """`GET /model`: what is served, and the proof that it is equal to its source."""
    return Response(request.app.state.model_document, media_type="application/json")


async def livez(_: Request) -> Response:
    """`GET /livez`: the event loop turns."""
    return Response(b'{"status":"live"}', media_type="application/json")


async def readyz(request: Request) -> Response:
    """`GET /readyz`: the model is verified and warm, and the server is not draining."""
    if not request.app.state.service.ready:
        raise Unavailable("the server is starting or draining")
    return Response(b'{"status":"ready"}', media_type="application/json")


async def metrics(request: Request) -> Response:
    """`GET /metrics`: all workers' counters in Prometheus' format."""
    content, content_type = request.app.state.service.page.render(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": content_type})


def check_json(request: Request) -> None:
    """Refuse a body that does not say it is plain UTF-8 JSON; raises `UnsupportedMedia`."""
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media_type.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise UnsupportedMedia(
            "expected Content-Type: application/json, got another media type or none",
            headers={"Accept-Post": "application/json"},
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia(
            "expected no Content-Encoding, got one", headers={"Accept-Encoding": "identity"}
        )


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body of at most `limit` bytes; raises `BodyTooLarge` before reading more."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def too_large(limit: int) -> BodyTooLarge:
    """The refusal of a body over `limit` bytes; the connection closes, the rest is not read."""
    return BodyTooLarge(
        f"expected a body of at most {limit} bytes, got more", headers={"Connection": "close"}
    )


async def answer_problem(_: Request, error: Exception) -> Response:
    """A refusal as its problem document."""
    assert isinstance(error, Problem)
    return Response(error.body(), error.status, headers=error.headers, media_type=PROBLEM_JSON)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405 in the words and form of all others."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        headers = dict(error.headers or {})
        refusal: Problem = MethodNotAllowed(
            f"expected {headers.get('Allow')}, got another method", headers=headers
        )
    else:
        refusal = NotFound("expected a path of this server, got another: see /docs or /openapi.json")
    return await answer_problem(request, refusal)


async def answer_failure(request: Request, _: Exception) -> Response:
    """Our own mistake: the answer says nothing of the inside, the log has the traceback."""
    return await answer_problem(request, ModelFailure("the server failed to answer this request"))


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
        status = "500"

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        started = time.perf_counter()
        self._metrics.add_in_flight(1)
        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.add_in_flight(-1)
            seconds = time.perf_counter() - started
            self._metrics.duration(scope["path"], scope["method"], status)(seconds)


def _model_document(bundle: Bundle) -> dict[str, Any]:
    return bundle.manifest | {"parity": bundle.read_json(CERTIFICATE_FILE)}
