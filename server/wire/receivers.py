"""The connections of one worker whose request is not whole yet: many, but not without end."""

from typing import Protocol

#: Beyond, the one that has been sending for longest is rejected: a whole request takes
#: milliseconds, so who sends as others do is never the oldest of so many. One costs
#: about 15 kB, and up to `SMALL_BYTES` of its body that no budget counts.
MAX_RECEIVING = 2048


class Receiver(Protocol):
    """A connection on which a part of a request has come."""

    def give_way(self) -> None:
        """Reject the request, for others."""


class Receivers:
    """Those that are receiving now, the oldest first."""

    def __init__(self, limit: int = MAX_RECEIVING) -> None:
        self._limit = limit
        self._receiving: dict[Receiver, None] = {}

    def begin(self, receiver: Receiver) -> None:
        """A part of a request has come; the oldest gives way if that is one too many."""
        self._receiving[receiver] = None
        if len(self._receiving) > self._limit:
            oldest = next(iter(self._receiving))
            self.end(oldest)
            oldest.give_way()

    def end(self, receiver: Receiver) -> None:
        """Its request is whole, or it is gone."""
        self._receiving.pop(receiver, None)
