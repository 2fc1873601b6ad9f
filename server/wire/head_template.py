"""Heads that are equal but for what changes with every request: trace and request ids, the body's length.

Behind a mesh or a gateway no head comes twice, so none would be remembered. What
stands between the changing values is remembered instead: a head of the same parts
needs no parser, if what it has between them are values and nothing else.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from server.scoring.request_identity import (
    NO_IDENTITY,
    REQUEST_ID,
    TRACE_PARENT,
    RequestIdentity,
    identity_of,
)

#: Headers whose values change nothing of the answer, so that any value of them is eligible.
_CHANGING = (
    rb"traceparent|tracestate|baggage|b3|x-b3-[a-z]+|x-request-id|x-correlation-id|x-amzn-trace-id"
    rb"|x-cloud-trace-context|x-forwarded-for|x-real-ip|uber-trace-id|x-datadog-[a-z-]+|x-envoy-[a-z-]+"
)
_LINE = re.compile(rb"\r\n(content-length|" + _CHANGING + rb"):[ \t]*+([^\r\n]*+)(?=\r\n)", re.IGNORECASE)
#: What stands in the values of headers, but for bytes above 127, which the parser looks at.
_VALUE = bytes([9, *range(32, 127)])
#: Digits of a body's length: more are of no body that is eligible.
_MAX_DIGITS = 9
_OTHER = (-1, NO_IDENTITY)


class Template(NamedTuple):
    """The parts of a head around the values that change, in order.

    And which of these values is the body's length, the request's id and its trace, -1 for none.
    """

    parts: tuple[bytes, ...]
    length_at: int
    request_id_at: int
    trace_at: int

    def read(self, head: bytes) -> tuple[int, RequestIdentity]:
        """The length of the body behind a head of these parts, -1 if it is of others; and its identity."""
        at, length, request_id, trace = 0, -1, b"", b""
        for position, part in enumerate(self.parts[:-1]):
            if not head.startswith(part, at):
                return _OTHER
            start = at + len(part)
            at = head.find(b"\r\n", start)
            value = head[start:at]
            if position == self.length_at:
                if not value.isdigit() or len(value) > _MAX_DIGITS:
                    return _OTHER
                length = int(value)
            elif value.translate(None, _VALUE):
                return _OTHER
            elif position == self.request_id_at:
                request_id = value
            elif position == self.trace_at:
                trace = value
        if head[at:] != self.parts[-1]:
            return _OTHER
        return length, identity_of(request_id, trace) if request_id or trace else NO_IDENTITY


def template_of(head: bytes) -> Template | None:
    """The template of an eligible head, None if only its length would change."""
    found = list(_LINE.finditer(head))
    names = [line[1].lower() for line in found]
    if len(found) < 2 or names.count(b"content-length") != 1:
        return None
    places = (_place(names, name) for name in (b"content-length", REQUEST_ID, TRACE_PARENT))
    return Template(tuple(_parts(head, [line.span(2) for line in found])), *places)


def _place(names: list[bytes], name: bytes) -> int:
    return names.index(name) if name in names else -1


def _parts(head: bytes, values: list[tuple[int, int]]) -> Iterator[bytes]:
    begin = 0
    for start, end in values:
        yield head[begin:start]
        begin = end
    yield head[begin:]
