"""What a line on the pipe says of a finished request, in the words of OpenTelemetry's conventions.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span.
"""

from typing import NamedTuple, TypeAlias

from server.metrics.names import OTHER
from server.model.json_text import object_or_empty

AttributeValue: TypeAlias = str | int
#: Of an answer, as attributes of its span: nothing that was sent of a person is among them.
_TOLD = {"id": "hotrow.id", "model": "hotrow.model", "decision": "hotrow.decision"}
_ROUTES = {"/v2/infer": "/v2/models/{name}/infer"}


class FinishedRequest(NamedTuple):
    """One request: ids are 0 without a parent, times in ns since the epoch, `labels` those of its metric."""

    name: str
    trace_id: int
    parent_id: int
    flags: int
    began_ns: int
    took_ns: int
    has_failed: bool
    attributes: dict[str, AttributeValue]
    labels: tuple[str, str, str]


def request_line(began_ns: int, took_ns: int, text: bytes) -> bytes:
    """The line of a request: `text` is its `span_head`, and what was sent.

    A blank says the same as a line break in JSON; what has records in lines tells nothing here.
    """
    head, _, content = text.partition(b"\n")
    return b"%d %d %b\t%b\n" % (began_ns, took_ns, head, content.replace(b"\n", b" "))


def read_request(line: bytes) -> FinishedRequest | None:
    """The request of a `request_line`, without the break at its end; None if it is none."""
    try:
        head, _, content = line.partition(b"\t")
        began, took, parent, method, status, label, path = head.decode("ascii").split(" ")
        _, trace_id, parent_id, flags = parent.split("-") if parent != "-" else ("", "0", "0", "1")
        route = "" if label == OTHER else _route(label)
        attributes: dict[str, AttributeValue] = {
            "http.request.method": method,
            "http.response.status_code": int(status),
            "url.path": path,
            **({"http.route": route} if route else {}),
            **({"error.type": status} if int(status) >= 500 else {}),
            **_told(content),
        }
        return FinishedRequest(
            f"{method} {route}".rstrip(),
            int(trace_id, 16),
            int(parent_id, 16),
            int(flags, 16),
            int(began),
            int(took),
            int(status) >= 500,
            attributes,
            (label, method, status),
        )
    except ValueError:
        return None


def _route(label: str) -> str:
    """The route of a label of the metrics, which has no names in it."""
    return _ROUTES.get(label, label.replace("/models/", "/models/{name}/", 1))


def _told(content: bytes) -> dict[str, AttributeValue]:
    """What an answer says that belongs into a span; nothing of one that is no JSON object."""
    members = object_or_empty(content)
    return {told: value for name, told in _TOLD.items() if isinstance(value := members.get(name), str)}
