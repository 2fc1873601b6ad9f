"""The connections of one worker that hold memory for others: unfinished requests and unread responses."""

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


class Reader(Protocol):
    """A connection whose client leaves a response unread, beyond what the kernel keeps of it."""

    def give_up(self) -> None:
        """Reset the connection, for others."""


class SlowReaders:
    """Those that read slowly, the oldest first, and the bytes of responses that wait for them.

    The deadline of what is left unread is seconds, in which one client can ask for many large responses.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._unread: dict[Reader, int] = {}

    def begin(self, reader: Reader, unread_bytes: int) -> None:
        """A response waits; the oldest give way while all together are too many, but not the only one."""
        self._unread[reader] = unread_bytes
        while len(self._unread) > 1 and sum(self._unread.values()) > self._limit_bytes:
            oldest = next(iter(self._unread))
            self.end(oldest)
            oldest.give_up()

    def end(self, reader: Reader) -> None:
        """It has read on, or is gone."""
        self._unread.pop(reader, None)
