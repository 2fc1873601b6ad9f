"""Who may ask: this server's names, the pages of other origins that may read its responses, and keys.

All are off by default. What they let through on the fast path is decided once a head (`wire/fast_path.py`).
"""

from collections.abc import Callable, Container

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.keys import CREDENTIALS, Keys
from server.access.scopes import OPEN_PATHS
from server.api.problem_responses import problem_response
from server.errors import MalformedRequest, Problem
from server.scoring.in_flight import EXEMPT
from server.scoring.request_identity import CALLER
from server.settings import Settings

#: Headers of requests, beside those that need no leave, that a page of another origin may send.
HEADERS = (
    "Authorization",
    "Baggage",
    "Content-Encoding",
    "Inference-Header-Content-Length",
    "Traceparent",
    "Tracestate",
    "X-API-Key",
    "X-Request-Id",
    "X-Request-Timeout-Ms",
)
#: Headers of responses that it may read.
EXPOSED = ("Inference-Header-Content-Length", "Retry-After", "WWW-Authenticate", "X-Request-Id")


def add_access(
    app: Starlette, settings: Settings, keys: Keys | None, has_own_guard: Callable[[str], bool]
) -> None:
    """Put around an app what the settings ask for."""
    if keys is not None:
        app.add_middleware(AskedForKey, keys=keys, has_own_guard=has_own_guard)
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
        if scope["type"] == "http" and scope["path"] not in EXEMPT:
            request = Request(scope)
            if host_name(request.headers.get("host", "")) not in self._names:
                problem = MalformedRequest("expected a Host of HOTROW_ALLOWED_HOSTS, got another")
                await (await problem_response(request, problem))(scope, receive, send)
                return
            # What a proxy says the name was, and the page builds its addresses from, is held to the same.
            scope["headers"][:] = [header for header in scope["headers"] if not self._is_foreign(*header)]
        await self._app(scope, receive, send)

    def _is_foreign(self, name: bytes, value: bytes) -> bool:
        return name == b"x-forwarded-host" and host_name(value.decode("latin-1")) not in self._names


class BelowRoot:
    """Takes a prefix from the paths that have it, and answers those without it too."""

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app = app
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["path"].startswith(self._root + "/"):
                raw = scope["raw_path"].removeprefix(self._root.encode())
                scope = {**scope, "path": scope["path"].removeprefix(self._root), "raw_path": raw}
            scope["app_root_path"] = self._root  # what Starlette begins `base_url` with
        await self._app(scope, receive, send)


class AskedForKey:
    """Refuses requests without a key for what they ask, before their body is read; health is open."""

    def __init__(self, app: ASGIApp, keys: Keys, has_own_guard: Callable[[str], bool]) -> None:
        self._app = app
        self._keys = keys
        self._has_own_guard = has_own_guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open(scope):
            headers = list(scope["headers"])
            # In place: the connection keeps this list until its next request, and no key is to stay.
            scope["headers"][:] = [header for header in headers if header[0] not in CREDENTIALS]
            try:
                scope[CALLER] = self._keys.caller(headers, scope["path"]).name
            except Problem as refused:
                await (await problem_response(Request(scope), refused))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"]
        asks_for_health = path in OPEN_PATHS or (path == "/" and scope["method"] == "OPTIONS")
        return asks_for_health or self._has_own_guard(path)


def host_name(host: str) -> str:
    """The name in a Host header, in lower case and without port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and not port.endswith("]") else host.lower()
