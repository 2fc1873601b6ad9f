"""The ASGI path of every request: a Starlette app, its routes and what goes around them."""

import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from server.api.access import BelowRoot, add_access
from server.api.batch import predict_batch
from server.api.body import check_json, read_body
from server.api.content_coding import PackedAnswers
from server.api.docs_page import docs_routes
from server.api.explain import explain
from server.api.history import history
from server.api.open_inference import open_inference_routes
from server.api.outcomes import TakenOutcomes
from server.api.override import Overriding
from server.api.problem_responses import (
    disconnect_response,
    failure_response,
    http_exception_response,
    no_memory_response,
    problem_response,
)
from server.api.recourse import recourse
from server.api.request_metrics import RequestMetrics
from server.errors import HotrowError
from server.scoring.deadline import Deadline
from server.scoring.one_row import Extras
from server.scoring.request_identity import identity_of_request
from server.scoring.row_context import flat_row
from server.scoring.row_id import id_of, takes_id
from server.scoring.served_model import ServedModel
from server.scoring.service import Service
from server.scoring.split import FAILURES


def create_app(service: Service, has_own_guard: Callable[[str], bool] = lambda _: False) -> Starlette:
    """The app of one worker.

    `has_own_guard` says of a path that no key is asked for, because others ask who it is.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # What start-up made stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        service.start()
        yield
        service.ready = False
        await service.close()

    app = Starlette(
        routes=[
            *_scoring_routes(""),
            Route("/model", model),
            Route("/models", models),
            *_scoring_routes("/models/{name}"),
            Route("/models/{name}", model),
            *_scoring_routes("/models/{name}/versions/{version}"),
            Route("/models/{name}/versions/{version}", model),
            Route("/decisions/{id:path}/override", Overriding(service).answer, methods=["POST"]),
            Route("/outcomes", TakenOutcomes(service).answer, methods=["POST"]),
            Route("/livez", livez),
            Route("/readyz", readyz),
            # What load balancers ask for without being told.
            *(Route(path, readyz) for path in ("/health", "/healthz", "/ping")),
            OptionsRoute("/", readyz, methods=["OPTIONS"]),
            Route("/metrics", metrics),
            Route("/history", history),
            *open_inference_routes(),
            *docs_routes(),
        ],
        exception_handlers={
            HotrowError: problem_response,
            HTTPException: http_exception_response,
            ClientDisconnect: disconnect_response,
            MemoryError: no_memory_response,
            Exception: failure_response,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would be one more answer to learn
    app.state.service = service
    app.add_middleware(PackedAnswers)
    add_access(app, service.settings, service.keys, has_own_guard)
    duration, spans = service.metrics.duration, service.spans
    app.add_middleware(RequestMetrics, in_flight=service.in_flight, duration=duration, spans=spans)
    if service.settings.root_path:
        app.add_middleware(BelowRoot, root=service.settings.root_path)
    return app


class OptionsRoute(Route):
    """A route that leaves other methods of its path to whoever has them: the page, or a 404."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """No match in part."""
        match, child = super().matches(scope)
        return (match, child) if match is Match.FULL else (Match.NONE, {})


def _scoring_routes(prefix: str) -> list[Route]:
    """What rows are sent to, for the default model or for one by its name."""
    return [
        Route(prefix + "/predict", predict, methods=["POST"]),
        Route(prefix + "/predict/batch", predict_batch, methods=["POST"]),
        Route(prefix + "/explain", explain, methods=["POST"]),
        Route(prefix + "/recourse", recourse, methods=["POST"]),
    ]


async def predict(request: Request) -> Response:
    """`POST /predict`: one row."""
    service: Service = request.app.state.service
    check_json(request)
    deadline = Deadline.of(request)
    body = await read_body(request, service.settings.max_body_bytes)
    deadline.check()
    champion = service.asked(request.path_params)
    body = flat_row(body, champion.bundle.schema)
    identity = identity_of_request(request.scope).members
    challenger = service.challenger_of(request.path_params, body, identity)
    if challenger is not None:
        with suppress(*FAILURES):  # the champion answers, or words it
            return _answer(challenger, request, body, identity)
    return _answer(champion, request, body, identity)


def _answer(model: ServedModel, request: Request, body: bytes, identity: bytes) -> Response:
    """What a model says of one row."""
    contents: list[bytes] = []
    asked = model.reason_texts.asked(request.query_params)
    extras = Extras(
        id_of(body) if takes_id(model.bundle.schema) else b"",
        None if asked is None else model.reasons_of(asked),
        asked is not None and asked.always,
    )
    model.scorer.respond(body, contents.append, time.perf_counter_ns(), extras, identity)
    return Response(contents[0], media_type="application/json")


async def model(request: Request) -> Response:
    """`GET /model`: what is served, and the proof that it is equal to its source."""
    service: Service = request.app.state.service
    return Response(service.asked(request.path_params).document, media_type="application/json")


async def models(request: Request) -> Response:
    """`GET /models`: every model, the first answers the routes without a name; and the challengers."""
    service: Service = request.app.state.service
    content = {
        "models": [model.entry for model in service.models],
        "arms": service.arms(),
        "ready": service.ready,
        "reloads": service.reloads,
    }
    return Response(orjson.dumps(content), media_type="application/json")


async def livez(_: Request) -> Response:
    """`GET /livez`: the event loop turns."""
    return Response(b'{"status":"live"}', media_type="application/json")


async def readyz(request: Request) -> Response:
    """`GET /readyz`: the model is verified and warm, and the server is not draining."""
    request.app.state.service.check_ready()
    return Response(b'{"status":"ready"}', media_type="application/json")


async def metrics(request: Request) -> Response:
    """`GET /metrics`: all workers' counters in a format of Prometheus."""
    service: Service = request.app.state.service
    content, content_type = await service.exposition.page(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": content_type})
