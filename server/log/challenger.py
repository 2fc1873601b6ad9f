"""A challenger as the observer sees it: what was answered is handed on to a process of its own.

It has a ring, which it reads as the observer reads those of the workers. The observer never
waits for it: what finds no room is counted as shed, a process that ends is started again
without haste, and one that stands still is ended.
"""

import logging
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from server.log.ring import NO_MARGIN, LoggedResponse, Ring, ring_bytes
from server.patience import Patience

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
RING_BYTES = 4 * 2**20
#: One that has read nothing for so long, though something lies there, is ended.
STANDS_STILL_SECONDS = 20.0
#: What it may take to score what is left at the end.
FINISH_SECONDS = 5.0


class Challenger:
    """One challenger: its ring and its process, which is started at once.

    `plan` is `WorkerMetrics.challenger_plan`; `counts` are the slots of the first region, of which
    `shed` is ours and the others are the process's. `passed` goes on to it: the descriptor
    of the metrics, and where its file is.
    """

    def __init__(
        self, plan: Mapping[str, Any], metrics: int, counts: "memoryview[float]", file: str, file_bytes: int
    ) -> None:
        self.plan = plan
        self._counts, self._metrics = counts, metrics
        self._config = {**plan, "file": file, "file_bytes": file_bytes}
        self._memory = os.memfd_create("hotrow-challenger", os.MFD_CLOEXEC)
        os.ftruncate(self._memory, ring_bytes(RING_BYTES))
        self.ring = Ring(mmap.mmap(self._memory, 0))
        self._put = self.ring.writer()
        self._process: subprocess.Popen[bytes] | None = None
        self._patience = Patience()
        self._read, self._read_at = 0, time.monotonic()
        self._ends_at = 0.0
        self.look_after()

    def offer(self, instance: int, responses: Sequence[LoggedResponse]) -> None:
        """Hand on some responses; what finds no room is shed."""
        if self._ends_at:
            return
        for began, ended, content, number, _, body in responses:
            if not self._put(instance, began, ended, number, NO_MARGIN, 0.0, b"", content, body):
                self._counts[self.plan["slots"]["shed"]] += 1.0

    def look_after(self) -> None:
        """Start the process if there is none, and end one that stands still."""
        now = time.monotonic()
        if not self.ring.unread_bytes:
            self.ring.give_back()
        if self._process is not None and self._process.poll() is None:
            if not self.ring.unread_bytes or self.ring.read != self._read:
                self._read, self._read_at = self.ring.read, now
            elif now - self._read_at > STANDS_STILL_SECONDS:
                logger.error("The challenger %s stands still; it is started again.", self.plan["label"])
                self._process.kill()
            return
        if self._process is not None:
            logger.error("The process of the challenger %s ended.", self.plan["label"])
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None
            self._patience.ended(now)
        if self._patience.may_start(now):
            self._read, self._read_at = self.ring.read, now
            self._start(now)

    def end(self) -> None:
        """Take no more; it scores what is left and ends, if it has not to be ended: see `has_ended`."""
        self._ends_at = time.monotonic() + FINISH_SECONDS
        os.close(self._memory)
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def has_ended(self) -> bool:
        """Whether the process is gone, after `end`; one that takes too long is killed."""
        if self._process is not None and self._process.poll() is None and time.monotonic() > self._ends_at:
            self._process.kill()
        return self._process is None or self._process.poll() is not None

    def _start(self, now: float) -> None:
        passed = (self._memory, self._metrics)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server.challenger.shadow", *map(str, passed), self._words()],
                stdin=subprocess.PIPE,  # it ends when nobody holds the other end any more
                stdout=subprocess.DEVNULL,
                pass_fds=passed,
                cwd=ROOT,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
            self._patience.started(now)
        except OSError as error:
            logger.error("The challenger %s cannot be started: %s", self.plan["label"], error.strerror)
            self._patience.ended(now)

    def _words(self) -> str:
        return orjson.dumps(self._config).decode()
