"""Content codings (RFC 9110, section 8.4): compressed bodies of requests, and of large answers.

A body is unpacked a piece at a time, as the route asks for it, so that it is held to
the same limits as one that comes as it is: a bomb is given up one piece beyond them.
"""

import asyncio
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import BodyTooLarge, MalformedBody
from server.zstandard import zstd

#: Unpacked before the event loop turns: at most 0.3 ms.
PIECE_BYTES = 65_536
#: Smaller answers go out sooner as they are.
MIN_PACKED_BYTES = 16_384
#: Faster by much than the next levels, and smaller by little; but a page waits for its last byte to be drawn.
_LEVEL, _PAGE_LEVEL = 1, 6
_REFUSED = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")
#: Streams of gzip or frames of zstd behind each other: each costs what a small body does, if it is short.
MAX_MEMBERS = 256
_GZIP, _ZLIB = zlib.MAX_WBITS | 16, zlib.MAX_WBITS
#: The largest window that zstd may ask for in HTTP (RFC 9659): 8 MB, touched as far as they are filled.
_ZSTD_OPTIONS: Mapping[int, int] = {zstd.DecompressionParameter.window_log_max: 23}


class _Deflated:
    """A stream of gzip or zlib."""

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)

    @property
    def has_ended(self) -> bool:
        return self._stream.eof

    def piece(self, packed: bytes) -> tuple[bytes, bytes, bool]:
        """A piece of what the bytes hold, those that are left, and whether there is more to unpack."""
        piece = self._stream.decompress(packed, PIECE_BYTES)
        rest = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        return piece, rest, bool(rest)


class _ZstdFrame:
    """A frame of zstd, which keeps what it has not unpacked yet."""

    def __init__(self) -> None:
        self._frame = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)

    @property
    def has_ended(self) -> bool:
        return self._frame.eof

    def piece(self, packed: bytes) -> tuple[bytes, bytes, bool]:
        piece = self._frame.decompress(packed, PIECE_BYTES)
        if self._frame.eof:
            return piece, self._frame.unused_data, bool(self._frame.unused_data)
        return piece, b"", not self._frame.needs_input


class Unpacker:
    """Unpacks a body of one coding, whose packed bytes are at most `most`, as those of any body."""

    def __init__(self, coding: str, most: int) -> None:
        self._coding, self._most = coding, most
        self._member = self._new_member()
        self._packed_bytes = 0
        self._members = 0

    def _new_member(self) -> _Deflated | _ZstdFrame:
        if self._coding == "zstd":
            return _ZstdFrame()
        return _Deflated(_ZLIB if self._coding == "deflate" else _GZIP)

    def pieces(self, packed: bytes, *, is_last: bool) -> Iterator[bytes]:
        """What some bytes hold, in pieces of at most `PIECE_BYTES`.

        Raises `MalformedBody` where they are of no such coding or end before its end, and
        `BodyTooLarge` where there are too many.
        """
        self._packed_bytes += len(packed)
        if self._packed_bytes > self._most:
            raise BodyTooLarge(f"expected a body of at most {self._most} bytes, got more")
        more = bool(packed)
        while more:
            if self._member.has_ended:  # RFC 1952, section 2.2, and RFC 8878, section 3: others may follow
                self._members += 1
                if self._coding == "deflate" or self._members == MAX_MEMBERS:
                    raise self._malformed("something behind its end")
                self._member = self._new_member()
            try:
                piece, packed, more = self._member.piece(packed)
            except (zlib.error, zstd.ZstdError):
                raise self._malformed("something else") from None
            yield piece
        if is_last and not self._member.has_ended:
            raise self._malformed("its end before")

    def _malformed(self, got: str) -> MalformedBody:
        return MalformedBody(f"expected a body in the coding {self._coding}, whole, got {got}")


#: What a Content-Encoding may say, and the coding that it means.
CODINGS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate", "zstd": "zstd"}
ACCEPTED = "gzip, deflate, zstd"


def unpacking(scope: Scope, receive: Receive, most: int) -> Receive:
    """`receive` for a body that is packed, which from then on looks as if it had come as it is.

    A coding that is not known is left to `media_type`, which refuses it.
    """
    headers = Headers(scope=scope)
    coding = CODINGS.get(headers.get("content-encoding", "").strip().lower())
    if coding is None or len(headers.getlist("content-encoding")) > 1:
        return receive
    hidden = (b"content-encoding", b"content-length")
    scope["headers"][:] = [header for header in scope["headers"] if header[0] not in hidden]
    unpacker = Unpacker(coding, most)
    pieces: Iterator[bytes] = iter(())
    is_last = False

    async def received() -> Message:
        nonlocal pieces, is_last
        await asyncio.sleep(0)
        while (piece := next(pieces, None)) is None:
            if is_last:
                return {"type": "http.request", "body": b"", "more_body": False}
            message = await receive()
            if message["type"] != "http.request":
                return message
            is_last = not message.get("more_body", False)
            pieces = unpacker.pieces(message.get("body", b""), is_last=is_last)
        return {"type": "http.request", "body": piece, "more_body": True}

    return received


class PackedAnswers:
    """Packs large answers for clients that say they take gzip, in a thread, so that others need not wait."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _takes_gzip(Headers(scope=scope).get("accept-encoding", "")):
            send = _packing(send)
        await self._app(scope, receive, send)


def _takes_gzip(accepted: str) -> bool:
    """Whether gzip is named and not refused (`;q=0`)."""
    for coding in accepted.lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return not _REFUSED.fullmatch(weight)
    return False


def _packing(send: Send) -> Send:
    """`send` that packs an answer of one large piece; others, which stream, go as they are."""
    start: Message = {}

    async def packed(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        body = message.get("body", b"")
        if start:
            headers = MutableHeaders(raw=start["headers"])
            # What is packed already stays so (Gradio's scripts), and a range is of bytes as they are.
            is_plain = "content-encoding" not in headers and "content-range" not in headers
            if is_plain and not message.get("more_body") and len(body) >= MIN_PACKED_BYTES:
                is_page = headers.get("content-type", "").startswith("text/html")
                level = _PAGE_LEVEL if is_page else _LEVEL
                body = await asyncio.to_thread(gzip.compress, body, level, mtime=0)
                headers["content-encoding"], headers["content-length"] = "gzip", str(len(body))
                headers.add_vary_header("Accept-Encoding")
                message = {**message, "body": body}
            await send(start)
            start = {}
        await send(message)

    return packed
