"""Where a fault happens: a server, its log, its worker processes, and rows to send."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import orjson

from loadtest.harness.instances import wait_for_instances
from loadtest.harness.reference_rows import ReferenceRow
from loadtest.harness.subject import LoadTestError, Subject, cpu_seconds, family, resident_bytes, workers_of
from loadtest.harness.target import started
from server.log.journal import JOURNAL_SUFFIX
from server.model.bundle import Bundle

Part = TypeVar("Part")


class FaultSkipped(Exception):  # named for what happened
    """This machine cannot inject the fault; the message says what is missing."""


class Served(NamedTuple):
    """A running server and its log."""

    subject: Subject
    logs: Path
    #: Requests that looked for its workers: lines of the log that no client knows of.
    probes: int = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.subject.url

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self.subject.pid

    def workers(self) -> list[int]:
        """The processes that answer."""
        return sorted(child.pid for child in workers_of(self.pid)) or [self.pid]

    def instances_of(self, worker: int) -> set[str]:
        """The prefixes of the ids that a worker gives, as the log's journal has them."""
        opened = (record for record in journal(self.logs, "opened") if record["pid"] == worker)
        return {instance for record in opened for instance in record["boots"]}

    def end(self) -> int:
        """Tell it to end; the exit code."""
        self.subject.process.terminate()
        return self.subject.process.wait(60)

    def rss_mb(self) -> float:
        """Resident memory of all its processes."""
        return resident_bytes(self.pid) / 2**20

    def line_bytes(self) -> int:
        """What has been written into its log."""
        return sum(file.stat().st_size for file in self.logs.glob("*.jsonl"))

    def files(self) -> int:
        """Open file descriptors of all its processes."""
        return sum(process.num_fds() for process in family(self.pid))

    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far."""
        return cpu_seconds(self.pid)


@dataclass
class Scene:
    """What every fault is given. `short` asks for few repetitions, `fuzz_seconds` for Atheris.

    `only` asks of a fault of several parts for those whose name has it.
    """

    bundle: Bundle
    rows: list[ReferenceRow]
    folder: Path
    short: bool = False
    fuzz_seconds: int = 0
    only: str = ""
    _numbers: Iterator[int] = field(default_factory=count)

    def times(self, full: int, short: int) -> int:
        """How often to repeat something."""
        return short if self.short else full

    def chosen(self, parts: Mapping[str, Part]) -> Mapping[str, Part]:
        """The parts of a fault, by name, that are asked for; raises `LoadTestError` if there are none."""
        chosen = {name: part for name, part in parts.items() if self.only in name}
        if not chosen:
            raise LoadTestError(f"expected --only to be part of one of: {'; '.join(parts)}; got {self.only}")
        return chosen

    def new_folder(self) -> Path:
        """An empty folder."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir(parents=True)
        return folder

    @contextmanager
    def serve(
        self,
        *,
        workers: int = 1,
        command: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
        model: Path | None = None,
        core: int | None = None,
        **settings: str,
    ) -> Iterator[Served]:
        """A server with a log of its own, ended afterwards; of several workers each has answered."""
        folder = self.new_folder()
        logs = Path(settings.get("log_dir", folder / "logs"))
        with started(
            model or self.bundle.directory,
            folder,
            ["--workers", str(workers)],
            {**settings, "log_dir": str(logs)},
            command=command,
            environment=environment,
            core=core,
        ) as subject:
            seen = (
                wait_for_instances(subject.url, self.rows[0].request, workers) if workers > 1 else Counter()
            )
            yield Served(subject, logs, seen.total())


def journal(logs: Path, event: str) -> Iterator[dict[str, Any]]:
    """The records of an event in the journals beside a log."""
    for file in logs.glob(f"*{JOURNAL_SUFFIX}"):
        yield from (r for r in map(orjson.loads, file.read_bytes().splitlines()) if r["event"] == event)


def needs_root() -> None:
    """Skip the fault for another user than root."""
    if os.geteuid() != 0:
        raise FaultSkipped("it needs root")


def needs_tool(name: str) -> str:
    """The path of a system tool; without it the fault is skipped."""
    found = shutil.which(name)
    if found is None:
        raise FaultSkipped(f"{name} is not installed")
    return found
