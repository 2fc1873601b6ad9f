"""The lines of the prediction log, from what the hot path has at hand."""

import time
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from server.log.masked import Mask
from server.log.ring import LoggedResponse, RowMargins
from server.metrics.process_usage import ProcessUsage

#: JSON allows raw line breaks only between tokens, where a space means the same.
_LINE_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")
_LF, _CR = b"\n\r"
#: Formatting a number takes longer than looking it up.
_DIGITS = [b"%d" % number for number in range(1000)]
_THREE_DIGITS = [b"%03d" % number for number in range(1000)]


class LineFrame(NamedTuple):
    """What the lines of requests that began in one second have in common: its begin by `perf_counter_ns`,
    how they begin, and how they end."""

    began_ns: int
    head: bytes
    tail: bytes


class LineMaker:
    """Makes the lines of one model's responses in one process, `usage`'s.

    The calendar part of the time, and the process's CPU and memory, are renewed
    once a second, when lines are made. Without a `mask` the request's body is
    copied as it came.
    """

    def __init__(self, usage: ProcessUsage, mask: Mask | None = None) -> None:
        self.is_plain = mask is None
        self._mask = mask
        self._process = usage
        self._second_began_ns = 0
        self._second_ends_ns = 0
        self._second = b""
        self._usage = b""
        self._usage_ends_ns = 0

    def lines(self, responses: Sequence[LoggedResponse]) -> bytes:
        pieces: list[bytes] = []
        mask, digits, three = self._mask, _DIGITS, _THREE_DIGITS
        for began_ns, ended_ns, content, sequence, margin, body in responses:
            if not self._second_began_ns <= began_ns < self._second_ends_ns:
                self._renew(began_ns)
            if mask is not None:
                body = mask.apply(body)
            elif _LF in body or _CR in body:
                body = body.translate(_LINE_BREAKS_TO_SPACES)
            microsecond = (began_ns - self._second_began_ns) // 1000
            took_ns = ended_ns - began_ns
            took_us = took_ns // 1000
            pieces += (
                self._second, three[microsecond // 1000], three[microsecond % 1000], b'Z",',
                content[1:-1],
                b',"seq":', b"%d" % sequence,
                # Hexadecimal digits are the bits, whoever reads them.
                b',"margin":"%b"' % margin.hex().encode() if isinstance(margin, float) else _member(margin),
                b',"input":', body,
                b',"duration_us":', digits[took_us] if took_us < 1000 else b"%d" % took_us,
                b".", three[took_ns % 1000],
                self._usage,
            )  # fmt: skip
        return b"".join(pieces)

    def frame(self, began_ns: int) -> LineFrame:
        """The second in which a request began."""
        if not self._second_began_ns <= began_ns < self._second_ends_ns:
            self._renew(began_ns)
        return LineFrame(self._second_began_ns, self._second, self._usage)

    def _renew(self, began_ns: int) -> None:
        """Begin the second in which a request began, which is not always the present one."""
        # The wall clock is read once a second; between, perf_counter counts on, so
        # a clock that is set back gives no negative duration.
        now_ns = time.perf_counter_ns()
        second, nanoseconds = divmod(time.time_ns() - now_ns + began_ns, 1_000_000_000)
        self._second_began_ns = began_ns - nanoseconds
        self._second_ends_ns = self._second_began_ns + 1_000_000_000
        self._second = time.strftime('{"ts":"%Y-%m-%dT%H:%M:%S.', time.gmtime(second)).encode()
        if now_ns >= self._usage_ends_ns:
            self._usage_ends_ns = now_ns + 1_000_000_000
            self._process.sample()
            self._usage = b',"cpu_percent":%.1f,"rss_mb":%.1f}\n' % (
                self._process.cpu_percent,
                self._process.rss_mb,
            )


def _member(margins: RowMargins) -> bytes:
    """The margins of a line with several, by row where each has several."""
    content, width = margins
    words = [value.hex() for value in array("d", content)]
    rows = words if width == 1 else [words[i : i + width] for i in range(0, len(words), width)]
    return b',"margins":%b' % orjson.dumps(rows)
