"""The connections of one worker that hold memory for others: unfinished requests, or unread responses."""

from collections.abc import Callable

#: Of unfinished requests. Beyond, the one that has been sending for longest is rejected: a whole request
#: takes milliseconds, so who sends as others do is never the oldest of so many. One costs
#: about 15 kB, and up to `SMALL_BYTES` of its body that no budget counts.
MAX_RECEIVING = 2048

GiveWay = Callable[[], None]


class MemoryHolders:
    """The oldest give way while all together hold more than `limit`, in connections or bytes.

    The only one never does. Each is known by what makes it give way. A deadline is not enough: it is
    seconds, in which one client can begin many requests, or ask for many large responses.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._total = limit, 0
        self._held: dict[GiveWay, int] = {}

    def begin(self, give_way: GiveWay, amount: int = 1) -> None:
        """A connection holds so much from now on; it stays as old as it is."""
        self._total += amount - self._held.get(give_way, 0)
        self._held[give_way] = amount
        while len(self._held) > 1 and self._total > self._limit:
            oldest = next(iter(self._held))
            self.end(oldest)
            oldest()

    def end(self, give_way: GiveWay) -> None:
        """It holds nothing any more: its request is whole, its response read, or it is gone."""
        self._total -= self._held.pop(give_way, 0)
