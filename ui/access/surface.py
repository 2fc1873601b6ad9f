"""How much of Gradio is reachable, and what its page may reach: as little as the page needs."""

import os
import re
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Gradio frames the page: its own document and files. It is asked for nothing else.
_PATHS = frozenset({"/", "/theme.css", "/favicon.ico"})
_FILES = ("/assets/", "/static/")
_PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)

#: Who may show the page in a frame: nobody, where a click could be somebody else's; but a
#: Space, which names itself so, is shown in a frame of its own site.
_FRAMES = "https://huggingface.co" if "SPACE_ID" in os.environ else "'none'"
#: The browser itself refuses any other host. Gradio compiles its templates in the
#: page, hence the two unsafe sources of scripts.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    f"form-action 'self'; base-uri 'self'; object-src 'none'; frame-ancestors {_FRAMES}"
)
#: Of an answer to a script, which is no page at all.
BARE_POLICY = "default-src 'none'; frame-ancestors 'none'"


def is_of_page(path: str) -> bool:
    """Whether a path is the page's, behind its login, and none of the API's."""
    return path in _PATHS or path.startswith((*_FILES, "/page/"))


#: Where a scope says below which path of the server its page is, "" of the first.
BELOW = "hotrow.below"


class PageMount(Mount):
    """Gradio at `/`, as far as the page needs it.

    Everything else falls through to the server's own 404 and 405, among it
    Gradio's files, proxy, uploads, API description and monitoring.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__("", app=Confined(app))

    def matches(self, scope: Scope) -> tuple[Match, dict[str, Any]]:
        """No match for a path that the page does not ask for."""
        path = scope.get("path", "")
        if path in _PATHS or path.startswith(_FILES):
            match, child = super().matches(scope)
            return match, dict(child)
        return Match.NONE, {}


class Confined:
    """Sends a content security policy with every answer, and no word of another origin.

    A browser takes a file for nothing but its type, and tells no other site an address, which may
    hold a decision's number.

    No cache keeps what was answered to somebody; Gradio's files have their own rule.
    """

    def __init__(self, app: ASGIApp, policy: str = _POLICY) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the policy among the headers."""

        async def confined(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = self._policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
                if not scope["path"].startswith(_FILES):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        # Gradio would let any site that asks read the answer, with the login of who looks at it.
        headers = [(name, value) for name, value in scope["headers"] if name != b"origin"]
        scope = {**scope, "headers": headers}
        if scope["path"] == "/":  # the document alone says where its files are
            scope["root_path"] = _prefix(scope)
        await self._app(scope, receive, confined)


class Headed:
    """Gradio's document with more in its head: what Gradio is given it adds when its scripts run."""

    def __init__(self, app: ASGIApp, head: str) -> None:
        self._app, self._head = app, head.encode() + b"</head>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as Gradio does; its document comes in one piece."""
        start: Message = {}

        async def headed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start and b"</head>" in message.get("body", b""):
                body = message["body"].replace(b"</head>", self._head, 1)
                MutableHeaders(raw=start["headers"])["content-length"] = str(len(body))
                message = {**message, "body": body}
            if start:
                await send(start)
                start = {}
            await send(message)

        await self._app(scope, receive, headed if scope["path"] == "/" else send)


def _prefix(scope: Scope) -> str:
    """The path under which a proxy shows the page: that of the settings, else what the proxy says."""
    given = scope.get("app_root_path") or Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/")
    below: str = scope.get(BELOW, "")
    return (given if _PREFIX.fullmatch(given) else "") + below
