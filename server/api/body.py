"""The body of a request: its media type checked before a byte is read, its size while reading."""

from collections.abc import Container

from starlette.requests import Request

from server.errors import BodyTooLarge, UnsupportedMedia

JSON = "application/json"


def check_json(request: Request) -> None:
    """Refuse a body that does not say it is plain UTF-8 JSON; raises `UnsupportedMedia`."""
    media_type(request, (JSON,))


def media_type(request: Request, accepted: Container[str]) -> str:
    """The body's media type, in lower case without parameters, "" if none is given.

    Raises `UnsupportedMedia` unless it is one of `accepted`, in UTF-8 and not compressed.
    """
    name, _, parameters = request.headers.get("content-type", "").partition(";")
    name = name.strip().lower()
    if name not in accepted or not _is_utf8(parameters):
        words = ", ".join(filter(None, accepted)) if isinstance(accepted, tuple) else JSON
        raise UnsupportedMedia(
            f"expected Content-Type: {words}, got another media type or none", headers={"Accept-Post": words}
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia(
            "expected no Content-Encoding, got one", headers={"Accept-Encoding": "identity"}
        )
    return name


def _is_utf8(parameters: str) -> bool:
    for parameter in parameters.lower().split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') != "utf-8":
            return False
    return True


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body of at most `limit` bytes; raises `BodyTooLarge` before reading more."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def too_large(limit: int) -> BodyTooLarge:
    """The refusal of a body over `limit` bytes; the connection closes, the rest is read and dropped."""
    return BodyTooLarge(f"expected a body of at most {limit} bytes, got more")
