"""The protocol's calls: each one request to the server, its refusals as gRPC's status codes."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import grpc
import orjson

from server.errors import BodyTooLarge, Problem
from server.grpc.entries import split
from server.grpc.inference import Content, from_http, to_http
from server.grpc.messages import HEALTH, INFERENCE, MESSAGES, NOT_SERVING, SERVING, parsed
from server.grpc.queues import HEALTH_CHECK, Queues
from server.grpc.upstream import HEAD_LENGTH, PASSED_ON, Answered, Refused, Upstream
from server.process.memory import LARGE_BLOCK_BYTES

#: The oftenest that a client may ping without a call, as it does to keep a connection through a balancer.
MIN_PING_MS = 5_000
#: What stands around the tensors of a request, and any other message.
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
    """The bytes of the messages that are worked on, each in up to three copies; for all threads."""

    def __init__(self, most: int) -> None:
        self._most, self._held, self._lock = most, 0, threading.Lock()
        #: Large messages so far.
        self.large = 0

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold so many more; raises `Refused` where they are too many, but not alone."""
        with self._lock:
            if self._held and self._held + size > self._most:
                raise Refused(503, "expected fewer large calls at once, got more than are held")
            self._held += size
            self.large += size >= LARGE_BLOCK_BYTES
        try:
            yield
        finally:
            with self._lock:
                self._held -= size


class InferenceService:
    """Answers each call by asking the server behind."""

    def __init__(self, upstream: Upstream, held: HeldBytes) -> None:
        self._upstream, self._held = upstream, held

    def _ask(
        self,
        context: grpc.ServicerContext,
        method: str,
        path: str,
        body: Sequence[Content] = (),
        *,
        has_tensors: bool = False,
    ) -> Answered:
        headers = {key: str(value) for key, value in context.invocation_metadata() if key in PASSED_ON}
        seconds = context.time_remaining()
        if seconds is not None and seconds > _LONGEST_SECONDS:
            seconds = None  # so gRPC says that there is no deadline
        if seconds is not None:
            headers["X-Request-Timeout-Ms"] = str(max(1, round(seconds * 1000)))
        if has_tensors:
            headers |= {HEAD_LENGTH: str(len(body[0])), "Content-Type": "application/octet-stream"}
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
        models = orjson.loads(self._ask(context, "POST", "/v2/repository/index", [asked]).body)
        return MESSAGES["RepositoryIndexResponse"](models=models)

    def model_infer(self, message: bytes, context: grpc.ServicerContext) -> Any:
        """Score rows; the message is parsed once there is room for it."""
        with self._held.holding(len(message)):
            content, raw = split(message)
            request = parsed("ModelInferRequest", content)
            path = f"{_path(request, 'model_name', 'model_version')}/infer"
            return from_http(*self._ask(context, "POST", path, to_http(request, raw), has_tensors=True))

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
    call: Callable[[Any, Any], Any], response: str, request: str | None = None
) -> grpc.RpcMethodHandler:
    """Gives the call a `request`, or without a name of one the message's bytes."""

    def answer(message: bytes, context: grpc.ServicerContext) -> Any:
        try:
            return call(_small(request, message) if request else message, context)
        except Problem as problem:
            context.abort(_code(problem.status), problem.detail)

    return grpc.unary_unary_rpc_method_handler(answer, None, MESSAGES[response].SerializeToString)


def _small(request: str, message: bytes) -> Any:
    if len(message) > MAX_OTHER_BYTES:
        raise BodyTooLarge(f"expected a message of at most {MAX_OTHER_BYTES:,} bytes, got a longer one")
    return parsed(request, message)


def make_server(upstream: Upstream, held: HeldBytes, max_bytes: int) -> grpc.Server:
    """A server of both services; messages may have `max_bytes` of tensors."""
    service = InferenceService(upstream, held)
    calls = {
        "ServerLive": service.server_live,
        "ServerReady": service.server_ready,
        "ModelReady": service.model_ready,
        "ServerMetadata": service.server_metadata,
        "ModelMetadata": service.model_metadata,
        "ModelStatistics": service.model_statistics,
        "RepositoryIndex": service.repository_index,
    }
    handlers = {name: _handler(call, f"{name}Response", f"{name}Request") for name, call in calls.items()}
    handlers["ModelInfer"] = _handler(service.model_infer, "ModelInferResponse")
    paths = {f"/{INFERENCE}.GRPCInferenceService/{name}": handler for name, handler in handlers.items()}
    paths[HEALTH_CHECK] = _handler(service.check, "HealthCheckResponse", "HealthCheckRequest")
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
