"""What uvicorn's protocol lets through and should not: slow, endless and ambiguous requests.

uvicorn has no deadline for receiving a request, takes heads of any size, a
missing or second Host and unknown transfer codings, and leaves the socket open
after an early error. Here every one of these is answered, and closed.
"""

import asyncio
import fcntl
import re
import socket
import struct
import sys
import termios
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import suppress
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from server.access.tls import client_name
from server.errors import (
    CLOSE,
    PROBLEM_JSON,
    ExpectationFailed,
    HeadTooLarge,
    MalformedRequest,
    MemoryExhausted,
    Problem,
    RequestTimeout,
    UnknownTransferCoding,
    UriTooLong,
)
from server.scoring.request_identity import CALLER
from server.wire.memory_holders import MemoryHolders

#: A connection that has sent nothing, or half a head, is closed after this long.
HEAD_SECONDS = 5.0
MAX_TARGET_BYTES = 8192
MAX_HEAD_BYTES = 16_384
MAX_HEADERS = 100
#: The parser passes over zeros before a length; Python reads no number of 5,000 digits.
MAX_LENGTH_DIGITS = 20
#: What stands around a chunked body: lengths, extensions and trailers. So much, and as
#: much again for each byte of the body as chunks of one byte need, twice over.
MAX_FRAMING_BYTES, MAX_FRAMING_RATIO = 16_384, 10
#: A body must grow by so much, on average over `request_seconds`, or be whole: what a
#: modem of 32 kbit/s carries.
MIN_BYTES_PER_SECOND = 4000
#: After a response that is the last of its connection what still comes is read and dropped, as nginx does
#: (`lingering_close`): many clients send everything before they read, and to close
#: under what they send resets the response away. So much, so long, and so long without a byte.
MAX_LINGER_BYTES = 2**26
LINGER_SECONDS = 30.0
LINGER_IDLE_SECONDS = 5.0
#: Of a client that sends as fast as it can.
LARGE_READ_BYTES = 2**16

#: The wish for another protocol, and what belongs to it (RFC 7540, section 3.2.1).
UPGRADE_HEADERS = frozenset({b"upgrade", b"http2-settings"})

_LINE_END = b"\r\n"
_HOST = re.compile(rb"[A-Za-z0-9.\-_~%:\[\]]*")

#: Observes the status code and the seconds of a request rejected before the app.
Observe = Callable[[str, float], None]


class PipelineFlow(FlowControl):
    """uvicorn's flow control, which reads on only when no request waits behind another.

    uvicorn reads on with each response and each body that the app asks for: of a client that
    sends faster than it is answered, all requests would stand in memory, some 2 KB each.
    """

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Read on, unless there is something to answer first."""
        if not self._pipeline:
            super().resume_reading()


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with deadlines, caps and a strict reading of the head."""

    def __init__(
        self, receivers: MemoryHolders, request_seconds: float, observe: Observe, **uvicorn_arguments: Any
    ) -> None:
        super().__init__(**uvicorn_arguments)
        self._receivers = receivers
        self._request_seconds = request_seconds
        self._observe = observe
        self._timer: asyncio.TimerHandle | None = None
        self._caller = ""  # by the certificate of the client
        self._active_ns = time.perf_counter_ns()  # the last bytes
        self._began_ns = self._active_ns  # the first byte of a request that is not whole yet
        self._window_ns = self._active_ns  # since when its bytes are counted
        self._window_bytes = 0
        self._fresh = True  # nothing has come on this connection
        self._in_message = False
        self._in_head = False
        self._has_completed = False  # a request by the last read
        self._head_bytes = 0
        self._body_bytes = 0
        self._framed_bytes = 0  # of the message behind its head, with what stands around the body
        self._asks_upgrade = False
        self._problem: Problem | None = None
        self._owed: Problem | None = None  # goes out behind the responses before it
        self._owed_has_cycle = False  # the app has the head of the request that it rejects
        self._has_ended = False  # the client has closed its half
        self._lingering = False
        self._lingering_ns = 0
        self._dropped_bytes = 0
        self._unsent_bytes = 0  # of responses, when it was last looked at
        self._unsent_ns = 0  # when they were fewer than before

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        self._receive(data)

    def _receive(self, data: bytes | memoryview) -> None:
        """Parse bytes, and reject a head that grows without end."""
        if self._lingering or self._owed is not None:
            self._drop(data)
            return
        was_in_message = self._in_message
        if not was_in_message and data[0] in _LINE_END and not bytes(data).strip(_LINE_END):
            return  # passed over before a request (RFC 9112, section 2.2): no request, so no deadline moves
        if was_in_message and not self._in_head:
            self._framed_bytes += len(data)
        self._active_ns = time.perf_counter_ns()
        self._fresh = self._has_completed = False
        self._parse(data)
        if not self._in_message or self._lingering:
            return
        if not was_in_message or self._has_completed:
            self._begin_incomplete()
            self._window_bytes = self._body_bytes
        self._look_at_size(data)

    def _look_at_size(self, data: Sized) -> None:
        """Reject a head, or what stands around a body, that grows without end."""
        if self._in_head:
            if not self._has_completed:  # else what came are the requests before it, too
                self._head_bytes += len(data)
            if self._head_bytes > MAX_TARGET_BYTES + MAX_HEAD_BYTES:
                self._reject(size_problem(self.url, MAX_HEAD_BYTES + 1))
        elif self._framed_bytes > MAX_FRAMING_BYTES + MAX_FRAMING_RATIO * self._body_bytes:
            self._reject(
                HeadTooLarge(
                    f"expected chunk extensions and trailers of at most {MAX_FRAMING_BYTES} bytes, got more"
                )
            )

    def _parse(self, data: bytes | memoryview) -> None:
        """Give bytes to the parser, which stops at a head that asks for another protocol.

        Ours is the only one: a server may ignore Upgrade, and then answers the request
        as if the header were not there (RFC 9110, section 7.8). What stands behind
        such a head is its body and further requests, which httptools would drop
        (MagicStack/httptools#124); so the head is parsed again without the header.
        """
        left = memoryview(data)
        try:
            while left:
                try:
                    self.parser.feed_data(left)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    left = left[upgrade.args[0] :]
                    line = b"%b %b HTTP/%b" % (
                        self.parser.get_method(),
                        self.url,
                        self.parser.get_http_version().encode(),
                    )
                    self._asks_upgrade = False
                    self.parser = httptools.HttpRequestParser(self)
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                    self.parser.feed_data(
                        line + b"\r\n" + header_lines(without_upgrade(self.headers)) + b"\r\n"
                    )
        except httptools.HttpParserError:
            self.send_400_response("")

    def on_message_begin(self) -> None:
        self._in_message = self._in_head = True
        self._head_bytes = self._body_bytes = self._framed_bytes = 0
        super().on_message_begin()
        if self._caller:
            self.scope[CALLER] = self._caller  # type: ignore[literal-required]  # our own

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are dropped, as RFC 9112, section 7.1.2 allows: nothing here reads them."""
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """A part of the body, which alone counts as progress."""
        self._body_bytes += len(body)
        self._window_bytes += len(body)
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """The head is whole: reject it, or let uvicorn start the request."""
        if self.parser.get_method() == b"CONNECT":  # to the parser the end of HTTP, whatever follows
            self._stop(MalformedRequest("expected a request to this server, got one for a proxy"))
        if self.parser.should_upgrade():
            self._asks_upgrade = True  # it comes here again, without that
            return
        # Looked at once, here: a head grows by what one read gives, until `_receive` ends it.
        problem = head_problem(self.parser.get_http_version(), self.headers, self.url)
        if problem is not None:
            self._stop(problem)
        super().on_headers_complete()
        self.headers = []  # the cycle has them: a connection that stays open keeps no key
        self._in_head = False  # from here on there is a cycle for it
        if self.cycle is not None:
            # uvicorn closes after a response that says so; unread bytes would then reset it away.
            self.cycle.transport = self._lingering_transport  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        if self._asks_upgrade:
            return  # the parser takes what follows for another protocol's
        self._in_message = False
        self._has_completed = True
        self._end_incomplete()
        super().on_message_complete()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more: what was asked is answered before the end."""
        self._has_ended = True
        if self._is_incomplete() and not self._lingering:
            self._reject(MalformedRequest("expected the whole request, got its end before"))
        # Under TLS there is no half of a connection.
        return self._is_responding() and self.scheme == "http"

    # Refusing

    def _stop(self, problem: Problem) -> None:
        """End the parse from inside a callback, so that nothing behind this request is run."""
        self._problem = problem
        raise problem

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's words
        """Answer what the parser, or a callback of ours, has rejected."""
        problem, self._problem = self._problem, None
        if problem is not None:
            problem.__traceback__ = None  # it would keep the frames, and with them what came
        error = sys.exception()  # the parser's, around that of a callback
        if problem is None and error is not None and isinstance(error.__context__, MemoryError):
            problem = MemoryExhausted()
        self._reject(problem or MalformedRequest("expected an HTTP/1.1 request, got something else"))

    def on_response_complete(self) -> None:
        """A response of the app is out: start the next request, or send the error response that waited."""
        if self._lingering:  # it was the connection's last: what stands behind its request is not run
            self.pipeline.clear()
            self._owed = None
        was_last = not self.pipeline
        super().on_response_complete()
        if self._owed is None:
            if self._has_ended and was_last:
                self.transport.close()
        elif not was_last:
            self.flow.pause_reading()
            self._reject_after_head()
        elif self._owed_has_cycle:  # the app has answered by the head
            self._linger()
        else:
            self._send_problem(self._owed)

    def _reject(self, problem: Problem) -> None:
        """Answer a request with a problem and close, behind the responses to those before it.

        What its head alone decides (another media type, no such path) the app answers, be
        what is wrong with the body here already or still under way.
        """
        has_cycle = self._in_message and not self._in_head
        if not self._is_responding():
            if has_cycle:  # it has its response, and this is what is left of it
                self._linger()
            else:
                self._reject_now(problem)
            return
        self._owed, self._owed_has_cycle = problem, has_cycle
        self._in_message = self._in_head = False
        self.flow.pause_reading()  # what comes now is not read, and must not fill the memory
        self._reject_after_head()

    def _reject_after_head(self) -> None:
        """Reject what is owed once the app, whose task is started, has looked at the head."""
        if self._owed_has_cycle and not self.pipeline:
            self.loop.call_soon(self._reject_unanswered)

    def _reject_unanswered(self) -> None:
        if self._owed is not None and self._is_responding():
            self._reject_now(self._owed)

    def _reject_now(self, problem: Problem) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and cycle.response_started:
            self.transport.close()  # in the middle of another answer there is no place for this one
            return
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # the app's response would come behind this one
            cycle.body = bytearray()
            cycle.message_event.set()
        self._send_problem(problem)

    def _send_problem(self, problem: Problem) -> None:
        if self.transport.is_closing():
            return
        self._observe(str(problem.status), self._seconds_since(self._began_ns))
        body = problem.body()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", b"%d" % len(body)),
            CLOSE,
            *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
        ]
        self.transport.write(STATUS_LINE[problem.status] + header_lines(headers) + b"\r\n" + body)
        self._linger()

    def _linger(self) -> None:
        """Close once the client has had the time to read the response."""
        if self._lingering or self.transport.is_closing():
            return
        if self._has_ended:  # there is nothing to wait for
            self.transport.close()
            return
        self._lingering = True
        self._lingering_ns = self._active_ns = time.perf_counter_ns()
        self._end_incomplete()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()  # nobody reads the body any more, for whom it may have been paused
        self._arm(LINGER_IDLE_SECONDS)

    def shutdown(self) -> None:
        """Begin the end; who is still sending what is dropped gets a second to read the response."""
        if self._lingering:
            self._lingering_ns = time.perf_counter_ns() - round((LINGER_SECONDS - 1.0) * 1e9)
            self._look()
        else:
            super().shutdown()

    def close_after_response(self) -> None:
        """Close when the client has the response; it may have more under way, which is not read any more.

        A draining server closes at once: there it is the server that ends, and clients
        that keep connections open would hold it up.
        """
        if self._in_message or CLOSE not in self.server_state.default_headers:
            self._linger()
        else:
            self.transport.close()

    def _drop(self, data: Sized) -> None:
        self._active_ns = time.perf_counter_ns()
        self._dropped_bytes += len(data)
        if self._dropped_bytes > MAX_LINGER_BYTES:
            self.transport.close()
        elif len(data) > LARGE_READ_BYTES:
            self._let_others_come_first()

    def _let_others_come_first(self) -> None:
        """Read on in the event loop's next turn, as libuv reads up to 32 times of one connection."""
        self.flow.pause_reading()
        self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    # Watching. uvicorn arms and cancels a timer for every request; one timer a
    # connection, which looks at the times when it fires, costs a request nothing.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to watch the clock."""
        super().connection_made(transport)
        self.flow = PipelineFlow(transport, self.pipeline)
        self._caller = client_name(transport)
        self._lingering_transport = _LingeringTransport(self)
        self._arm(min(HEAD_SECONDS, self.timeout_keep_alive))

    def timeout_keep_alive_handler(self) -> None:
        """Nothing: uvicorn's timer does not know of responses given before its parser."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching; uvicorn leaves its own timer armed after a reset."""
        if self._timer is not None:
            self._timer.cancel()
        self._end_incomplete()
        self._unset_keepalive_if_required()
        self._lingering_transport.write = _write_nothing
        super().connection_lost(exc)
        if self.cycle is not None:
            self.cycle.body = bytearray()  # nobody reads it any more, and the collector may take its time

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(max(0.0, seconds), self._look)

    def pause_writing(self) -> None:
        """The client does not read its responses: what it leaves unread has a deadline too."""
        super().pause_writing()
        self._unsent_bytes = self._count_unsent()
        self._unsent_ns = time.perf_counter_ns()
        self._arm(self._request_seconds)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        self._unsent_bytes = 0

    def _look(self) -> None:
        if self._lingering:
            self._look_at_the_lingering()
        elif self.transport.is_closing() or self.flow.write_paused:
            self._look_at_unsent()
        elif self._is_incomplete():
            self._look_at_progress()
        elif self._is_responding():
            self._arm(max(1.0, self.timeout_keep_alive))
        else:
            limit = HEAD_SECONDS if self._fresh else self.timeout_keep_alive
            self._wait_or(self._end, limit - self._seconds_since(self._active_ns))

    def _wait_or(self, end: Callable[[], None], left: float) -> None:
        """Look again when the time that is left is over, or end it now."""
        if left > 0.0:
            self._arm(left)
        else:
            end()

    def _look_at_progress(self) -> None:
        """Of a request that is not whole: the head within its time, the body without a long pause."""
        limit = min(HEAD_SECONDS, self._request_seconds) if self._in_head else self._request_seconds
        least = 0 if self._in_head else round(MIN_BYTES_PER_SECOND * limit)
        silent = self._seconds_since(self._active_ns)
        elapsed = self._seconds_since(self._window_ns)
        if self.flow.read_paused:
            self._active_ns = time.perf_counter_ns()
            self._begin_window(self._active_ns)
            self._arm(limit)
        elif silent < limit and (elapsed < limit or (least and self._window_bytes >= least)):
            if elapsed >= limit:
                self._begin_window(time.perf_counter_ns())
                elapsed = 0.0
            self._arm(limit - max(silent, elapsed))
        else:
            what = f"{least} bytes of the body or its end" if least else "the whole head"
            self._reject(RequestTimeout(f"expected {what} within {limit:g} s, got less"))

    def _look_at_the_lingering(self) -> None:
        left = min(
            LINGER_IDLE_SECONDS - self._seconds_since(self._active_ns),
            LINGER_SECONDS - self._seconds_since(self._lingering_ns),
        )
        self._wait_or(self._end, left)

    def _look_at_unsent(self) -> None:
        before, self._unsent_bytes = self._unsent_bytes, self._count_unsent()
        if not before or self._unsent_bytes < before:
            self._unsent_ns = time.perf_counter_ns()
        self._wait_or(self._reset, self._request_seconds - self._seconds_since(self._unsent_ns))

    def _count_unsent(self) -> int:
        # The kernel takes more from us a third of its buffer at a time: without what
        # waits there, a client that reads slowly would look like one that does not read.
        kernel = array("i", [0])
        with suppress(OSError):
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, kernel)
        return self.transport.get_write_buffer_size() + kernel[0]

    def _reset(self) -> None:
        # Closed as usual, the kernel would go on offering what is left for minutes.
        with suppress(OSError):
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _end(self) -> None:
        # A close waits until everything is sent, be it for ever.
        if self.transport.get_write_buffer_size():
            self._reset()
        else:
            self.transport.close()

    def _begin_incomplete(self) -> None:
        """The first part of a request has come: the rest has a deadline that a few bytes do not move."""
        self._began_ns = self._active_ns
        self._begin_window(self._active_ns)
        self._receivers.begin(self.give_way)
        self._arm(min(HEAD_SECONDS, self._request_seconds))

    def _begin_window(self, moment_ns: int) -> None:
        self._window_ns, self._window_bytes = moment_ns, 0

    def _end_incomplete(self) -> None:
        """The request is whole, or will never be."""
        self._receivers.end(self.give_way)

    def give_way(self) -> None:
        """Reject a request that has been coming for longer than all others."""
        self._reject(RequestTimeout("expected the whole request before those of so many others, got a part"))

    @staticmethod
    def _seconds_since(moment_ns: int) -> float:
        return (time.perf_counter_ns() - moment_ns) / 1e9

    def _is_incomplete(self) -> bool:
        return self._in_message

    def _body_bytes_to_come(self, share: int) -> int:
        """What is to come of a body that says its length, and of another a share of what is there."""
        if not self._in_message or self._in_head:
            return 0
        lengths = [int(value) for name, value in self.cycle.scope["headers"] if name == b"content-length"]
        return lengths[0] - self._body_bytes if lengths else self._body_bytes // share

    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


class _LingeringTransport:
    """The transport as uvicorn's request cycle sees it, whose end is the protocol's to decide."""

    def __init__(self, protocol: GuardedProtocol) -> None:
        #: Replaced when the connection is lost: uvicorn tells that to the last request
        #: of a pipeline alone, and another one may be writing.
        self.write: Callable[[bytes], None] = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        self.close = protocol.close_after_response


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The headers of a response as they are sent."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def without_upgrade(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The headers, in lower case, of a head that asks for another protocol without those that do."""
    for name, value in headers:
        if name == b"connection":
            options = [
                option for option in value.split(b",") if option.strip().lower() not in UPGRADE_HEADERS
            ]
            if options:
                yield name, b",".join(options)
        elif name not in UPGRADE_HEADERS:
            yield name, value


def _write_nothing(_: bytes) -> None:
    """There is no connection any more."""


def head_problem(version: str, headers: list[tuple[bytes, bytes]], target: bytes = b"") -> Problem | None:
    """Why a head is rejected that httptools has accepted, None if it is not.

    Sources: RFC 9112 sections 3.2 (Host), 6.1 (transfer codings), RFC 9110
    section 10.1.1 (Expect).
    """
    if version not in ("1.0", "1.1"):
        return MalformedRequest("expected HTTP/1.1, got another version")
    hosts: list[bytes] = []
    codings: list[bytes] = []
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"content-length" and len(value) > MAX_LENGTH_DIGITS:
            return MalformedRequest(
                f"expected a Content-Length of at most {MAX_LENGTH_DIGITS} digits, got more"
            )
        elif name == b"expect" and value.lower() != b"100-continue":
            return ExpectationFailed("expected no Expect header but 100-continue, got another")
    if size > MAX_HEAD_BYTES or len(headers) > MAX_HEADERS or len(target) > MAX_TARGET_BYTES:
        return size_problem(target, size)
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        return MalformedRequest(f"expected one Host header, got {len(hosts)}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        return MalformedRequest("expected a host name in the Host header, got other characters")
    return _coding_problem(version, codings) if codings else None


def size_problem(target: bytes, header_bytes: int) -> Problem:
    """What of a head is too large."""
    if len(target) > MAX_TARGET_BYTES:
        return UriTooLong(f"expected a path of at most {MAX_TARGET_BYTES} bytes, got a longer one")
    if header_bytes > MAX_HEAD_BYTES:
        return HeadTooLarge(f"expected headers of at most {MAX_HEAD_BYTES} bytes, got more")
    return HeadTooLarge(f"expected at most {MAX_HEADERS} headers, got more")


def _coding_problem(version: str, codings: list[bytes]) -> Problem | None:
    if version == "1.0":
        return MalformedRequest("expected no Transfer-Encoding in HTTP/1.0, got one")
    if codings == [b"chunked"]:
        return None
    if not codings[-1].endswith((b" chunked", b",chunked")):  # then where the body ends is a guess
        return MalformedRequest("expected chunked as the last Transfer-Encoding, got another")
    return UnknownTransferCoding("expected Transfer-Encoding: chunked or none, got another")
