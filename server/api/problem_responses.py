"""Error responses as the documents the client's protocol knows."""

from functools import lru_cache

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from server.errors import (
    MAX_IN_SENTENCE,
    PROBLEM_JSON,
    MemoryExhausted,
    MethodNotAllowed,
    ModelFailure,
    NotFound,
    Problem,
)
from server.model.schema import name_in
from server.scoring.in_flight import OVERRIDE, kind_of, no_room


async def problem_response(request: Request, error: Exception) -> Response:
    """A rejected request's problem document, or as the Open Inference Protocol writes it under `/v2`."""
    assert isinstance(error, Problem)
    if error.errors and kind_of(request.url.path) != OVERRIDE:  # there it is no row that is refused
        fields = ((name_in(field.pointer), field.reason) for field in error.errors)
        request.app.state.service.count_rejected(request.path_params, fields)
    return error_response(request.url.path, error)


def error_response(path: str, error: Problem) -> Response:
    """The response to a rejected request for this path."""
    if is_open_inference(path):
        return _open_inference_error(error)
    return Response(error.body(), error.status, headers=error.headers, media_type=PROBLEM_JSON)


def is_open_inference(path: str) -> bool:
    """Whether answers to this path are in the form of the Open Inference Protocol."""
    return path == "/v2" or path.startswith("/v2/")


def _open_inference_error(error: Problem) -> Response:
    """`{"error": "..."}`; that protocol knows no 422."""
    details = [f"{e.pointer}: {e.detail}" for e in error.errors[:MAX_IN_SENTENCE]]
    content = orjson.dumps(
        {"error": ": ".join([error.detail, "; ".join(details)]) if details else error.detail}
    )
    status = 400 if error.status == 422 else error.status
    return Response(content, status, headers=error.headers, media_type="application/json")


@lru_cache
def overloaded(under_v2: bool, retry_after_seconds: int) -> Response:
    """The response to a request that there is no room for."""
    return error_response("/v2" if under_v2 else "/", no_room(retry_after_seconds))


async def http_exception_response(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405 in the words and form of all others."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        headers = dict(error.headers or {})
        problem: Problem = MethodNotAllowed(
            f"expected {headers.get('Allow')}, got another method", headers=headers
        )
    else:
        problem = NotFound("expected a path of this server, got another: see /docs or /openapi.json")
    return await problem_response(request, problem)


async def disconnect_response(_: Request, __: Exception) -> Response:
    """The client left in the middle of its request: no mistake of ours, and nobody reads this."""
    return Response(status_code=400)


async def no_memory_response(request: Request, _: Exception) -> Response:
    """A request for which there is no memory."""
    return await problem_response(request, MemoryExhausted())


async def failure_response(request: Request, _: Exception) -> Response:
    """Our own mistake: the response says nothing of the inside, the log has the traceback."""
    return await problem_response(request, ModelFailure("the server failed to answer this request"))
