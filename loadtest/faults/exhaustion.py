"""What a machine can run out of, again and again, for five seconds each time: F29."""

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil

from loadtest.faults.namespaces import small_disk
from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import FaultSkipped, Scene, Served, needs_root
from loadtest.harness.instances import wait_for_instances, wait_until
from loadtest.harness.recording_client import Load
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import LoadTestError, family, python

#: A `/dev/shm` of the server's own, and a disk for its log: small, so that they are soon full.
_OWN_SHM = 'mount -t tmpfs -o size=8m tmpfs /dev/shm; exec "$0" "$@"'
_DISK = "64m"
_PIDS = Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")
#: What RSS and descriptors may be above those of before, after 50 workers have been started anew.
KEPT_MB, KEPT_FILES = 32.0, 0

Shortage = Callable[[Served], AbstractContextManager[None]]


def exhausted(scene: Scene, outcome: FaultOutcome) -> None:
    """Descriptors, memory, processes, /dev/shm, disk: each for 5 s, 10 times, a worker killed each time."""
    needs_root()
    with small_disk(scene.new_folder() / "disk", _DISK) as disk:
        shortages: dict[str, Shortage] = {
            "descriptors": _no_descriptors,
            "memory": _no_memory,
            "processes": _no_processes,
            "/dev/shm": lambda served: _full(Path(f"/proc/{served.pid}/root/dev/shm")),
            "disk": lambda _: _full(disk),
        }
        command = ["unshare", "--mount", "sh", "-c", _OWN_SHM, *python("-m", "server")]
        with scene.serve(workers=2, command=command, log_dir=str(disk / "logs")) as served:
            # The observer opens a slot's files and its worker's figures with the first line.
            wait_until(lambda: _written(served.logs) == 2, "a line of each worker", 30.0)
            before_mb, before_files = served.rss_mb(), served.files()
            with Load(served.url, scene.rows, rate=200.0, timeout=10.0) as clients:
                clients.wait_for(200)
                for what, shortage in scene.chosen(shortages).items():
                    _again_and_again(scene, outcome, served, what, shortage)
            with suppress(LoadTestError):  # the server sees a moment later that clients have gone
                wait_until(lambda: served.files() <= before_files, "the descriptors back", 10.0)
            kept_mb, kept_files = served.rss_mb() - before_mb, served.files() - before_files
            dropped = int(total(scrape(served.url), "hotrow_log_dropped_total"))
            outcome.expect("exit code 0", served.end() == 0)
        found = outcome.add_logged(clients.records, served.logs, dropped)
    outcome.figures["lines dropped, and counted"] = f"{dropped:,}"
    outcome.expect_at_most("memory kept", kept_mb, KEPT_MB, "MB")
    outcome.expect_at_most("descriptors kept", kept_files, KEPT_FILES)
    outcome.expect_none("responses without a line that were not counted", outcome.lost)
    outcome.expect_none("lines twice", len(found.duplicates))
    outcome.expect_none("responses or lines wrong", outcome.wrong)


def _written(logs: Path) -> int:
    """How many files of the log have a line."""
    return sum(file.stat().st_size > 0 for file in logs.glob("*.jsonl"))


def _again_and_again(
    scene: Scene, outcome: FaultOutcome, served: Served, what: str, shortage: Shortage
) -> None:
    choose = random.Random(1)
    for _ in range(scene.times(10, 1)):
        try:
            with shortage(served):
                time.sleep(scene.times(4, 1) / 2)
                os.kill(choose.choice(served.workers()), signal.SIGKILL)
                time.sleep(scene.times(6, 1) / 2)
        except FaultSkipped as reason:
            outcome.figures[what] = f"skipped: {reason}"
            return
        seconds = wait_until(lambda: len(served.workers()) == 2, f"two workers again ({what})", 60.0)
        wait_for_instances(served.url, scene.rows[0].request, 2)
        outcome.recovered(seconds)
    outcome.expect("ready, with two workers, after each", len(served.workers()) == 2, what)


def _no_descriptors(served: Served) -> AbstractContextManager[None]:
    return _limited(served, resource.RLIMIT_NOFILE, lambda _: 3)  # fewer than are open: none is to be had


def _no_memory(served: Served) -> AbstractContextManager[None]:
    return _limited(served, resource.RLIMIT_AS, lambda process: process.memory_info().vms)


@contextmanager
def _limited(served: Served, kind: int, used: Callable[[psutil.Process], int]) -> Iterator[None]:
    """Each process of the server may have of a resource what it has, and no more."""
    limits = {}
    for process in family(served.pid):
        with suppress(psutil.Error, ProcessLookupError):
            limits[process.pid] = resource.prlimit(process.pid, kind)
            resource.prlimit(process.pid, kind, (used(process), limits[process.pid][1]))
    try:
        yield
    finally:
        unlimited = limits[served.pid]
        for process in family(served.pid):  # those that have been started meanwhile, too
            with suppress(psutil.Error, ProcessLookupError):
                resource.prlimit(process.pid, kind, unlimited)


@contextmanager
def _no_processes(served: Served) -> Iterator[None]:
    """No more processes and threads; a root's are limited by a cgroup alone."""
    group, root = _pids_group()
    try:
        for process in family(served.pid):
            with suppress(OSError):
                (group / "cgroup.procs").write_text(str(process.pid))
        (group / "pids.max").write_text("1")  # fewer than there are: none is to be had
        yield
    finally:
        (group / "pids.max").write_text("max")
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (root / "cgroup.procs").write_text(pid)
        with suppress(OSError):
            group.rmdir()


def _pids_group() -> tuple[Path, Path]:
    for root in _PIDS:
        group = root / f"hotrow-{os.getpid()}"
        with suppress(OSError):
            group.mkdir(exist_ok=True)
            if (group / "pids.max").exists():
                return group, root
            group.rmdir()
    raise FaultSkipped("no cgroup may be made that counts processes")


@contextmanager
def _full(folder: Path) -> Iterator[None]:
    """A file system without a byte of room."""
    filler = folder / "filler"
    try:
        with suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(2**16))
                file.flush()
        yield
    finally:
        filler.unlink()
