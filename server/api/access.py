"""Who may ask: the names this server answers to, and the pages of other origins that may read its responses.

Both are off by default. What they let through on the fast path is decided once a head (`wire/fast_path.py`).
"""

from collections.abc import Container

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.problem_responses import problem_response
from server.errors import MalformedRequest
from server.scoring.in_flight import EXEMPT
from server.settings import Settings

#: Headers of requests, beside those that need no leave, that a page of another origin may send.
HEADERS = (
    "Authorization",
    "Inference-Header-Content-Length",
    "X-API-Key",
    "X-Request-Id",
    "X-Request-Timeout-Ms",
)
#: Headers of responses that it may read.
EXPOSED = ("Inference-Header-Content-Length", "Retry-After")


def add_access(app: Starlette, settings: Settings) -> None:
    """Put around an app what the settings ask for."""
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=HEADERS,
            expose_headers=EXPOSED,
        )
    if settings.allowed_hosts:
        app.add_middleware(AllowedHosts, names=settings.allowed_hosts)


class AllowedHosts:
    """Rejects requests to other names, so that no foreign name can be made to point here (DNS rebinding).

    Health is exempt: probes ask by the address.
    """

    def __init__(self, app: ASGIApp, names: Container[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or reject one request."""
        if scope["type"] == "http" and scope["path"] not in EXEMPT:
            request = Request(scope)
            if host_name(request.headers.get("host", "")) not in self._names:
                problem = MalformedRequest("expected a Host of HOTROW_ALLOWED_HOSTS, got another")
                await (await problem_response(request, problem))(scope, receive, send)
                return
            # What a proxy says the name was, and the page builds its addresses from, is held to the same.
            scope["headers"] = [header for header in scope["headers"] if not self._is_foreign(*header)]
        await self._app(scope, receive, send)

    def _is_foreign(self, name: bytes, value: bytes) -> bool:
        return name == b"x-forwarded-host" and host_name(value.decode("latin-1")) not in self._names


def host_name(host: str) -> str:
    """The name in a Host header, in lower case and without port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and not port.endswith("]") else host.lower()
