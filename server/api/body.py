"""The body of a request: its media type checked before a byte is read, its size while reading."""

from starlette.requests import Request

from server.api.content_coding import ACCEPTED
from server.errors import BodyTooLarge, UnsupportedMedia

JSON = "application/json"
#: Charsets of which every text is UTF-8 too; of JSON the parameter says nothing (RFC 8259, section 11).
UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})


def check_json(request: Request) -> None:
    """Reject a body that does not say it is plain UTF-8 JSON; raises `UnsupportedMedia`."""
    media_type(request, (JSON,))


def media_type(request: Request, accepted: tuple[str, ...]) -> str:
    """The body's media type, in lower case without parameters, "" if none is given.

    What is JSON by another name is `application/json`. Raises `UnsupportedMedia` unless
    it is one of `accepted`, in UTF-8 and in no content coding but those that `unpacking` takes away.
    """
    name, charset = named(request.headers.get("content-type", ""))
    if name not in accepted:
        words = ", ".join(filter(None, accepted))
        got = "another media type" if name else "none"
        raise UnsupportedMedia(f"expected Content-Type: {words}, got {got}", headers={"Accept-Post": words})
    if charset not in UTF_8:
        raise UnsupportedMedia("expected a body in UTF-8, got another charset", headers={"Accept-Post": name})
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMedia(
            f"expected no Content-Encoding but {ACCEPTED}, got another",
            headers={"Accept-Encoding": ACCEPTED},
        )
    return name


def named(content_type: str) -> tuple[str, str]:
    """The media type that a Content-Type names, and its charset; "" for what it does not say.

    `text/json` and `application/…+json` (RFC 6839, section 3.1) are `application/json`.
    """
    name, _, parameters = content_type.lower().partition(";")
    name, charset = name.strip(), ""
    for parameter in parameters.split(";"):
        key, _, value = parameter.strip().partition("=")
        if key == "charset":
            charset = value.strip('"')
    if name == "text/json" or (name.startswith("application/") and name.endswith("+json")):
        name = JSON
    return name, charset


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body of at most `limit` bytes; raises `BodyTooLarge` before reading more."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large(limit)
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        chunks.clear()  # the traceback of a client that went would hold them until it is collected


def too_large(limit: int) -> BodyTooLarge:
    """What rejects a body over `limit` bytes; the connection closes, the rest is read and dropped."""
    return BodyTooLarge(f"expected a body of at most {limit} bytes, got more")
