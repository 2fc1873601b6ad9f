"""Heads that are equal but for what changes with every request: trace and request ids, the body's length.

Behind a mesh or a gateway no head comes twice, so none would be remembered. What
stands between the changing values is remembered instead: a head of the same parts
needs no parser, if what it has between them are values and nothing else.
"""

import re
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
LENGTH = b"content-length"
#: The values that something is made of, by their names: `Template.read` asks which by identity.
_NAMED = {name: name for name in (LENGTH, REQUEST_ID, TRACE_PARENT)}


class Template(NamedTuple):
    """What stands before each value that changes, in order, its length and the value's name; and the end.

    The name is one of `_NAMED`, or empty where nothing is made of the value.
    """

    steps: tuple[tuple[bytes, int, bytes], ...]
    end: bytes

    def read(self, head: bytes) -> tuple[int, RequestIdentity]:
        """The length of the body behind a head of this form, -1 if it is of another; and its identity."""
        at, length, request_id, trace = 0, -1, b"", b""
        for part, size, name in self.steps:
            if not head.startswith(part, at):
                return _OTHER
            start = at + size
            at = head.find(b"\r\n", start)
            value = head[start:at]
            if name is LENGTH:
                if not value.isdigit() or len(value) > _MAX_DIGITS:
                    return _OTHER
                length = int(value)
            elif value.translate(None, _VALUE):
                return _OTHER
            elif name is REQUEST_ID:
                request_id = value
            elif name is TRACE_PARENT:
                trace = value
        if head[at:] != self.end:
            return _OTHER
        return length, identity_of(request_id, trace) if request_id or trace else NO_IDENTITY


def template_of(head: bytes) -> Template | None:
    """The template of an eligible head, None if only its length would change."""
    found = list(_LINE.finditer(head))
    names = [line[1].lower() for line in found]
    if len(found) < 2 or names.count(LENGTH) != 1:
        return None
    steps, begin = [], 0
    for place, line in enumerate(found):
        start, end = line.span(2)
        is_first = names.index(names[place]) == place  # of several of one name the first counts
        steps.append((head[begin:start], start - begin, _NAMED.get(names[place], b"") if is_first else b""))
        begin = end
    return Template(tuple(steps), head[begin:])
