"""The way from the observer to the process that sends spans: a pipe, which is never waited for."""

import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from server.patience import Patience
from server.tracing.span_text import request_line

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
#: The pipe is the queue: some thousand spans. What finds no room is dropped and counted.
PIPE_BYTES = 2**20
#: A line of at most so many bytes is written whole or not at all (POSIX, PIPE_BUF).
MAX_LINE_BYTES = 4096
#: What it may take to send what is left at the end.
FINISH_SECONDS = 3.0

#: When a request began and ended by `perf_counter_ns`, and the text of its span.
Noted: TypeAlias = tuple[int, int, bytes]


class Outlet:
    """Hands spans on; the process is started at once, and again without haste if it ends.

    `plan` is `SlotLayout.tracing_plan`, `values` the first region of the shared metrics, of which
    the slot of `queue_full` is ours and the others are the process's while there is one.
    """

    def __init__(self, plan: Mapping[str, Any], metrics: int, values: "memoryview[float]") -> None:
        self._metrics, self._values = metrics, values
        self._words = orjson.dumps(plan).decode()
        self._slots: Mapping[str, int] = plan["slots"]
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._handed = self._told
        self._patience = Patience()
        self.look_after()

    @property
    def _told(self) -> float:
        """Of how many spans the process has said what became of them."""
        return self._values[self._slots["exported"]] + self._values[self._slots["failed"]]

    def offer(self, spans: Iterable[Noted]) -> None:
        offset = time.time_ns() - time.perf_counter_ns()
        for began_ns, ended_ns, text in spans:
            line = request_line(began_ns + offset, ended_ns - began_ns, text)
            if len(line) <= MAX_LINE_BYTES and self._wrote(line):
                self._handed += 1
            else:
                self._values[self._slots["queue_full"]] += 1.0

    def _wrote(self, line: bytes) -> bool:
        try:
            return self._pipe >= 0 and bool(os.write(self._pipe, line))
        except (BlockingIOError, BrokenPipeError):
            return False

    def look_after(self) -> None:
        """Start the process if there is none."""
        if self._process is not None and self._process.poll() is None:
            return
        now = time.monotonic()
        if self._process is not None:
            logger.error("The process that sends spans ended; it is started again.")
            self._let_go()
            self._patience.ended(now)
        if self._patience.may_start(now):
            self._start(now)

    def finish(self) -> None:
        """Let it send what is left and end, for some seconds."""
        process = self._process
        if process is not None:
            os.close(self._pipe)
            try:
                process.wait(FINISH_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                logger.error("Spans that no collector took are lost.")

    def _let_go(self) -> None:
        """Of what the process was handed and said nothing of, it sent nothing that we know of."""
        os.close(self._pipe)
        self._process, self._pipe = None, -1
        self._values[self._slots["failed"]] += max(0.0, self._handed - self._told)

    def _start(self, now: float) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server.tracing.exporter", str(self._metrics), self._words],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                pass_fds=(self._metrics,),
                cwd=ROOT,
            )
        except OSError as error:
            os.close(writer)
            logger.error("The process that sends spans cannot be started: %s", error.strerror)
            self._patience.ended(now)
            return
        finally:
            os.close(reader)
        self._patience.started(now)
        self._pipe = writer
        self._widen(writer)
        os.set_blocking(writer, False)

    def _widen(self, pipe: int) -> None:
        with suppress(OSError):  # the system allows less: the queue is shorter
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
