"""What a process uses, read in a way that cannot fail when it matters."""

import os
import time

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGES_PER_MIB = 2**20 / os.sysconf("SC_PAGE_SIZE")
#: Positions in /proc/PID/stat (proc(5)), counted from the field after the command's name.
_USER_TICKS, _SYSTEM_TICKS, _RESIDENT_PAGES = 11, 12, 21


class ProcessUsage:
    """CPU in percent of one core since the sample before, and resident memory in MiB, of one process.

    The file is opened once and kept: a process without free descriptors can still
    read it. What cannot be read stays as it was; nothing is raised.
    """

    def __init__(self, pid: int) -> None:
        self.cpu_percent = self.rss_mb = 0.0
        self._ticks = self._sampled_at = 0.0
        try:
            self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._stat = -1
        self.sample()
        self.cpu_percent = 0.0  # the first sample has nothing to compare with

    def sample(self) -> None:
        try:
            fields = os.pread(self._stat, 1024, 0).rpartition(b")")[2].split()
            ticks = float(fields[_USER_TICKS]) + float(fields[_SYSTEM_TICKS])
            self.rss_mb = float(fields[_RESIDENT_PAGES]) / _PAGES_PER_MIB
        except (OSError, IndexError, ValueError):  # it could not be opened, or the process has ended
            return
        now = time.monotonic()
        if now > self._sampled_at:
            seconds = now - self._sampled_at
            self.cpu_percent = 100.0 * (ticks - self._ticks) / _TICKS_PER_SECOND / seconds
        self._ticks, self._sampled_at = ticks, now

    def close(self) -> None:
        if self._stat >= 0:
            os.close(self._stat)
            self._stat = -1
