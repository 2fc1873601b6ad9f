"""The observer: a process that writes what the workers answered, so that they need only answer.

`python -m server.log.observer MEMORY DESCRIPTIONS HISTORY METRICS LIFE`, five descriptors:
it takes records from the rings of all workers, makes lines, writes, rotates, masks,
syncs, keeps the journal, counts drift, tells of each minute and hands rows on to
challengers, spans to the process that sends them. It ends when nobody holds the other end
of LIFE any more, which is when every worker and their parent have ended, and has then
written every record. No signal but SIGKILL ends it before; then a successor goes on where
it stopped.
"""

import logging
import mmap
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from server.errors import HotrowError
from server.log.challengers import Challengers
from server.log.channel import Channel
from server.log.compiled.code import LineCodes
from server.log.journal import LogJournal
from server.log.masked import read_key
from server.log.minutes import Minutes
from server.log.rotation import RetentionPolicy, expired
from server.log.stream import BUSY, BUSY_BYTES, GENTLE, LATE, DescriptionReader, Stream, Tallies
from server.tracing.outlet import Outlet

logger = logging.getLogger(__name__)

#: What comes is looked for so often; what has lain so long goes first: together what the log promises.
WAKE_SECONDS, LATE_SECONDS = 0.02, 0.05
TIDY_SECONDS = 30.0
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Observer:
    """All streams of one server, worked on in small steps.

    It has the priority of a worker: with a lower one it would get nothing where others
    use the processors, and lines be dropped. So that a worker on the same processor does
    not wait for long, the observer gives way after every step, as long as it can afford
    to: what has lain too long is taken at once.
    """

    def __init__(self, channel: Channel, config: dict[str, Any], metrics: int) -> None:
        self._rings = channel.rings
        self._config = config
        described = DescriptionReader(channel.descriptions)
        key = self._key = read_key(config["key_file"] and Path(config["key_file"]), Path(config["directory"]))
        values = memoryview(mmap.mmap(metrics, 0)).cast("d")
        slots = config["region_slots"]
        regions = np.frombuffer(values.cast("B")).reshape(-1, slots)
        self._described, self._tallies = described, Tallies()
        self._minutes = Minutes(
            config["history"], regions, channel.rings, channel.history, described.models()
        )
        self._minute_failed = False
        self._challengers = others = Challengers(config, metrics, values[:slots])
        plan = config["tracing"]
        self._outlet = Outlet(plan, metrics, values[:slots]) if plan else None
        self._line_codes = LineCodes(is_wanted=config["compiled_lines"])
        self._streams = [
            Stream(
                slot,
                ring,
                described,
                config,
                values[slot * slots : (slot + 1) * slots],
                key,
                self._tallies,
                others,
                self._line_codes,
                self._outlet,
            )
            for slot, ring in enumerate(channel.rings)
        ]
        self._tidied, self._seals = 0.0, False

    def run(self, life: int) -> None:
        """Work until nobody holds the other end of `life`, then take what is left."""
        for stream in self._streams:
            stream.recover()
        ended = select.poll()
        ended.register(life, select.POLLIN | select.POLLHUP)
        wait = 0.0
        while not ended.poll(wait * 1000):
            wait = self._work()
            self._beat()
        for stream in self._streams:
            stream.finish()
        self._challengers.finish()
        if self._outlet is not None:
            self._outlet.finish()

    def _work(self) -> float:
        """Take a part of what there is; how many seconds the rest may wait."""
        is_late = self._is_late()
        for stream in self._streams:
            pace = LATE if is_late else BUSY if stream.unread_bytes > BUSY_BYTES else GENTLE
            if stream.work(pace) and not is_late:
                os.sched_yield()
        now = time.monotonic()
        if now - self._tidied >= TIDY_SECONDS:
            self._tidied, self._seals = now, True
            self._tidy()
        self._challengers.look_after()
        self._line_codes.look_after()
        if self._outlet is not None:
            self._outlet.look_after()
        if self._seals:
            self._seals = any(stream.seal() for stream in self._streams)
        self._tell()
        if any(stream.can_work and stream.unread_bytes >= GENTLE.take_bytes for stream in self._streams):
            return 0.0
        # What is less is left to come together: a line costs a third of what it does alone.
        return WAKE_SECONDS

    def _is_late(self) -> bool:
        """Whether a response has waited too long for its line."""
        since = [oldest for ring in self._rings if (oldest := ring.oldest_ns()) is not None]
        return bool(since) and time.perf_counter_ns() - min(since) > LATE_SECONDS * 1e9

    def _tell(self) -> None:
        try:
            self._minutes.look(time.time(), self._described.models(), self._tallies.by_label)
        except Exception:
            if not self._minute_failed:  # once, not for each look
                self._minute_failed = True
                logger.exception("The history of the last minutes cannot be told; the log goes on.")

    def _beat(self) -> None:
        for ring in self._rings:
            ring.beat(time.perf_counter_ns())

    def _tidy(self) -> None:
        """Delete the files, of every worker of this server, that need not stay."""
        directory, server = Path(self._config["directory"]), self._config["server"]
        try:
            gone = expired(directory, f"predictions-{server}-", RetentionPolicy(**self._config["retention"]))
            for file in gone:
                file.unlink(missing_ok=True)
            if gone:
                LogJournal(self._streams[0].path, self._key).removed(gone)
        except (OSError, MemoryError, HotrowError) as error:
            logger.error("Old files of %s cannot be deleted: %r", directory, error)


def main(arguments: Sequence[str]) -> None:
    """Observe until the server has ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for number in _IGNORED:  # of the whole group: the workers end first
        signal.signal(number, signal.SIG_IGN)
    memory, descriptions, history, metrics, life = map(int, arguments)
    channel, config = Channel.of(memory, descriptions, history)
    Observer(channel, config, metrics).run(life)


if __name__ == "__main__":
    main(sys.argv[1:])
