"""How much of Gradio is reachable, and what its page may reach: as little as the page needs."""

import os
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: A tab that uploads, downloads or queues adds its path here.
#: `app_id` is where Gradio's script looks whether a lost connection is back.
_PATHS = frozenset({"/", "/theme.css", "/favicon.ico", "/gradio_api/app_id"})
_FOLDERS = ("/assets/", "/static/", "/gradio_api/run/")

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


class PageMount(Mount):
    """Gradio at `/`, as far as the page needs it.

    Everything else falls through to the server's own 404 and 405, among it
    Gradio's files, proxy, uploads, API description and monitoring. A body over
    `max_body_bytes` is answered with 413 before it is read.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        super().__init__("", app=Confined(RequestBodyLimitMiddleware(app, max_body_bytes)))

    def matches(self, scope: Scope) -> tuple[Match, dict[str, Any]]:
        """No match for a path that the page does not ask for."""
        path = scope.get("path", "")
        if path in _PATHS or path.startswith(_FOLDERS):
            match, child = super().matches(scope)
            return match, dict(child)
        return Match.NONE, {}


class Confined:
    """Sends a content security policy with every answer."""

    def __init__(self, app: ASGIApp, policy: str = _POLICY) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the policy among the headers."""

        async def confined(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = self._policy
            await send(message)

        await self._app(scope, receive, confined)
