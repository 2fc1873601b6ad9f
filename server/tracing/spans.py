"""Spans as a worker notes them: one record in the ring, for the observer to hand on."""

import random
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import quote

#: `Put` of server/log/ring.py, which is above this folder.
Put: TypeAlias = Callable[[int, int, int, int, float, float, bytes, bytes, bytes, int], bool]
#: Of `traceparent`'s flags the lowest bit says whether the parent is sampled.
_ODD = frozenset(b"13579bdf")
_MAX_PATH = 256
#: What is answered is looked at for ids and decisions only where it is small.
MAX_CONTENT_BYTES = 2048


class Spans:
    """Which requests of one worker have a span, and where it is noted.

    `put` is the writer of the log's ring, and `kind` what it calls a span there. `share` of the
    requests that come without a parent have one.
    """

    def __init__(self, put: Put, kind: int, drop: Callable[[], None], share: float) -> None:
        self._put, self._kind, self._drop, self._share = put, kind, drop, share

    def takes(self, parent: bytes) -> bool:
        """Whether a request with this `traceparent`, empty for none, has a span."""
        if parent:
            return parent[-1] in _ODD
        return bool(self._share) and random.random() < self._share

    def note(self, parent: bytes, head: bytes, content: bytes, began_ns: int, ended_ns: int) -> None:
        """Note a request that is answered: `head` is `span_head`, `content` what was sent."""
        if len(content) > MAX_CONTENT_BYTES:
            content = b""
        # The ring joins the pieces, which is all that is done to them here.
        if not self._put(0, began_ns, ended_ns, 0, 0.0, 0.0, parent or b"-", head, content, self._kind):
            self._drop()


def span_head(method: str, path: str, status: str, label: str) -> bytes:
    """The request line of a span: method, status, route by its label in the metrics, path."""
    return f" {method} {status} {label} {quote(path)[:_MAX_PATH]}\n".encode()
