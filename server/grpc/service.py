"""The protocol's calls: each one request to the server, its refusals as gRPC's status codes."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import grpc
import orjson

from server.errors import Problem
from server.grpc.entries import check_entries
from server.grpc.inference import from_http, to_http
from server.grpc.messages import HEALTH, INFERENCE, MESSAGES, NOT_SERVING, SERVING, parsed
from server.grpc.queues import HEALTH_CHECK, Queues
from server.grpc.upstream import HEAD_LENGTH, PASSED_ON, Answered, Refused, Upstream

#: The oftenest that a client may ping without a call, as it does to keep a connection through a balancer.
MIN_PING_MS = 5_000
#: What stands around the tensors of a request.
MAX_OTHER_BYTES = 2**16
#: A deadline beyond it is none.
_LONGEST_SECONDS = 86_400
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
#: What a health check may ask for (`health.proto`): all, or a service by its name.
_SERVICES = ("", f"{INFERENCE}.GRPCInferenceService", f"{HEALTH}.Health")


class HeldBytes:
    """The bytes of the messages that are worked on, each in some four copies; for all threads."""

    def __init__(self, most: int) -> None:
        self._most, self._held, self._lock = most, 0, threading.Lock()

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold so many more; raises `Refused` where they are too many, but not alone."""
        with self._lock:
            if self._held and self._held + size > self._most:
                raise Refused(503, "expected fewer large calls at once, got more than are held")
            self._held += size
        try:
            yield
        finally:
            with self._lock:
                self._held -= size


class InferenceService:
    """Answers each call by asking the server behind; of inferences at most so many bytes at once."""

    def __init__(self, upstream: Upstream, most_bytes: int) -> None:
        self._upstream = upstream
        self._held = HeldBytes(most_bytes)

    def _ask(
        self,
        context: grpc.ServicerContext,
        method: str,
        path: str,
        body: bytes = b"",
        head_length: int | None = None,
    ) -> Answered:
        headers = {key: str(value) for key, value in context.invocation_metadata() if key in PASSED_ON}
        seconds = context.time_remaining()
        if seconds is not None and seconds > _LONGEST_SECONDS:
            seconds = None  # so gRPC says that there is no deadline
        if seconds is not None:
            headers["X-Request-Timeout-Ms"] = str(max(1, round(seconds * 1000)))
        if head_length is not None:
            headers |= {HEAD_LENGTH: str(head_length), "Content-Type": "application/octet-stream"}
        elif body:
            headers["Content-Type"] = "application/json"
        return self._upstream.ask(method, path, headers, body, seconds)

    def _is_ready(self, context: grpc.ServicerContext, path: str) -> bool:
        try:
            self._ask(context, "GET", path)
        except Refused as refusal:
            if refusal.status in (404, 503):
                return False
            raise
        return True

    def server_live(self, _: Any, context: grpc.ServicerContext) -> Any:
        return MESSAGES["ServerLiveResponse"](live=self._is_ready(context, "/v2/health/live"))

    def server_ready(self, _: Any, context: grpc.ServicerContext) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=self._is_ready(context, "/v2/health/ready"))

    def model_ready(self, request: Any, context: grpc.ServicerContext) -> Any:
        return MESSAGES["ModelReadyResponse"](ready=self._is_ready(context, f"{_path(request)}/ready"))

    def server_metadata(self, _: Any, context: grpc.ServicerContext) -> Any:
        return MESSAGES["ServerMetadataResponse"](**orjson.loads(self._ask(context, "GET", "/v2").body))

    def model_metadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = orjson.loads(self._ask(context, "GET", _path(request)).body)
        found["properties"] = [{"key": key, "value": value} for key, value in found["properties"].items()]
        return MESSAGES["ModelMetadataResponse"](**found)

    def model_statistics(self, request: Any, context: grpc.ServicerContext) -> Any:
        """What `infer` has done, for one model or all."""
        path = f"{_path(request)}/stats" if request.name else "/v2/models/stats"
        found = orjson.loads(self._ask(context, "GET", path).body)["model_stats"]
        models = [{name: value for name, value in model.items() if name != "batch_stats"} for model in found]
        return MESSAGES["ModelStatisticsResponse"](model_stats=models)

    def repository_index(self, request: Any, context: grpc.ServicerContext) -> Any:
        asked = orjson.dumps({"ready": request.ready})
        models = orjson.loads(self._ask(context, "POST", "/v2/repository/index", asked).body)
        return MESSAGES["RepositoryIndexResponse"](models=models)

    def model_infer(self, message: bytes, context: grpc.ServicerContext) -> Any:
        """Score rows; the message is parsed once there is room for it."""
        with self._held.holding(len(message)):
            check_entries(message)
            request = parsed("ModelInferRequest", message)
            body, head_length = to_http(request)
            path = f"{_path(request, 'model_name', 'model_version')}/infer"
            return from_http(*self._ask(context, "POST", path, body, head_length))

    def check(self, request: Any, context: grpc.ServicerContext) -> Any:
        """gRPC's own health check, as Kubernetes asks it."""
        if request.service not in _SERVICES:
            raise Refused(404, "expected no service, or one that is here, got another")
        is_ready = self._is_ready(context, "/v2/health/ready")
        return MESSAGES["HealthCheckResponse"](status=SERVING if is_ready else NOT_SERVING)


def _path(request: Any, name: str = "name", version: str = "version") -> str:
    path = f"/v2/models/{quote(getattr(request, name), safe='')}"
    asked = getattr(request, version)
    return f"{path}/versions/{quote(asked, safe='')}" if asked else path


def _code(status: int) -> grpc.StatusCode:
    other = grpc.StatusCode.INVALID_ARGUMENT if status < 500 else grpc.StatusCode.INTERNAL
    return CODES.get(status, other)


def _handler(
    call: Callable[[Any, Any], Any], request: str, response: str, *, is_parsed: bool = True
) -> grpc.RpcMethodHandler:
    def answer(message: Any, context: grpc.ServicerContext) -> Any:
        try:
            return call(message, context)
        except Problem as problem:
            context.abort(_code(problem.status), problem.detail)

    parse = MESSAGES[request].FromString if is_parsed else None
    return grpc.unary_unary_rpc_method_handler(answer, parse, MESSAGES[response].SerializeToString)


def make_server(upstream: Upstream, max_bytes: int) -> grpc.Server:
    """A server of both services; messages may have `max_bytes` of tensors."""
    service = InferenceService(upstream, 2 * max_bytes)
    calls = {
        "ServerLive": service.server_live,
        "ServerReady": service.server_ready,
        "ModelReady": service.model_ready,
        "ServerMetadata": service.server_metadata,
        "ModelMetadata": service.model_metadata,
        "ModelStatistics": service.model_statistics,
        "RepositoryIndex": service.repository_index,
    }
    handlers = {name: _handler(call, f"{name}Request", f"{name}Response") for name, call in calls.items()}
    handlers["ModelInfer"] = _handler(
        service.model_infer, "ModelInferRequest", "ModelInferResponse", is_parsed=False
    )
    paths = {f"/{INFERENCE}.GRPCInferenceService/{name}": handler for name, handler in handlers.items()}
    paths[HEALTH_CHECK] = _handler(service.check, "HealthCheckRequest", "HealthCheckResponse")
    limit = max_bytes + MAX_OTHER_BYTES
    server = grpc.server(
        ThreadPoolExecutor(1, "grpc"),
        options=[
            ("grpc.max_receive_message_length", limit),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.bdp_probe", 0),  # the window of a call that waits does not grow
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_MS),
        ],
    )
    server.add_generic_rpc_handlers((Queues(paths),))
    return server
