"""Room for a request in an address space that is limited (`ulimit -v`, RLIMIT_AS).

Python raises MemoryError where there is none, and the request is 503; some libraries
of C and C++ end the process instead. So the room is looked at before they are asked.
"""

import resource
from contextlib import suppress
from pathlib import Path

from server.errors import MemoryExhausted

#: What a request may take beside what is there, for each byte of its body: the promise of
#: 64 MiB for the 16 MiB that the defaults allow.
BYTES_OF_WORK = 4

_STATM = Path("/proc/self/statm")  # proc_pid_statm(5): the first figure is the pages that are mapped


def check_address_space(body_bytes: int) -> None:
    """Raise `MemoryExhausted` if the limit leaves no room for the work on a body of this length."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    with suppress(OSError):  # no descriptor to look with: then as without a look
        mapped = int(_STATM.read_text().split()[0]) * resource.getpagesize()
        if mapped + BYTES_OF_WORK * body_bytes > limit:
            raise MemoryExhausted
