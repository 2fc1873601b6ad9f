"""One worker's records, made into lines and written: what the observer does with each ring."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from server.errors import HotrowError, SettingsError
from server.log.challengers import Challengers
from server.log.channel import Descriptions
from server.log.compiled.code import LineCodes
from server.log.file import LogFile, cut_back
from server.log.groups import GroupCounter
from server.log.journal import LogJournal
from server.log.line import LineMaker
from server.log.masked import Mask
from server.log.ring import ADMITTED, OPENED, Event, LoggedResponse, RecordGroup, Ring
from server.log.rotation import RetentionPolicy
from server.log.seal import Hashing, Unsealed
from server.metrics.process_usage import ProcessUsage
from server.metrics.row_counter import Counts, RowCounter
from server.tracing.outlet import Noted, Outlet

if TYPE_CHECKING:
    from server.log.challenger import Challenger

logger = logging.getLogger(__name__)

SYNC_SECONDS = 0.5
RETRY_SECONDS = 1.0
#: Machine code makes so many lines in the time that Python takes for one.
_LINES_BY_CODE = 3
#: Lines by machine code in one go that are dearer than all that wait by Python.
_FEW_LINES = 8
#: Why a file cannot be written or held: what the system says, or that another server holds it.
_UNWRITABLE = (OSError, MemoryError, HotrowError)


class Pace(NamedTuple):
    """What is taken from a ring in one go, rows that are counted in one go, and what is done between steps.

    To give way (sched_yield) costs nothing where nobody waits for the processor. Where a worker
    does it comes at once, not when the scheduler finds that the observer's turn is over.
    """

    take_bytes: int
    count_bytes: int
    give_way: Callable[[], object]


def _go_on() -> None:
    pass


#: While the workers answer with breaks: steps of a tenth of a millisecond. One of half as many records takes
#: nearly as long, for the worker's turn has emptied the caches, and does not keep up with one fast client.
GENTLE = Pace(24 * 2**10, 2**14, os.sched_yield)
#: While more than `BUSY_BYTES` wait: a millisecond; who takes turns too often loses the processor's cache.
BUSY, BUSY_BYTES = Pace(2**17, 2**16, _go_on), 2**19
#: When something waits for too long: some milliseconds, without a pause behind.
LATE = Pace(2**18, 2**16, _go_on)


class DescriptionReader:
    """Reads what the workers described: models, and instances with their model."""

    def __init__(self, descriptions: Descriptions) -> None:
        self._descriptions = descriptions
        self._models: dict[str, dict[str, Any]] = {}
        self._instances: dict[int, dict[str, Any]] = {}

    def model(self, instance: int) -> Mapping[str, Any]:
        """The model of an instance; raises `KeyError`."""
        if instance not in self._instances:
            self._read()
        return self._models[self._instances[instance]["of"]]

    def instances(self, pid: int, slot: int) -> list[str]:
        """Those of a process, in the order in which they came."""
        self._read()
        return [i["instance"] for i in self._instances.values() if i["pid"] == pid and i["slot"] == slot]

    def models(self) -> Iterable[Mapping[str, Any]]:
        """Every model that was described, in the order in which they were; asked for with the first."""
        self._read()
        yield from self._models.values()

    def _read(self) -> None:
        for description in self._descriptions.new():
            if "model" in description:
                self._models[description["model"]] = description
            elif "instance" in description:
                self._instances[int(description["instance"], 16)] = description


class Tallies:
    """The rows of all workers counted by label since the last minute, for `RowCounter`."""

    def __init__(self) -> None:
        self.by_label: dict[str, Counts] = {}

    def of(self, label: str, size: int) -> Counts:
        """The counts of one model, float64 [size]: new ones if its reference is another than before."""
        if label not in self.by_label or len(self.by_label[label]) != size:
            self.by_label[label] = np.zeros(size)
        return self.by_label[label]


class InstanceSinks(NamedTuple):
    """What takes the responses of one instance: as lines, as counts, and to score its rows again."""

    maker: LineMaker
    counter: RowCounter | None
    challengers: "Sequence[Challenger]"
    groups: GroupCounter | None


class Stream:
    """Takes what comes through one ring, and keeps the file and the journal of its slot.

    `values` are the slot's figures in the shared metrics; of them are the observer's
    those of drift and of lines lost to the disk or to a failure.
    """

    def __init__(
        self,
        slot: int,
        ring: Ring,
        described: DescriptionReader,
        config: Mapping[str, Any],
        values: "memoryview[float]",
        key: bytes | None,
        tallies: Tallies,
        challengers: Challengers,
        line_codes: LineCodes,
        outlet: Outlet | None = None,
    ) -> None:
        self.path = Path(config["directory"], f"predictions-{config['server']}-{slot}.jsonl")
        self._slot, self._ring, self._described, self._values, self._key = slot, ring, described, values, key
        self._tallies, self._challengers, self._outlet = tallies, challengers, outlet
        self._line_codes = line_codes
        self._strict: bool = config["strict"]
        self._retention = RetentionPolicy(**config["retention"])
        self._drop_full, self._drop_disk, self._drop_failed = config["drop"]
        self._journal = LogJournal(self.path, key)
        self._unsealed = Unsealed(self.path, self._journal.path) if key else None
        self._file: LogFile | None = None
        self._sinks: dict[int, InstanceSinks] = {}
        self._lineless: set[int] = set()
        self._usage = ProcessUsage(ring.pid)
        self._unsynced_since = self._retry_at = 0.0
        self._failed = False
        self._uncounted: dict[int, RecordGroup] = {}  # by instance
        self._uncounted_bytes = 0

    def recover(self) -> None:
        """Go on where an observer that was killed stopped; raises `OSError`."""
        intent = self._ring.intent
        if intent is None:
            return
        if cut_back(self.path, intent.file_bytes, intent.more_bytes):
            self._ring.done(intent.read, intent.lines)
        else:
            self._ring.forget_intent()

    @property
    def unread_bytes(self) -> int:
        """What waits in the ring."""
        return self._ring.unread_bytes

    @property
    def can_work(self) -> bool:
        """Whether the disk took the last lines, or a second has gone since it did not."""
        return time.monotonic() >= self._retry_at

    def work(self, pace: Pace = LATE, *, is_last: bool = False) -> bool:
        """Take some records; whether there were any. After a failure only once a second, or at last.

        What is left of the lines then, where `is_last`, is counted as lost.
        """
        if not (self.can_work or is_last):
            return False
        self._sync(time.monotonic())
        if self._uncounted_bytes >= pace.count_bytes:
            self._count(pace.give_way)
            return True
        if (worked := self._work_by_code(pace, is_last=is_last)) is not None:
            return worked
        taken = self._ring.take(pace.take_bytes)
        if taken.event is not None:
            self._count(pace.give_way)  # what came before it, by the sinks it came to
            self._note(taken.event)
            self._ring.done(taken.read, 0 if taken.event.kind == OPENED else self._ring.lines)
            return True
        if not taken.groups:
            self._ring.done(taken.read, self._ring.lines)  # spans alone, a gap at the end, or nothing
            self._hand_on(taken.spans)
            self._count(pace.give_way)
            return bool(taken.spans)
        lost = self._lost()
        block = b"".join([self._lines(instance, responses) for instance, responses, _ in taken.groups])
        lines = sum([len(responses) for _, responses, _ in taken.groups]) - (self._lost() - lost)
        pace.give_way()
        if not self._append(block, lines, taken.read, is_last=is_last):
            return False
        pace.give_way()
        self._set_aside(taken.groups)
        self._challenge(taken.groups)
        self._hand_on(taken.spans)
        return True

    def _work_by_code(self, pace: Pace, *, is_last: bool) -> bool | None:
        """`work` by machine code; None where there is none, or Python does better."""
        code = self._line_codes.code
        if code is None or self._strict:
            return None
        waiting = self._ring.waiting(_LINES_BY_CODE * pace.take_bytes)
        sinks = self._sinks.get(waiting.instance) if waiting is not None else None
        if waiting is None or sinks is None or not sinks.maker.is_plain:
            return None
        block = code.block(waiting, sinks.maker.frame(waiting.began))
        bytes_made = block.read - waiting.position
        if not block.made or (block.made < _FEW_LINES and bytes_made < waiting.end - waiting.start):
            return None  # what is not plain, or of several models, is taken together
        groups = [RecordGroup(waiting.instance, [], [block.rows])]
        if sinks.challengers or (sinks.groups is not None and sinks.groups.may_count(block.lines)):
            groups = [g._replace(rows=[block.rows]) for g in self._ring.take(bytes_made).groups]
        pace.give_way()
        if not self._append(block.lines, block.made, block.read, is_last=is_last):
            return False
        pace.give_way()
        self._set_aside(groups)
        self._challenge(groups)
        return True

    def _append(self, block: bytes, lines: int, read: int, *, is_last: bool) -> bool:
        """Write the lines of what lies before `read`; whether the ring may forget it, as it may at last."""
        try:
            self._write(block, lines, read)
        except Exception as error:  # noqa: BLE001  # whatever it is, the records wait
            self._say_failed(error)
            if not is_last:
                return False
            self._lose(self._drop_disk, lines)
            self._ring.done(read, self._ring.lines)
        return True

    def finish(self) -> None:
        """Take all that is left; a process that did not close the log was killed, and has all its lines."""
        while self.work(is_last=True):
            pass
        self._close_killed(int(self._values[self._drop_full]))
        self._sync(float("inf"))
        if self._file is not None:
            self._file.close()

    # Lines

    def _lines(self, instance: int, responses: Sequence[LoggedResponse]) -> bytes:
        try:
            return self._sinks_of(instance).maker.lines(responses)
        except Exception:
            if len(responses) > 1:  # others of them may have their line
                return b"".join(self._lines(instance, [response]) for response in responses)
            if instance not in self._lineless:  # once, not for each of a million
                self._lineless.add(instance)
                logger.exception("A response has no line in the prediction log; others are counted.")
            self._lose(self._drop_failed, len(responses))
            return b""

    def _sinks_of(self, instance: int) -> InstanceSinks:
        sinks = self._sinks.get(instance)
        if sinks is None:
            model = self._described.model(instance)
            mask = Mask(model["mask"], self._key) if model["mask"] else None
            counter = None
            if plan := model["drift"]:
                counter = RowCounter(plan, self._values, self._tallies.of(model["label"], plan["size"]))
            sinks = self._sinks[instance] = InstanceSinks(
                LineMaker(self._usage, mask),
                counter,
                self._challengers.of(model),
                GroupCounter(model["groups"], self._values) if model["groups"] else None,
            )
        return sinks

    def _lose(self, slot: int, lines: int) -> None:
        self._values[slot] += lines

    def _lost(self) -> int:
        """Lines that the disk or a failure took."""
        return int(self._values[self._drop_disk] + self._values[self._drop_failed])

    def _write(self, block: bytes, lines: int, read: int) -> None:
        size, lines = len(block), self._ring.lines + lines
        if not self._strict and block:
            self._opened().append([block], lambda at: self._ring.intend(at, size, read, lines))
        self._ring.done(read, lines)
        self._unsynced_since = self._unsynced_since or time.monotonic()
        if self._failed:
            self._failed = False
            logger.info("The prediction log %s is written again.", self.path)

    def _hold_file(self) -> None:
        """Hold the file before the first line too: no other server may write it."""
        if not self._strict:
            try:
                self._opened()
            except _UNWRITABLE as error:  # it is tried again with the first lines
                self._say_failed(error)

    def _opened(self) -> LogFile:
        if self._file is None:
            self._file = LogFile(self.path, self._retention)
        return self._file

    def _say_failed(self, error: Exception) -> None:
        self._ring.forget_intent()
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not self._failed:  # once a failure, not once a try
            why = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            if isinstance(error, SettingsError):
                why = str(error)
            logger.error("The prediction log %s cannot be written: %s", self.path, why)
        self._failed = True

    def _sync(self, now: float) -> None:
        if not self._unsynced_since or now - self._unsynced_since < SYNC_SECONDS:
            return
        self._unsynced_since = 0.0
        try:
            if self._strict:
                _sync_file(self.path)
            else:
                self._opened().sync()
        except _UNWRITABLE as error:
            logger.error("The prediction log %s cannot be synced: %r", self.path, error)

    def _set_aside(self, groups: Iterable[RecordGroup]) -> None:
        """Keep what is counted later, many rows in one go: `_count`."""
        for group in groups:
            uncounted = self._uncounted.setdefault(group.instance, RecordGroup(group.instance, [], []))
            sinks = self._sinks.get(group.instance)
            if sinks is not None and sinks.groups is not None:
                uncounted.responses.extend(group.responses)
            uncounted.rows.extend(group.rows)
            self._uncounted_bytes += sum(map(len, group.rows))

    def _count(self, give_way: Callable[[], object]) -> None:
        """Count the rows of what was written for drift, and their decisions by group: dear for a few."""
        groups, self._uncounted, self._uncounted_bytes = self._uncounted, {}, 0
        for instance, responses, rows in groups.values():
            sinks = self._sinks.get(instance)
            if sinks is None:
                continue
            try:
                if sinks.counter is not None and rows:
                    sinks.counter.count(rows, give_way)
                if sinks.groups is not None:
                    sinks.groups.count(responses)
            except Exception:
                logger.exception("Drift of an instance cannot be counted any more; the log goes on.")
                self._sinks[instance] = sinks._replace(counter=None, groups=None)

    def _hand_on(self, spans: Iterable[Noted]) -> None:
        if self._outlet is not None and spans:
            self._outlet.offer(spans)

    def _challenge(self, groups: Sequence[RecordGroup]) -> None:
        """Hand what was answered to the challengers."""
        for instance, responses, _ in groups:
            sinks = self._sinks.get(instance)
            for challenger in sinks.challengers if sinks is not None else ():
                challenger.offer(instance, responses)

    # The journal

    def _note(self, event: Event) -> None:
        if event.kind == OPENED:
            self._close_killed(event.dropped)
            self._ring.opened_by(event.pid)
            self._usage.close()
            self._usage = ProcessUsage(event.pid)
            self._sinks.clear()
            self._lineless.clear()
            self._hold_file()
            instances = self._described.instances(event.pid, self._slot)
            self._journal.began("opened", event.pid, *self._of(instances))
            self._start_challengers(instances)
        elif event.kind == ADMITTED:
            instances = [f"{event.instance:012x}"]
            self._journal.began("admitted", event.pid, *self._of(instances))
            self._start_challengers(instances)
        else:
            self._close(event.lines, event.dropped)

    def _start_challengers(self, instances: Sequence[str]) -> None:
        for instance in instances:
            self._challengers.of(self._described.model(int(instance, 16)))

    def _of(self, instances: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
        """The digest of each instance's model, and how their fields are masked."""
        models = {instance: self._described.model(int(instance, 16)) for instance in instances}
        masked = {name: rule for model in models.values() for name, rule in model["masked"].items()}
        return {instance: model["digest"] for instance, model in models.items()}, masked

    def _close(self, lines: int, full: int) -> None:
        """Say that the process closed the log, when `full` responses in all had found no room."""
        names = self._described.instances(self._ring.pid, self._slot)
        written = lines if self._strict else self._ring.lines
        while self.seal():  # what is sealed from here on was closed later, and begins with the open file
            pass
        dropped = full + self._lost()
        self._journal.closed(names, written, dropped - self._ring.told, self._hashed())
        self._ring.tell(dropped)
        self._ring.opened_by(0)

    def seal(self) -> bool:
        """Hash one more piece of a closed file for its seal; whether there may be more to do."""
        if self._unsealed is None:
            return False
        try:
            if (found := self._unsealed.step()) is not None:
                self._journal.sealed(found)
        except _UNWRITABLE as error:
            logger.error("A closed file of %s cannot be sealed yet: %r", self.path, error)
            return False
        return found is not None or self._unsealed.is_at_work

    def _hashed(self) -> Hashing | None:
        """The open file as it is now, for the record that closes it."""
        try:
            return Hashing(self.path).finish() if self._unsealed is not None else None
        except OSError as error:
            logger.error("%s cannot be sealed: %r", self.path, error)
            return None

    def _close_killed(self, full: int) -> None:
        """Close the log for a process that did not: it was killed, or found no room to say so."""
        if self._ring.pid:
            self._close(self._ring.lines, full)


def _sync_file(path: Path) -> None:
    """Have the kernel put on the disk what another process wrote."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
