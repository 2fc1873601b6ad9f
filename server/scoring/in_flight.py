"""What one worker answers at once: bounded for each kind of request, by turns, and by the bytes of bodies.

A request counts from the moment it is whole: who sends slowly does no harm to
others. Each kind has its own limit, so that one which floods
(batches) refuses none of another.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from server.errors import Unavailable
from server.scoring.address_space import check_address_space

#: Routes that tell how the server is: they answer when it is overloaded too.
EXEMPT = frozenset(
    {"/livez", "/readyz", "/metrics", "/models", "/v2/health/live", "/v2/health/ready"}
    | {"/health", "/healthz", "/ping"}
)
STATUS, ROW, ROWS, EXPLANATION = "status", "row", "rows", "explanation"
OVERRIDE, OUTCOMES, OTHER = "override", "outcomes", "other"
#: The kind of a request by the last part of its path.
_KINDS = {
    "predict": ROW,
    "batch": ROWS,
    "infer": ROWS,
    "explain": EXPLANATION,
    "recourse": EXPLANATION,
    "override": OVERRIDE,
    "outcomes": OUTCOMES,
}
#: When to try again is drawn from these, so that the rejected do not come back at once.
RETRY_AFTER_SECONDS = (1, 2, 3, 4, 5)
#: Bodies up to here are worked on at once: it takes no longer than a few single rows do.
SMALL_BYTES = 16_384
#: Large bodies that the event loop works on, while another one's rows are in ONNX Runtime.
AT_WORK = 2
#: Of the requests in flight one in so many may wait for its turn.
WAITING_SHARE = 8


def kind_of(path: str) -> str:
    """What a request for this path is limited with."""
    return STATUS if path in EXEMPT else _KINDS.get(path.rpartition("/")[2], OTHER)


class Limiter:
    """The requests of the ASGI path that one worker is answering, and how many it may.

    Three limits: of all of a kind; of those with large bodies that wait for their
    turn; and of the bytes of bodies, from their first to the end of the request.
    What is small never waits, and is rejected for the first one alone. `count_change`
    is told of every request more or less, `count_shed` of every rejected one.
    """

    def __init__(
        self,
        max_requests: int,
        max_body_bytes: int,
        count_change: Callable[[int], None] = lambda _: None,
        count_shed: Callable[[], None] = lambda: None,
    ) -> None:
        self._count_change, self._count_shed = count_change, count_shed
        #: A longer body is not read to its end, so its connection must close.
        self.max_body_bytes = max_body_bytes
        self._max_requests = max_requests
        self._max_waiting = max(1, max_requests // WAITING_SHARE)
        #: What all bodies together may hold, so that a longer one never finds room.
        self.max_held_bytes = AT_WORK * max_body_bytes
        self._counts: Counter[str] = Counter()
        self._waiting = 0
        self._coming = 0
        self._held_bytes = 0
        self._arriving_bytes, self._has_arriving = 0, False
        self._turns = asyncio.Semaphore(AT_WORK)
        #: Large bodies that were worked on so far.
        self.large_bodies = 0

    def is_full(self, kind: str) -> bool:
        """Whether one more of this kind would be one too many."""
        return kind != STATUS and self._counts[kind] >= self._max_requests

    @property
    def is_strained(self) -> bool:
        """Whether some requests are rejected: all of a kind, or those with large bodies."""
        return self._waiting > 0 or self._is_filled or any(map(self.is_full, self._counts))

    @property
    def _is_filled(self) -> bool:
        return self._held_bytes >= self.max_held_bytes

    def has_room(self, kind: str, body_bytes: float) -> bool:
        """Whether a request of this kind with a body of this length is taken."""
        if self.is_full(kind):
            return False
        if body_bytes <= SMALL_BYTES:
            return True
        return not self._is_filled and self._waiting + self._coming < self._max_waiting

    def expect(self, loop: asyncio.AbstractEventLoop) -> None:
        """A large body was let through: it waits as soon as the event loop has seen all that came."""
        if not self._coming:
            loop.call_soon(self._expect_none)
        self._coming += 1

    def _expect_none(self) -> None:
        self._coming = 0

    @asynccontextmanager
    async def turn(self, body_bytes: int) -> AsyncIterator[None]:
        """The time to work on a request whose body has been received; raises `Unavailable`.

        Those with large bodies take turns: rows that are decoded and wait would fill
        the memory, and give the garbage collector work that no response needs. What a limited
        address space has no room for is not begun.
        """
        if body_bytes <= SMALL_BYTES:
            yield
            return
        if self._turns.locked() and self._waiting >= self._max_waiting:
            raise no_room(self.shed_one())
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            check_address_space(body_bytes)
            yield
        finally:
            self._turns.release()
            self.large_bodies += 1

    def begin(self, kind: str) -> None:
        """A request of this kind is whole, and is answered."""
        self._counts[kind] += 1
        self._count_change(1)

    def end(self, kind: str) -> None:
        """A request of this kind has its response."""
        self._counts[kind] -= 1
        self._count_change(-1)

    def admits(self, loop: asyncio.AbstractEventLoop, new_bytes: int, body_bytes: int) -> bool:
        """Whether so many bytes of a body may be kept until its task runs, behind all that is read now.

        Of 1,000 connections the event loop reads a quarter of a MiB each before a task takes any.
        What a rejected body holds counts no more, though its task has still to let go of it:
        else all others that are read now would be rejected with it.
        """
        taken = self._held_bytes + self._arriving_bytes
        is_rejected = body_bytes > SMALL_BYTES and taken + new_bytes > self.max_held_bytes
        if not self._has_arriving:
            loop.call_soon(self._arrived)
            self._has_arriving = True
        self._arriving_bytes += new_bytes - body_bytes if is_rejected else new_bytes
        return not is_rejected

    def _arrived(self) -> None:
        self._arriving_bytes, self._has_arriving = 0, False

    def hold(self, new_bytes: int, body_bytes: int) -> bool:
        """Take so many more bytes of a body of which there are `body_bytes` by now, if there is room."""
        if body_bytes > SMALL_BYTES and self._held_bytes + new_bytes > self.max_held_bytes:
            return False
        self._held_bytes += new_bytes
        return True

    def release(self, held_bytes: int) -> None:
        """So many bytes that were taken are held no more."""
        self._held_bytes -= held_bytes

    def shed_one(self) -> int:
        """Count a rejected request; in how many seconds it may try again."""
        self._count_shed()
        return random.choice(RETRY_AFTER_SECONDS)


def no_room(retry_after_seconds: int) -> Unavailable:
    """What rejects a request that there is no room for."""
    words = "expected fewer requests at once, got more than this worker answers"
    return Unavailable(words, retry_after_seconds=retry_after_seconds)
