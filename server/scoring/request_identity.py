"""What a request is called by its sender, and who that is.

`X-Request-ID`, W3C `traceparent`, or the `id` of a body; and the name of a key or of a client's
certificate. None of it is scored. The log's line has it, so that who knows an id finds the
decision; the request id is sent back. What is no id is no error, as proxies add these
headers on their own: it is not logged and not sent back.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson
from msgspec.structs import replace

REQUEST_ID, TRACE_PARENT = b"x-request-id", b"traceparent"
#: The key of an ASGI scope under which the name of its caller stands, where callers are known.
CALLER = "hotrow.caller"
MAX_REQUEST_ID_BYTES = 128
#: `00-` with the digits of a trace, of a span and of flags; a later version may go on.
PARENT_BYTES = 55
_PRINTABLE = bytes(range(32, 127))
#: An id that JSON has as it is.
_PLAIN = re.compile(rb"[ !#-\[\]-~]{1,%d}" % MAX_REQUEST_ID_BYTES).fullmatch
#: https://www.w3.org/TR/trace-context/#traceparent-header: all zeros are no trace.
_TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


class RequestIdentity(msgspec.Struct, frozen=True, gc=False):
    """The id that is sent back, and the members of the line as JSON behind a comma; empty without.

    `parent` is the `traceparent` as version 00 has it.
    """

    request_id: bytes = b""
    members: bytes = b""
    parent: bytes = b""

    def with_request_id(self, id_: bytes) -> "RequestIdentity":
        """With the `id` of a body, as JSON, for the request's; the header's has a member of its own then."""
        if not id_:
            return self
        renamed = self.members.replace(b',"request_id":', b',"header_request_id":', 1)
        return replace(self, members=b',"request_id":%b%b' % (id_, renamed))

    def of_caller(self, name: str) -> "RequestIdentity":
        """With the name of who sent it, "" if that is not known."""
        if not name:
            return self
        return replace(self, members=b'%b,"caller":%b' % (self.members, orjson.dumps(name)))


NO_IDENTITY = RequestIdentity()


def identity_of(request_id: bytes, trace_parent: bytes) -> RequestIdentity:
    """What the values of the two headers say, each empty if there is none."""
    members = parent = b""
    name = request_id.strip(b" \t")
    if _PLAIN(name):
        members = b',"request_id":"%b"' % name
    elif 0 < len(name) <= MAX_REQUEST_ID_BYTES and not name.translate(None, _PRINTABLE):
        members = b',"request_id":%b' % orjson.dumps(name.decode("ascii"))
    else:
        name = b""
    if trace_parent and (found := _TRACE.fullmatch(trace_parent.strip(b" \t"))):
        members += b',"trace_id":"%b"' % found[1]
        parent = found[0][:PARENT_BYTES]
    return RequestIdentity(name, members, parent) if members else NO_IDENTITY


def identity_in(headers: Iterable[tuple[bytes, bytes]]) -> RequestIdentity:
    """What headers with names in lower case say; of several of one name the first counts."""
    found: Mapping[bytes, bytes] = {
        name: value for name, value in reversed(list(headers)) if name in (REQUEST_ID, TRACE_PARENT)
    }
    return identity_of(found.get(REQUEST_ID, b""), found.get(TRACE_PARENT, b"")) if found else NO_IDENTITY


def identity_of_request(scope: Mapping[str, Any]) -> RequestIdentity:
    """What the scope of a request on the ASGI path says."""
    return identity_in(scope["headers"]).of_caller(scope.get(CALLER, ""))
