"""The optional login of the page: HTTP Basic, checked in a time that tells nothing, and not without end."""

import base64
import binascii
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import PROBLEM_JSON, Problem, Unauthorized

_SCHEME = "basic "
#: Where a scope says who is logged in, "" without a login.
USER = "hotrow.user"
#: Wrong passwords for one user from one address; then none is looked at for so long.
MAX_TRIES, TRY_SECONDS = 10, 60.0
#: Users and addresses whose tries are remembered; beyond, those of longest ago are forgotten.
MAX_REMEMBERED = 4096


class TooManyTries(Problem):
    """Somebody guesses."""

    status = 429


class Tries:
    """Counts wrong passwords by who gave them, in memory that does not grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[object, tuple[int, float]] = OrderedDict()

    def wait_seconds(self, who: object) -> float:
        """How long until the next password is looked at, 0.0 if at once."""
        count, began = self._failed.get(who, (0, 0.0))
        left = began + TRY_SECONDS - self._clock()
        return left if count >= MAX_TRIES and left > 0.0 else 0.0

    def failed(self, who: object) -> None:
        """A wrong password came."""
        count, began = self._failed.pop(who, (0, self._clock()))
        if began + TRY_SECONDS <= self._clock():
            count, began = 0, self._clock()
        self._failed[who] = (count + 1, began)
        if len(self._failed) > MAX_REMEMBERED:
            self._failed.popitem(last=False)


class Login:
    """Answers 401 to requests that name none of `logins`, pairs of user and password.

    Without logins everybody is let through. Wrong passwords are counted in `tries`,
    which all parts of the page share, by user and address: behind a proxy, by user.
    """

    def __init__(self, app: ASGIApp, logins: Sequence[tuple[str, str]], tries: Tries) -> None:
        self._app = app
        self._digests = [_digest(user.encode() + b":" + password.encode()) for user, password in logins]
        self._tries = tries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or ask for a login."""
        pair = _pair(scope) if self._digests else b""
        problem = self._refusal(pair, scope.get("client")) if self._digests else None
        scope = {**scope, USER: pair.partition(b":")[0].decode(errors="replace")}
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await Response(problem.body(), problem.status, problem.headers, PROBLEM_JSON)(
                scope, receive, send
            )

    def _refusal(self, pair: bytes, client: tuple[str, int] | None) -> Problem | None:
        who = (client[0] if client else "", _digest(pair.partition(b":")[0]))
        if pair and (seconds := self._tries.wait_seconds(who)):
            return TooManyTries(
                f"expected at most {MAX_TRIES} wrong passwords, got more",
                headers={"Retry-After": str(int(seconds) + 1)},
            )
        if self._knows(pair):
            return None
        if pair:
            self._tries.failed(who)
        return Unauthorized(
            "expected a user and a password of this page, got none or others",
            headers={"WWW-Authenticate": 'Basic realm="Hotrow", charset="UTF-8"'},
        )

    def _knows(self, pair: bytes) -> bool:
        # Every pair is compared, each in constant time: how long it takes names nobody.
        given = _digest(pair)
        return sum([hmac.compare_digest(given, digest) for digest in self._digests]) > 0


def _pair(scope: Scope) -> bytes:
    """User and password of the Authorization header, nothing of any other."""
    header = dict(scope.get("headers", ())).get(b"authorization", b"").decode("latin-1")
    if not header.lower().startswith(_SCHEME):
        return b""
    try:
        return base64.b64decode(header[len(_SCHEME) :], validate=True)
    except (binascii.Error, ValueError):
        return b""


def _digest(pair: bytes) -> bytes:
    """One length for every pair, so that the comparison does not tell it."""
    return hashlib.sha256(pair).digest()
