"""The server behind: asked over HTTP, by a connection a thread, with what the client said of itself."""

import http.client
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from server.errors import Problem
from server.grpc.inference import Content

#: Of a client's metadata what is passed on: who asks, and the ids of what it is part of.
PASSED_ON = frozenset({"authorization", "x-api-key", "x-request-id", "traceparent", "tracestate"})
HEAD_LENGTH = "Inference-Header-Content-Length"


class Refused(Problem):
    """The server's refusal, with its status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Answered(NamedTuple):
    """A body, and the length of the JSON in front of its tensors, 0 without tensors."""

    body: bytes
    head_length: int


class Upstream:
    """The server at a host and port."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._of_thread = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Sequence[Content] = (),
        seconds: float | None = None,
    ) -> Answered:
        """What the server answers with 200; raises `Refused`, with 503 if it cannot be reached.

        The pieces of a body are sent one by one, as they are.
        """
        size = {"Content-Length": str(sum(map(len, body)))} if body else {}
        for is_last in (False, True):
            connection = self._connection(seconds)
            try:
                connection.request(method, path, body or None, {**headers, **size})
                response = connection.getresponse()
                content = response.read()
            except TimeoutError:
                connection.close()
                raise Refused(504, "expected an answer in time, got none") from None
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # A kept connection may have ended meanwhile: nothing was answered, so it is asked once more.
                if is_last:
                    raise Refused(503, f"expected the server to answer, got: {error!r}") from None
            else:
                if response.status != 200:
                    raise Refused(response.status, _words(content))
                return Answered(content, int(response.headers.get(HEAD_LENGTH, "0")))
        raise AssertionError

    def close(self) -> None:
        """End the connections of all threads, which ask no more."""
        for connection in self._connections:
            connection.close()

    def _connection(self, seconds: float | None) -> http.client.HTTPConnection:
        kept: http.client.HTTPConnection | None = getattr(self._of_thread, "connection", None)
        if kept is None:
            kept = self._of_thread.connection = http.client.HTTPConnection(*self._address)
            self._connections.append(kept)
        kept.timeout = seconds
        if kept.sock is not None:
            kept.sock.settimeout(seconds)
        return kept


def _words(content: bytes) -> str:
    """What a refusal says: `error` under `/v2`, `detail` of a head that is too long."""
    try:
        document = orjson.loads(content)
        return str(document.get("error") or document["detail"])
    except (orjson.JSONDecodeError, KeyError, AttributeError):
        return "the server refused"
