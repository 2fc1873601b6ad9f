"""Memory that goes back to the kernel once a crowd, or large bodies, have gone."""

import ctypes
import gc
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
#: Blocks from here on are the kernel's own: what single rows need is smaller. glibc raises
#: the limit by itself, up to 32 MiB, and keeps in pieces what bodies of 1 MiB have left
#: behind: 300 unfinished ones held 119 MiB for 32 MiB of them, and 63 MiB when they had gone.
LARGE_BLOCK_BYTES = 2**16
#: What may lie unused at the end of the heap.
SPARE_BYTES = 2**22
#: When so many connections have gone, the memory they had goes back to the kernel: 6 KB
#: each, which glibc keeps in pieces otherwise. Giving it back takes 2 ms.
GONE_CONNECTIONS = 1000
#: Between two looks.
LOOK_SECONDS = 0.1
#: Without a large body for so many looks, what those before have left behind goes back too;
#: and again later, for responses that were read slowly and bodies that were rejected.
QUIET_LOOKS = (20, 100, 500)


def keep_no_large_blocks() -> None:
    """Have the C library give each large block back when it is freed (mallopt(3), of glibc alone)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, SPARE_BYTES)


def give_memory_back() -> None:
    """Have Python, then the C library return what they do not use (malloc_trim(3), of glibc alone)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class UnusedMemory:
    """Gives memory back when what took it is over: a crowd of connections, or work on large bodies.

    `large_bodies` tells how many were worked on so far.
    """

    def __init__(self, large_bodies: Callable[[], int]) -> None:
        self._large_bodies = large_bodies
        self._most_connections = self._connections = 0
        self._bodies, self._quiet_looks = 0, QUIET_LOOKS[-1]

    def look(self, connections: int) -> None:
        """Look, ten times a second, at what there is now."""
        if self._crowd_has_gone(connections) or self._large_bodies_are_done():
            give_memory_back()

    def _crowd_has_gone(self, connections: int) -> bool:
        before, self._connections = self._connections, connections
        self._most_connections = max(self._most_connections, connections)
        has_gone = self._most_connections - connections >= GONE_CONNECTIONS and connections >= before
        if has_gone:  # and no more of it goes
            self._most_connections = connections
        return has_gone

    def _large_bodies_are_done(self) -> bool:
        before, self._bodies = self._bodies, self._large_bodies()
        self._quiet_looks = 0 if self._bodies != before else self._quiet_looks + 1
        return self._quiet_looks in QUIET_LOOKS
