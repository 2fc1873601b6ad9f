"""The lines of the prediction log, from what the hot path has at hand."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from server.log.input import LoggedInput
from server.log.mask import Mask
from server.metrics.process_usage import ProcessUsage

logger = logging.getLogger(__name__)

#: Answers whose lines are made in one go: one after the other they find the code in the
#: processor's cache, and all are joined at once.
TOGETHER = 16
#: A longer body is not held on to.
MAX_HELD_BYTES = 4096

#: An answer: when its request began and ended by `perf_counter_ns`, the JSON object
#: that was sent, its number, and the JSON object that was received.
Answered: TypeAlias = tuple[int, int, bytes, int, bytes]

#: JSON allows raw line breaks only between tokens, where a space means the same.
_LINE_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")
_LF, _CR = b"\n\r"
#: Formatting a number takes longer than looking it up.
_DIGITS = [b"%d" % number for number in range(1000)]
_THREE_DIGITS = [b"%03d" % number for number in range(1000)]


class LineMaker:
    """Makes the lines of one model's answers in one process, and gives them, with their number, to `append`.

    The calendar part of the time, and the process's CPU and memory, are renewed
    once a second, when lines are made. Without a `mask` the request's body is
    copied as it came, a long one as `logged_input` has it. `say_held` is told when
    answers begin to be held: who is told flushes them in time. `say_lost` is told
    how many held answers got no line, since making it failed, as it does without memory.
    """

    def __init__(
        self,
        append: Callable[[bytes, int], None],
        mask: Mask | None = None,
        logged_input: LoggedInput | None = None,
        say_held: "Callable[[LineMaker], object]" = lambda _: None,
        say_lost: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._append = append
        self._mask = mask
        self._logged_input = logged_input
        self._say_held = say_held
        self._say_lost = say_lost
        self._held: list[Answered] = []
        self._process = ProcessUsage(os.getpid())
        self._second_began_ns = 0
        self._second_ends_ns = 0
        self._second = b""
        self._usage = b""
        self._usage_ends_ns = 0

    def hold(self, answered: Answered) -> None:
        """Take an answer; its line is made with the next ones, or by `flush`."""
        if not self._held:
            self._say_held(self)
        if len(answered[4]) > MAX_HELD_BYTES:
            self._hold_long(answered)
            return
        self._held.append(answered)
        if len(self._held) >= TOGETHER:
            self.flush()

    def _hold_long(self, answered: Answered) -> None:
        try:
            answered = (*answered[:4], self.input_of(answered[4]))
        except MemoryError:
            logger.warning("There is no memory to shorten a long row: it is logged as it came.")
        self._held.append(answered)
        self.flush()

    def input_of(self, text: bytes) -> bytes:
        """The JSON object of one row, in a length that the client does not choose."""
        return text if self._logged_input is None else self._logged_input.of(text)

    def flush(self) -> None:
        """Append the lines of the answers that are held; raises nothing: they are sent already."""
        if self._held:
            held, self._held = self._held, []
            try:
                lines = self.lines(held)
            except Exception:  # noqa: BLE001  # without memory, say; others of them may have their line
                self._append_each(held)
            else:
                self._append(lines, len(held))

    def _append_each(self, held: Sequence[Answered]) -> None:
        lost = 0
        for answered in held:
            try:
                self._append(self.lines([answered]), 1)
            except Exception:
                lost += 1
                if lost == 1:
                    logger.exception("An answer has no line in the prediction log.")
        self._say_lost(lost)

    def write(self, answers: Sequence[Answered]) -> None:
        """Append the lines of some answers, after those that are held; raises what `append` raises."""
        self.flush()
        self._append(self.lines(answers), len(answers))

    def lines(self, answers: Sequence[Answered]) -> bytes:
        """The lines of some answers."""
        pieces: list[bytes] = []
        mask, digits, three = self._mask, _DIGITS, _THREE_DIGITS
        for began_ns, ended_ns, content, sequence, body in answers:
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
                b',"input":', body,
                b',"duration_us":', digits[took_us] if took_us < 1000 else b"%d" % took_us,
                b".", three[took_ns % 1000],
                self._usage,
            )  # fmt: skip
        return b"".join(pieces)

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
