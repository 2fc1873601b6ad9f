"""Heads that are equal but for what changes with every request: trace and request ids, the body's length.

Behind a mesh or a gateway no head comes twice, so none would be remembered. What
stands between the changing values is remembered instead: a head of the same parts
needs no parser, if what it has between them are values and nothing else.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

#: Headers whose values mean nothing to us, so that any value of them is eligible.
_CHANGING = (
    rb"traceparent|tracestate|baggage|b3|x-b3-[a-z]+|x-request-id|x-correlation-id|x-amzn-trace-id"
    rb"|x-cloud-trace-context|x-forwarded-for|x-real-ip|uber-trace-id|x-datadog-[a-z-]+|x-envoy-[a-z-]+"
)
_LINE = re.compile(rb"\r\n(?:(content-length)|" + _CHANGING + rb"):[ \t]*+([^\r\n]*+)(?=\r\n)", re.IGNORECASE)
#: What stands in the values of headers, but for bytes above 127, which the parser looks at.
_VALUE = bytes([9, *range(32, 127)])
#: Digits of a body's length: more are of no body that is eligible.
_MAX_DIGITS = 9


class Template(NamedTuple):
    """The parts of a head around the values that change, in order, and which value is the body's length."""

    parts: tuple[bytes, ...]
    length_at: int

    def body_bytes(self, head: bytes) -> int:
        """The length of the body behind a head of these parts, -1 if it is of others."""
        at, length = 0, -1
        for position, part in enumerate(self.parts[:-1]):
            if not head.startswith(part, at):
                return -1
            start = at + len(part)
            at = head.find(b"\r\n", start)
            value = head[start:at]
            if position == self.length_at:
                if not value.isdigit() or len(value) > _MAX_DIGITS:
                    return -1
                length = int(value)
            elif value.translate(None, _VALUE):
                return -1
        return length if head[at:] == self.parts[-1] else -1


def template_of(head: bytes) -> Template | None:
    """The template of an eligible head, None if only its length would change."""
    found = list(_LINE.finditer(head))
    lengths = [position for position, line in enumerate(found) if line[1]]
    if len(found) < 2 or len(lengths) != 1:
        return None
    return Template(tuple(_parts(head, [line.span(2) for line in found])), lengths[0])


def _parts(head: bytes, values: list[tuple[int, int]]) -> Iterator[bytes]:
    begin = 0
    for start, end in values:
        yield head[begin:start]
        begin = end
    yield head[begin:]
