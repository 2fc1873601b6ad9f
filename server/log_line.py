"""One line of the prediction log, from what the hot path has at hand."""

import os
import time

import orjson
import psutil

from server.log_mask import Mask

#: JSON allows raw line breaks only between tokens, where a space means the same.
_LINE_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")
_LF, _CR = b"\n\r"


class LineFormat:
    """Formats the lines of one process.

    The calendar part of the time, and the process's CPU and memory (18 us to
    read), are renewed once a second, when a line is asked for. Without a `mask`
    the request's body is copied as it came.
    """

    def __init__(self, mask: Mask | None = None) -> None:
        self._mask = mask
        self._process = psutil.Process(os.getpid())
        self._process.cpu_percent()  # the first call has nothing to compare with
        self._second_began_ns = 0
        self._second_ends_ns = 0
        self._second = b""
        self._usage = b""

    def line(self, started_ns: int, ended_ns: int, members: bytes, sequence: int, body: bytes) -> bytes:
        """A line for a request that began and ended at these `perf_counter_ns`.

        `members` are the answer's JSON members without braces, `body` the JSON
        object that was received.
        """
        if not self._second_began_ns <= started_ns < self._second_ends_ns:
            self._renew()
        if self._mask is not None:
            body = self._mask.apply(body)
        elif _LF in body or _CR in body:
            body = body.translate(_LINE_BREAKS_TO_SPACES)
        return b'{"ts":"%b%06dZ",%b,"seq":%d,"input":%b,"duration_us":%b%b' % (
            self._second,
            max(0, started_ns - self._second_began_ns) // 1000,
            members,
            sequence,
            body,
            orjson.dumps((ended_ns - started_ns) / 1000),
            self._usage,
        )

    def _renew(self) -> None:
        # The wall clock is read once a second; between, perf_counter counts on, so
        # a clock that is set back gives no negative duration.
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        self._second_began_ns = time.perf_counter_ns() - nanoseconds
        self._second_ends_ns = self._second_began_ns + 1_000_000_000
        self._second = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)).encode()
        rss_mb = self._process.memory_info().rss / 2**20
        self._usage = b',"cpu_percent":%.1f,"rss_mb":%.1f}\n' % (self._process.cpu_percent(), rss_mb)
