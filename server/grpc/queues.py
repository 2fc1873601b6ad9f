"""Which calls wait for which threads, and how many may: of inferences, of health checks, of all others.

So none of a kind waits for another, or is refused for it: a health check that fails under load would
take a server out of turn when it is needed most.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc

from server.grpc.messages import HEALTH, INFERENCE

HEALTH_CHECK = f"/{HEALTH}.Health/Check"
#: Calls of a kind whose messages are read at once: a thread has gRPC read a message before anything of
#: ours sees how large it is.
INFERENCES, CHECKS, OTHERS = 4, 2, 4
#: Calls of a kind that are there at once, each with no more than a window of its message; more are refused.
MOST_CALLS = 256
_CHECKS = ("ServerLive", "ServerReady", "ModelReady")


class CountedThreads(ThreadPoolExecutor):
    """Threads, and the calls that they have or that wait for one: also those that are cancelled meanwhile."""

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, name)
        self._calls, self._lock = 0, threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether there are as many calls as may be."""
        return self._calls >= MOST_CALLS

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        self._count(1)
        future = super().submit(call, *arguments, **named)
        future.add_done_callback(lambda _: self._count(-1))
        return future

    def _count(self, more: int) -> None:
        with self._lock:
            self._calls += more


class _Queue(NamedTuple):
    handler: grpc.RpcMethodHandler
    threads: CountedThreads


class Queues(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The handler of each path, with the threads of its kind; of a kind that is full, a refusal.

    gRPC looks for threads of a handler's own in `experimental_thread_pool`; would it no longer, all calls
    had its server's one thread, and a test sees that.
    """

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        inferences, others = CountedThreads(INFERENCES, "infer"), CountedThreads(OTHERS, "other")
        checks = CountedThreads(CHECKS, "check")
        special = {HEALTH_CHECK: checks, _path("ModelInfer"): inferences}
        special |= {_path(name): checks for name in _CHECKS}
        self._queues = {
            path: _Queue(handler, special.get(path, others)) for path, handler in handlers.items()
        }
        for handler, threads in self._queues.values():
            handler.unary_unary.experimental_thread_pool = threads
        # A stream's messages are read as they are asked for: here none is.
        self._refusal = grpc.stream_unary_rpc_method_handler(_refuse)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """What answers a call; None where there is no such path, which gRPC answers itself."""
        queue = self._queues.get(details.method)
        if queue is None:
            return None
        return self._refusal if queue.threads.is_full else queue.handler


def _path(name: str) -> str:
    return f"/{INFERENCE}.GRPCInferenceService/{name}"


def _refuse(_: Any, context: grpc.ServicerContext) -> Any:
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "expected fewer calls of a kind at once, got more")
