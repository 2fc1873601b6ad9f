"""How long a client waits: after that nobody reads the response, and the model is not run for it."""

import time
from typing import NamedTuple

from starlette.requests import Request

from server.errors import DeadlineExceeded, MalformedBody
from server.scoring.tensors import RequestParameters

HEADER = "X-Request-Timeout-Ms"
#: Where the moment a request arrived, in `perf_counter_ns`, stands in its scope.
ARRIVED = "hotrow.arrived_ns"
MAX_MILLISECONDS = 86_400_000


class Deadline(NamedTuple):
    """The moment, in `perf_counter_ns`, after which a request is not worth a response; None without one."""

    ends_ns: int | None

    @classmethod
    def of(cls, request: Request) -> "Deadline":
        """What a request's header asks for, from the moment the head was read.

        Raises `MalformedBody` for what is no time.
        """
        return ENDLESS._or_within(_header_ns(request), request)

    def or_parameter(self, request: Request, parameters: RequestParameters | None) -> "Deadline":
        """What the parameters of an inference request ask for, if that is earlier.

        Raises `MalformedBody` for what is no time.
        """
        return self._or_within(_parameter_ns(parameters), request)

    def _or_within(self, wait_ns: int | None, request: Request) -> "Deadline":
        """So long after the request arrived, if that is earlier."""
        if wait_ns is None:
            return self
        ends_ns = request.scope[ARRIVED] + wait_ns
        return Deadline(ends_ns if self.ends_ns is None else min(self.ends_ns, ends_ns))

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


def _parameter_ns(parameters: RequestParameters | None) -> int | None:
    microseconds = (parameters.timeout if parameters is not None else None) or 0
    if microseconds < 0:
        raise MalformedBody("expected the parameter timeout as microseconds from 0, got something else")
    return microseconds * 1000 or None  # Triton's clients send 0 for none
