"""`HOTROW_BUSY_POLL`: an event loop that never sleeps, so that a request finds its worker awake.

To wake a sleeping process takes the kernel longer than the model takes to score a
row. A loop that always has something to do asks for events without waiting, turn
after turn; the processor it runs on does nothing else.
"""

import asyncio
import os
from pathlib import Path

from server.errors import SettingsError
from server.settings import Settings

#: What the processors of a container are limited to: microseconds in a period, or `max` (cgroups(7)).
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class BusyPoll:
    """Keeps the running event loop turning from `start` to `stop`; all else has its turns as before."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turn()

    def stop(self) -> None:
        self._loop = None

    def _turn(self) -> None:
        if self._loop is not None:
            self._loop.call_soon(self._turn)


def check_busy_poll(settings: Settings) -> None:
    """Raise `SettingsError` if there is not a processor for each worker that never sleeps."""
    have = processors()
    if settings.busy_poll and settings.workers > have:
        raise SettingsError(
            f"expected a processor for each worker with HOTROW_BUSY_POLL=on, got {settings.workers} workers "
            f"and {have:g} processors: use fewer workers, or HOTROW_BUSY_POLL=off"
        )


def processors(quota: Path = _QUOTA) -> float:
    """The processors that this process may use: those it may run on, or as many as its container's share."""
    allowed = float(len(os.sched_getaffinity(0)))
    try:
        limit, period = quota.read_text(encoding="ascii").split()
        return min(allowed, int(limit) / int(period))
    except (OSError, ValueError):  # no such limit
        return allowed
