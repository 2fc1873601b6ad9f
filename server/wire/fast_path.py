"""The fast path: an eligible request to score one row, answered without leaving the protocol.

A request comes this way if it is whole, alone and eligible; every other one, and
every one that is rejected, takes the ASGI path through Starlette (`app.py`),
so there is one behaviour. No scope, task or ASGI message is made here.

What is eligible is decided by the head's bytes: the request line and headers up to
the empty line. httptools parses a head the first time it is seen; a client that
keeps its connection sends the same head again and again, and equal bytes need no
second parse.
"""

import logging
import secrets
import time
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import msgspec
import uvicorn
from msgspec.structs import replace
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.access.keys import Keys
from server.api.access import host_name
from server.api.body import JSON, UTF_8, named
from server.errors import CLOSE, Problem
from server.private_names import PrivateNames, check_private_names
from server.scoring.one_row import Respond
from server.scoring.request_identity import NO_IDENTITY, RequestIdentity
from server.tracing.spans import Spans
from server.wire.eligible_head import HEAD_END, MAX_ELIGIBLE_HEAD_BYTES, EligibleHead, eligible_head
from server.wire.guarded_protocol import header_lines
from server.wire.head_template import Template, template_of
from server.wire.shedding_protocol import SheddingProtocol, parted

logger = logging.getLogger(__name__)

#: Heads that are remembered; beyond, all are forgotten.
MAX_KNOWN_HEADS = 1024
#: Forms of heads with values that change, the latest first: as many kinds of clients at once.
MAX_TEMPLATES = 8
#: A body may come in this many pieces, as from clients that send head and body
#: apart. Joining more would cost more than the parser does.
MAX_PIECES = 4

#: What this module and the protocols it inherits from lean on in uvicorn, none of it promised.
_PROTOCOL = PrivateNames(
    HttpToolsProtocol,
    {
        "__init__": "config server_state app_state _loop",
        "connection_made": "transport",
        "connection_lost": "exc",
        "data_received": "data",
        "eof_received": "",
        "on_message_begin": "",
        "on_url": "url",
        "on_header": "name value",
        "on_body": "body",
        "on_headers_complete": "",
        "on_message_complete": "",
        "on_response_complete": "",
        "pause_writing": "",
        "resume_writing": "",
        "send_400_response": "msg",
        "shutdown": "",
        "timeout_keep_alive_handler": "",
        "_unset_keepalive_if_required": "",
    },
    "transport pipeline flow loop parser url headers server_state timeout_keep_alive cycle",
)
_CYCLE = PrivateNames(
    RequestResponseCycle,
    {"run_asgi": "app", "receive": "", "send": "message"},
    "transport body response_started response_complete disconnected message_event keep_alive",
)

_FLOW = PrivateNames(
    FlowControl,
    {"__init__": "transport", "pause_reading": "", "resume_reading": ""},
    "read_paused write_paused",
)


def check_uvicorn() -> None:
    """Raise `SettingsError` if uvicorn's protocol lacks a name that this module leans on."""
    check_private_names("uvicorn", uvicorn.__version__, _PROTOCOL, _CYCLE, _FLOW)


class Endpoint(NamedTuple):
    """What answers the rows sent to one path.

    `respond` is `Scorer.respond`, which is told of nothing beside the response, or knows it (`reasons`).
    `observe` takes the seconds of each answered request. `span_head` is how its span begins.
    """

    respond: Respond
    observe: Callable[[float], None]
    span_head: bytes = b""


class Eligible(msgspec.Struct, frozen=True, gc=False):
    """An eligible head: the length of the body that follows it, what answers, and the request's names."""

    body_bytes: int
    target: Endpoint
    identity: RequestIdentity = NO_IDENTITY


#: Stands for a head that is not remembered, where None is one that is not eligible.
_UNKNOWN = Eligible(-1, Endpoint(lambda *_: None, lambda _: None))


class FastPath:
    """What all connections of one worker share: targets by path, the known heads, the response's head."""

    def __init__(
        self,
        targets: Mapping[str, Endpoint],
        max_body_bytes: int,
        hosts: Container[str] | None = None,
        *,
        takes_origins: bool = False,
        spans: Spans | None = None,
    ) -> None:
        self.spans = spans
        self._max_body_bytes = max_body_bytes
        self._hosts = hosts
        self._takes_origins = takes_origins
        self.use(targets)
        #: Whether answers end their connection: the server is draining.
        self.closing = False
        self._default_headers: Any = None
        self._response_head = b""

    def use(self, targets: Mapping[str, Endpoint]) -> None:
        """Answer with these from now on; what was known of heads is forgotten."""
        self._targets = {b"POST %b HTTP/1.1" % path.encode(): target for path, target in targets.items()}
        self._known_heads: dict[object, Eligible | None] = {}
        self._templates: list[tuple[Template, Endpoint]] = []

    def eligible(self, head: bytes) -> Eligible | None:
        """What follows and answers an eligible head, None if the head is not eligible."""
        found = self._known_heads.get(head, _UNKNOWN)
        return found if found is not _UNKNOWN else self._recognize(head, head)

    def _recognize(self, head: bytes, key: object, caller: str = "") -> Eligible | None:
        """What `eligible` says of a head of this caller that is not known; it is remembered by this `key`."""
        # One that differs from a remembered one in what changes with every request?
        for template, target in self._templates:
            body_bytes, identity = template.read(head)
            if 0 <= body_bytes <= self._max_body_bytes and len(head) <= MAX_ELIGIBLE_HEAD_BYTES:
                return Eligible(body_bytes, target, identity.of_caller(caller) if caller else identity)
        return self._judge(head, key, caller)

    def _judge(self, head: bytes, key: object, caller: str) -> Eligible | None:
        target = self._targets.get(head[: head.find(b"\r\n")])
        if target is None or len(head) > MAX_ELIGIBLE_HEAD_BYTES:
            return None
        found = eligible_head(head)
        eligible = None
        if found is not None and self._admits(found) and found.body_bytes <= self._max_body_bytes:
            eligible = Eligible(found.body_bytes, target, found.identity.of_caller(caller))
            if (template := template_of(head)) is not None:
                self._templates = [(template, target), *self._templates[: MAX_TEMPLATES - 1]]
                return eligible
        if len(self._known_heads) >= MAX_KNOWN_HEADS:
            self._known_heads.clear()
        self._known_heads[key] = eligible
        return eligible

    def _admits(self, head: EligibleHead) -> bool:
        """Whether the ASGI path would add nothing to what is asked or answered."""
        if self._hosts is not None and host_name(head.host.decode("latin-1")) not in self._hosts:
            return False
        # With CORS a response to a page has headers of its own.
        return _is_json(head.media_type) and not (self._takes_origins and head.has_origin)

    def response_head(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """Status line and headers up to the content length.

        uvicorn replaces the list of default headers (the date) once a second; a
        draining server adds `connection: close` to it.
        """
        if default_headers is not self._default_headers:
            self._default_headers = default_headers
            self.closing = CLOSE in default_headers
            lines = header_lines(default_headers)
            self._response_head = (
                b"HTTP/1.1 200 OK\r\n" + lines + b"content-type: application/json\r\ncontent-length: "
            )
        return self._response_head


class KeyedFastPath(FastPath):
    """The fast path where a key is asked for: a head is judged once, with its key.

    What is remembered of a head is a keyed hash of 128 bits (SipHash with the process's
    secret, and with one of ours before the head), and a template without the key: no key
    stays in memory. SHA-256 would take a microsecond more.
    """

    def __init__(self, keys: Keys, *others: Any, **more: Any) -> None:
        super().__init__(*others, **more)
        self._keys = keys
        self._salt = secrets.token_bytes(16)

    def eligible(self, head: bytes) -> Eligible | None:
        """What follows and answers an eligible head with a key for it."""
        hashes = hash(head), hash(self._salt + head)
        found = self._known_heads.get(hashes, _UNKNOWN)
        if found is not _UNKNOWN:
            return found
        bare, credentials = parted(head)
        if len(credentials) != 1:
            return None
        try:
            caller = self._keys.caller(credentials, "/predict")
        except Problem:
            return None  # the ASGI path words it
        return self._recognize(bare, hashes, caller.name)


def _is_json(content_type: bytes) -> bool:
    name, charset = named(content_type.decode("latin-1"))
    return name == JSON and charset in UTF_8


class HotrowProtocol(SheddingProtocol):
    """The guarded protocol with the fast path before its parser."""

    def __init__(self, fast_path: FastPath, *others: Any, **uvicorn_arguments: Any) -> None:
        super().__init__(*others, **uvicorn_arguments)
        self._fast_path = fast_path
        self._held = b""
        self._held_bytes = 0  # as counted by `Limiter`
        self._pieces = 0
        self._sent = b""  # what was sent of the last request's response, for `TracedProtocol`, too
        self._request_id = b""

    def data_received(self, data: bytes) -> None:
        """Answer an eligible request, or pass the bytes on to the parser."""
        began_ns = time.perf_counter_ns()
        if self._held:
            data = self._held + data
        head_end = data.find(HEAD_END) + len(HEAD_END)
        eligible = self._fast_path.eligible(data[:head_end])
        if eligible is None or self._is_busy():
            self._pass_on(data)
            return
        self._active_ns = began_ns
        missing = head_end + eligible.body_bytes - len(data)
        if missing == 0:
            self._answer(data, head_end, eligible)
        elif missing > 0 and self._pieces < MAX_PIECES:
            self._hold(data)
        else:  # in crumbs, or with another request behind it
            self._pass_on(data)

    def _answer(self, data: bytes, head_end: int, eligible: Eligible) -> None:
        started_ns = self._active_ns
        target, identity = eligible.target, eligible.identity
        self._request_id = identity.request_id
        self._sent = b""
        try:
            target.respond(data[head_end:], self._send, started_ns, None, identity.members)
        except Exception as error:
            if self._sent:  # a second answer would be taken for the next request's
                raise
            if not isinstance(error, Problem):
                logger.exception("The fast path failed; the ASGI path answers.")
            self._pass_on(data)  # which words it
            return
        self._fresh = False
        if self._held:
            self._let_go()
            self._end_incomplete()
        target.observe((time.perf_counter_ns() - started_ns) / 1e9)

    def _send(self, content: bytes) -> None:
        fast_path = self._fast_path
        head = fast_path.response_head(self.server_state.default_headers)
        self._sent = content
        if self._request_id:
            parts = (head, len(content), self._request_id, content)
            self.transport.write(b"%b%d\r\nx-request-id: %b\r\n\r\n%b" % parts)
        else:
            self.transport.write(b"%b%d\r\n\r\n%b" % (head, len(content), content))
        if fast_path.closing:
            self.transport.close()

    def _hold(self, data: bytes) -> None:
        size = len(data)
        new_bytes = size - self._held_bytes
        if not self._in_flight.hold(new_bytes, size):
            self._pass_on(data)  # which rejects it
            return
        if not self._held:
            self._fresh = False
            self._begin_incomplete()
        self._window_bytes += new_bytes
        self._held, self._held_bytes, self._pieces = data, size, self._pieces + 1

    def _let_go(self) -> None:
        """Hold nothing any more."""
        self._in_flight.release(self._held_bytes)
        self._held, self._held_bytes, self._pieces = b"", 0, 0

    def _pass_on(self, data: bytes) -> None:
        held, began_ns = self._held, self._began_ns
        self._let_go()
        if held:
            self._end_incomplete()
        super().data_received(data)
        if held and self._is_incomplete():  # its deadline counts from the first piece held
            self._began_ns = self._window_ns = began_ns
            self._look()

    def shutdown(self) -> None:
        """Begin the end: a request of which a part is held gets the time to come in whole."""
        if self._held:
            self._pass_on(self._held)
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what is held."""
        self._let_go()
        super().connection_lost(exc)

    def _is_incomplete(self) -> bool:
        return super()._is_incomplete() or bool(self._held)


class TracedProtocol(HotrowProtocol):
    """The protocol where requests have spans: those that the fast path answers are noted here."""

    def _answer(self, data: bytes, head_end: int, eligible: Eligible) -> None:
        spans, parent = self._fast_path.spans, eligible.identity.parent
        if spans is None or not spans.takes(parent):
            super()._answer(data, head_end, eligible)
            return
        began_ns = self._active_ns
        super()._answer(data, head_end, eligible)
        if self._sent:  # or the ASGI path answers, and notes it
            head = eligible.target.span_head
            spans.note(parent, head, self._sent, began_ns, time.perf_counter_ns())


class CertifiedProtocol(HotrowProtocol):
    """The protocol where the certificate of a connection says who asks."""

    def _answer(self, data: bytes, head_end: int, eligible: Eligible) -> None:
        identity = eligible.identity.of_caller(self._caller)
        super()._answer(data, head_end, replace(eligible, identity=identity))


class TracedCertifiedProtocol(CertifiedProtocol, TracedProtocol):
    """Both."""
