"""The optional login of the page: HTTP Basic, checked in a time that tells nothing."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import PROBLEM_JSON, Problem

_SCHEME = "basic "


class Unauthorized(Problem):
    """The page asks who it is for."""

    status = 401


class Login:
    """Answers 401 to requests that name none of `logins`, pairs of user and password.

    Without logins everybody is let through.
    """

    def __init__(self, app: ASGIApp, logins: Sequence[tuple[str, str]]) -> None:
        self._app = app
        self._digests = [_digest(user.encode() + b":" + password.encode()) for user, password in logins]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or ask for a login."""
        headers = dict(scope.get("headers", ()))
        if not self._digests or self._knows(headers.get(b"authorization", b"").decode("latin-1")):
            await self._app(scope, receive, send)
            return
        refusal = Unauthorized("expected a user and a password of this page, got none or others")
        headers_out = {"WWW-Authenticate": 'Basic realm="Hotrow", charset="UTF-8"'}
        await Response(refusal.body(), 401, headers_out, PROBLEM_JSON)(scope, receive, send)

    def _knows(self, header: str) -> bool:
        if not header.lower().startswith(_SCHEME):
            return False
        try:
            given = _digest(base64.b64decode(header[len(_SCHEME) :], validate=True))
        except (binascii.Error, ValueError):
            return False
        # Every pair is compared, each in constant time: how long it takes names nobody.
        return sum([hmac.compare_digest(given, digest) for digest in self._digests]) > 0


def _digest(pair: bytes) -> bytes:
    """One length for every pair, so that the comparison does not tell it."""
    return hashlib.sha256(pair).digest()
