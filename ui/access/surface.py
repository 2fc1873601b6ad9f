"""How much of Gradio is reachable, and what its page may reach: as little as the page needs."""

import os
from collections.abc import Collection
from typing import Any

import orjson
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.body import read_body
from server.errors import MethodNotAllowed, NotFound

#: A tab that uploads, downloads or queues adds its path here.
#: `app_id` is where Gradio's script looks whether a lost connection is back.
_PATHS = frozenset({"/", "/theme.css", "/favicon.ico", "/gradio_api/app_id"})
_RUN = "/gradio_api/run/"
_FILES = ("/assets/", "/static/")
_FOLDERS = (*_FILES, _RUN)

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
    return path in _PATHS or path.startswith((*_FOLDERS, "/page/"))


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
        if path in _PATHS or path.startswith(_FOLDERS):
            match, child = super().matches(scope)
            return match, dict(child)
        return Match.NONE, {}


class OwnCalls:
    """Passes on to Gradio the calls of the page, by their numbers, and nothing else of what a client sends.

    None of them takes anything. Gradio keeps 44 kB for each new `session_hash`, and
    answers 500 with a traceback to calls and arguments that it does not know.
    """

    def __init__(self, app: ASGIApp, calls: Collection[int], max_body_bytes: int) -> None:
        self._app, self._calls, self._max_body_bytes = app, frozenset(calls), max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as Gradio does; raises `NotFound` for another call."""
        if not scope.get("path", "").startswith(_RUN):
            await self._app(scope, receive, send)
            return
        if scope["method"] != "POST":
            raise MethodNotAllowed("expected POST, got another method", headers={"Allow": "POST"})
        body = await read_body(Request(scope, receive), self._max_body_bytes)
        call = orjson.dumps({"data": [], "fn_index": self._number(body)})

        async def replayed() -> Message:
            return {"type": "http.request", "body": call, "more_body": False}

        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        headers.append((b"content-length", b"%d" % len(call)))
        await self._app({**scope, "path": _RUN + "predict", "headers": headers}, replayed, send)

    def _number(self, body: bytes) -> int:
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError:
            fields = None
        number = fields.get("fn_index") if isinstance(fields, dict) else None
        if type(number) is not int or number not in self._calls:
            raise NotFound("expected a call of this page, got another")
        return number


class Confined:
    """Sends a content security policy with every answer, and no word of another origin.

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
                if not scope["path"].startswith(_FILES):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        # Gradio would let any site that asks read the answer, with the login of who looks at it.
        headers = [(name, value) for name, value in scope["headers"] if name != b"origin"]
        await self._app({**scope, "headers": headers}, receive, confined)
