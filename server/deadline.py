"""How long a client waits: after that nobody reads the answer, and the model is not run for it."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.requests import Request

from server.errors import DeadlineExceeded, MalformedBody

HEADER = "X-Request-Timeout-Ms"
#: The member of an inference request's `parameters`, in microseconds as Triton has it.
PARAMETER = "timeout"
#: Where the moment a request arrived, in `perf_counter_ns`, stands in its scope.
ARRIVED = "hotrow.arrived_ns"
MAX_MILLISECONDS = 86_400_000


class Deadline(NamedTuple):
    """The moment, in `perf_counter_ns`, after which a request is not worth an answer; None: there is none."""

    ends_ns: int | None

    @classmethod
    def of(cls, request: Request, parameters: Mapping[str, Any] | None = None) -> "Deadline":
        """What a request's header, or its parameters under `/v2`, ask for; the earlier of both.

        It counts from the moment the head was read. Raises `MalformedBody` for
        what is no time.
        """
        waits = [wait for wait in (_header_ns(request), _parameter_ns(parameters or {})) if wait is not None]
        return cls(request.scope[ARRIVED] + min(waits)) if waits else ENDLESS

    def check(self) -> None:
        """Raise `DeadlineExceeded` if it has passed."""
        if self.ends_ns is not None and time.perf_counter_ns() > self.ends_ns:
            raise DeadlineExceeded("the request waited for longer than it said it would")


ENDLESS = Deadline(None)


def _header_ns(request: Request) -> int | None:
    texts = {text.strip(" \t") for text in request.headers.getlist(HEADER)}
    if not texts:
        return None
    text = texts.pop() if len(texts) == 1 else ""  # of several that differ, none is meant
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 0 < int(text) <= MAX_MILLISECONDS):
        raise MalformedBody(
            f"expected {HEADER} as milliseconds from 1 to {MAX_MILLISECONDS}, got something else"
        )
    return int(text) * 1_000_000


def _parameter_ns(parameters: Mapping[str, Any]) -> int | None:
    microseconds = parameters.get(PARAMETER, 0)
    if type(microseconds) is not int or microseconds < 0:
        raise MalformedBody(f"expected the parameter {PARAMETER} as microseconds from 0, got something else")
    return microseconds * 1000 or None  # Triton's clients send 0 for none
