"""The responses to requests that are rejected unread, as bytes made once a second."""

from functools import lru_cache
from typing import Any

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from server.api.problem_responses import is_open_inference, overloaded
from server.api.request_metrics import Duration
from server.scoring.in_flight import RETRY_AFTER_SECONDS, Limiter
from server.wire.guarded_protocol import header_lines


class OverloadResponses:
    """What rejects requests before the parser of one worker."""

    def __init__(self, in_flight: Limiter, duration: Duration) -> None:
        self._in_flight = in_flight
        self._default_headers: Any = None
        self._responses: dict[tuple[bool, int], bytes] = {}
        #: Observes the seconds of a request rejected unread, by its path.
        self.observer = lru_cache(256)(lambda path: duration(path, "POST", "503"))

    def unread(self, path: str, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """The whole response that rejects a POST to this path; counted.

        `default_headers` are uvicorn's, which replaces the list (the date) once a second.
        """
        if default_headers is not self._default_headers:
            self._default_headers = default_headers
            self._responses = {
                (under_v2, seconds): _http(overloaded(under_v2, seconds), default_headers)
                for seconds in RETRY_AFTER_SECONDS
                for under_v2 in (False, True)
            }
        return self._responses[is_open_inference(path), self._in_flight.shed_one()]


def _http(response: Response, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    lines = header_lines([*default_headers, *response.raw_headers])
    return b"%b%b\r\n%b" % (STATUS_LINE[response.status_code], lines, bytes(response.body))
