"""Memory that goes back to the kernel once a crowd, or large bodies, have gone."""

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
#: Blocks from here on are the kernel's own: what single rows need is smaller. glibc raises
#: the limit by itself, up to 32 MiB, and keeps in pieces what bodies of 1 MiB have left
#: behind: 300 unfinished ones held 119 MiB for 32 MiB of them, and 63 MiB when they had gone.
LARGE_BLOCK_BYTES = 2**16
#: What may lie unused at the end of the heap.
SPARE_BYTES = 2**22


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
