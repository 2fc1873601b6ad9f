"""The head of a request: request line and headers, and whether there is anything unusual in it."""

from typing import NamedTuple

import httptools

from server.scoring.request_identity import NO_IDENTITY, RequestIdentity, identity_in
from server.wire.guarded_protocol import MAX_HEADERS, UPGRADE_HEADERS, head_problem

HEAD_END = b"\r\n\r\n"
#: A longer head takes the ASGI path, so what is remembered of heads is bounded.
MAX_ELIGIBLE_HEAD_BYTES = 2048
#: Headers after which a request is not eligible: they change what it means, or how
#: its connection goes on.
INELIGIBLE_HEADERS = frozenset(
    {
        b"transfer-encoding",
        b"content-encoding",
        b"expect",
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"trailer",
        b"te",
        b"x-request-timeout-ms",
    }
)
#: Connection options that change nothing here: `upgrade` is ignored.
ELIGIBLE_OPTIONS = frozenset({b"keep-alive", *UPGRADE_HEADERS})


class EligibleHead(NamedTuple):
    """What an eligible head says: the request target, the media type of the body, its length, and more."""

    target: bytes
    media_type: bytes
    body_bytes: int
    host: bytes = b""
    has_origin: bool = False
    identity: RequestIdentity = NO_IDENTITY


class _Head:
    """Collects what httptools finds in a head."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


def eligible_head(head: bytes) -> EligibleHead | None:
    """What a head of HTTP/1.1 with a body says, None unless it is eligible.

    Eligible is: exactly one Host, one Content-Length and one Content-Type, and no
    header that changes the meaning of the request or its connection.
    """
    found = _Head()
    try:
        httptools.HttpRequestParser(found).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # ignored, as on the ASGI path: Java's client asks for one with each request
    except httptools.HttpParserError:
        return None
    names = [name for name, _ in found.headers]
    if len(names) > MAX_HEADERS or head_problem("1.1", found.headers) is not None:
        return None  # the ASGI path words it
    headers = dict(found.headers)
    # What most clients send, and what HTTP/1.1 does anyway.
    options = {option.strip().lower() for option in headers.get(b"connection", b"").split(b",")}
    if options <= ELIGIBLE_OPTIONS and names.count(b"connection") == 1:
        names.remove(b"connection")
    if not found.complete or not INELIGIBLE_HEADERS.isdisjoint(names):
        return None
    if any(names.count(name) != 1 for name in (b"host", b"content-length", b"content-type")):
        return None
    return EligibleHead(
        found.target,
        headers[b"content-type"].lower(),
        int(headers[b"content-length"]),
        headers[b"host"],
        b"origin" in headers,
        identity_in(found.headers),
    )
