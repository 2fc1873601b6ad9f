"""Disks that are full, broken or slow, under the log and elsewhere: F8, F9 and F10."""

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.faults.namespaces import small_disk
from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import FaultSkipped, Scene, Served, journal, needs_tool
from loadtest.harness.instances import wait_for_instances, wait_until
from loadtest.harness.recording_client import Load
from loadtest.harness.request_records import RequestRecords, reconcile
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import LoadTestError, free_port, observer_of, python
from server.log.observer import WAKE_SECONDS

#: A small queue, so that it is full soon, and less room on the disk than it holds: what
#: waits cannot be written until there is more.
QUEUE_BYTES, ROOM_BYTES = str(2**18), 100_000
DISK_BYTES = 2**20
RESUMED_SECONDS = 5.0
#: A disk that takes this long to sync.
SLOW_SYNC_MICROSECONDS = 200_000
#: What noise alone does to a p99 of some seconds.
P99_RATIO = 1.1


def full(scene: Scene, outcome: FaultOutcome) -> None:
    """The log on a tmpfs of 1 MB, under a limit of file sizes, and on /dev/full; then room again."""
    ways = {"a limit for the size of a file": _file_limit, "/dev/full": _dev_full}
    if os.geteuid() == 0:
        ways = {"a disk of 1 MB": _small_disk, **ways}
    else:
        outcome.figures["a disk of 1 MB"] = "skipped: mounting needs root"
    for words, way in ways.items():
        way(scene, outcome, words)
    outcome.expect_none("requests failed", outcome.failed)
    outcome.expect_none("requests shed", outcome.shed)
    outcome.expect_none("responses or lines wrong", outcome.wrong)


def _small_disk(scene: Scene, outcome: FaultOutcome, way: str) -> None:
    with small_disk(scene.new_folder() / "disk", "1m") as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(DISK_BYTES - ROOM_BYTES))
        with scene.serve(log_dir=str(disk / "logs"), log_queue_bytes=QUEUE_BYTES) as served:
            records = _respond_without_room(scene, served)
            _resumes(scene, outcome, served, records, filler.unlink)
        _account(outcome, served.logs, records, way)


def _file_limit(scene: Scene, outcome: FaultOutcome, way: str) -> None:
    with scene.serve(log_queue_bytes=QUEUE_BYTES) as served:
        unlimited = resource.RLIM_INFINITY
        writer = observer_of(served.pid).pid
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (ROOM_BYTES, unlimited))
        records = _respond_without_room(scene, served)

        def lift() -> None:
            resource.prlimit(writer, resource.RLIMIT_FSIZE, (unlimited, unlimited))

        _resumes(scene, outcome, served, records, lift)
    _account(outcome, served.logs, records, way)


def _dev_full(scene: Scene, outcome: FaultOutcome, way: str) -> None:
    logs, port = scene.new_folder(), free_port()
    (logs / f"predictions-{port}-0.jsonl").symlink_to("/dev/full")
    with scene.serve(log_dir=str(logs), port=str(port), log_queue_bytes=QUEUE_BYTES) as served:
        records = _respond_without_room(scene, served)
        served.end()
    outcome.add(records)
    dropped = _dropped(logs)
    outcome.expect(
        f"every line counted as dropped ({way})", dropped == records.ok, f"{dropped} of {records.ok}"
    )


def _respond_without_room(scene: Scene, served: Served) -> RequestRecords:
    """Load until lines have been dropped."""
    with Load(served.url, scene.rows, clients=8) as clients:
        clients.wait_for(scene.times(20_000, 2000), seconds=60.0)
        wait_until(lambda: total(scrape(served.url), "hotrow_log_dropped_total") > 0, "dropped lines", 30.0)
    return clients.records


def _resumes(
    scene: Scene,
    outcome: FaultOutcome,
    served: Served,
    records: RequestRecords,
    give_room: Callable[[], None],
) -> None:
    """Give the disk room again: what waits is written, and what comes then is too."""
    before = served.line_bytes()
    give_room()
    outcome.recovered(wait_until(lambda: served.line_bytes() > before, "the log to be written again", 30.0))
    time.sleep(6 * WAKE_SECONDS)  # the gauge below, and the queue's room, are as of the last flush

    def is_empty() -> bool:
        return not total(scrape(served.url), "hotrow_log_queue_bytes")

    wait_until(is_empty, "an empty queue", 30.0)
    outcome.expect_at_most(
        "the log written again", outcome.recover_seconds or 0.0, RESUMED_SECONDS, "s", timed=True
    )
    # Slowly: as fast as they can, clients would fill the small disk again.
    with Load(served.url, scene.rows, clients=4, pause=0.01) as after:
        after.wait_for(100)
    served.end()
    found = reconcile(after.records, served.logs)
    outcome.expect_none("responses lost once there was room", len(found.lost))
    records.sent += after.records.sent
    records.ok += after.records.ok
    records.failures += after.records.failures
    records.responses |= after.records.responses


def _account(outcome: FaultOutcome, logs: Path, records: RequestRecords, way: str) -> None:
    dropped = _dropped(logs)
    found = outcome.add_logged(records, logs, dropped)
    outcome.figures[f"drops, all counted ({way})"] = f"{dropped:,}"
    outcome.expect(
        f"as many drops counted as lines are missing ({way})",
        dropped == len(found.lost) > 0,
        f"{dropped} counted, {len(found.lost)} missing",
    )
    outcome.expect_none(f"half lines ({way})", found.unreadable)
    checked = subprocess.run(
        python("-m", "monitoring", "verify-log", str(logs)), capture_output=True, text=True, check=False
    )
    said = f"{dropped:,} dropped and counted" in " ".join(checked.stdout.split())
    outcome.expect(f"verify-log tells of it ({way})", said and checked.returncode == 3, checked.returncode)
    outcome.expect_none(f"lines twice ({way})", len(found.duplicates))


def _dropped(logs: Path) -> int:
    return sum(record["dropped"] for record in journal(logs, "closed"))


def broken(scene: Scene, outcome: FaultOutcome) -> None:
    """Writes that strace makes fail with EIO, and syncs that it has take 200 ms."""
    needs_tool("strace")
    _failing_writes(scene, outcome, "async")
    _failing_writes(scene, outcome, "strict")
    _slow_sync(scene, outcome)


def _failing_writes(scene: Scene, outcome: FaultOutcome, mode: str) -> None:
    """Writes to the log fail with EIO. Answers go on (async), or are 503 (strict); none is lost."""
    with scene.serve(log_mode=mode) as served:
        (file,) = served.logs.glob("*.jsonl")
        when = (
            "5+5" if mode == "async" else "100..300"
        )  # an observer that tries again a second later, or none
        inject = ["-P", str(file), "-e", "trace=writev", "-e", f"inject=writev:error=EIO:when={when}"]
        writer = served.pid if mode == "strict" else observer_of(served.pid).pid
        with strace(writer, *inject), Load(served.url, scene.rows, rate=300.0) as clients:
            time.sleep(scene.times(12, 4))
        with Load(served.url, scene.rows) as after:
            after.wait_for(100)
        served.end()
    for records in (clients.records, after.records):
        outcome.add_logged(records, served.logs)
    dropped = _dropped(served.logs)
    outcome.expect_none(f"responses lost ({mode})", outcome.lost)
    outcome.expect_none(f"lines dropped ({mode})", dropped)
    outcome.expect_none("requests failed", outcome.failed)
    outcome.expect_none("requests shed once writes succeed", after.records.shed)
    shed = clients.records.shed
    if mode == "strict":
        outcome.expect("503 for what cannot be logged (strict)", shed > 0, f"{shed} shed")
    else:
        outcome.expect_none("requests shed (async)", shed)


def _slow_sync(scene: Scene, outcome: FaultOutcome) -> None:
    """The same load under strace with and without the delay: what it does to the slowest answers."""
    p99_ms = {}
    for name, inject in {
        "as it is": ["-e", "trace=fdatasync"],
        "slow": ["-e", "trace=fdatasync", "-e", f"inject=fdatasync:delay_enter={SLOW_SYNC_MICROSECONDS}"],
    }.items():
        with (
            scene.serve() as served,
            strace(observer_of(served.pid).pid, *inject),
            Load(served.url, scene.rows, rate=300.0) as clients,
        ):
            time.sleep(scene.times(10, 3))
        outcome.add_logged(clients.records, served.logs)
        p99_ms[name] = clients.records.percentiles_ms()["p99_ms"]
    ratio = p99_ms["slow"] / p99_ms["as it is"]
    outcome.figures["p99 with a sync of 200 ms"] = (
        f"{p99_ms['slow']:.2f} ms, else {p99_ms['as it is']:.2f} ms"
    )
    outcome.expect_at_most("p99 with a slow disk over p99 without", ratio, P99_RATIO, timed=True)
    outcome.expect_none("responses lost with a slow disk", outcome.lost)


@contextmanager
def strace(pid: int, *options: str) -> Iterator[None]:
    """strace on a running process and its threads."""
    process = subprocess.Popen(
        ["strace", "-f", "-o", os.devnull, "-p", str(pid), *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        if "attached" not in process.stderr.readline():
            raise FaultSkipped("strace cannot attach to a process here")
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def counters_elsewhere(scene: Scene, outcome: FaultOutcome) -> None:
    """A full TMPDIR of 64 KB with empty and random *.db files; workers killed."""
    if os.geteuid() == 0:
        with small_disk(scene.new_folder() / "tmp", "64k") as folder:
            _beside_broken_counters(scene, outcome, folder)
    else:
        outcome.figures["a full /tmp"] = "skipped: mounting needs root"
        _beside_broken_counters(scene, outcome, scene.new_folder())
    outcome.expect_none("responses or lines wrong", outcome.wrong)


def _beside_broken_counters(scene: Scene, outcome: FaultOutcome, folder: Path) -> None:
    (folder / "counter_1.db").touch()
    (folder / "histogram_2.db").write_bytes(random.Random(0).randbytes(4096))
    environment = {"TMPDIR": str(folder), "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    kills = scene.times(5, 2)
    with scene.serve(workers=2, environment=environment) as served:
        if os.geteuid() == 0:
            _fill(folder / "filler")
        pages = bad = 0
        with Load(served.url, scene.rows, clients=8, rate=500.0) as clients:
            clients.wait_for(200)
            for _ in range(kills):
                known = set(clients.records.instances)
                os.kill(served.workers()[0], signal.SIGKILL)
                wait_for_instances(served.url, scene.rows[0].request, 1, known)
                for _ in range(10):
                    try:
                        scrape(served.url)
                        pages += 1
                    except LoadTestError:
                        bad += 1
        restarts = total(scrape(served.url), "hotrow_worker_restarts_total")
    outcome.add_logged(clients.records, served.logs)
    outcome.expect(f"/metrics at each of {pages + bad} scrapes", not bad, f"{pages} pages, {bad} bad")
    outcome.expect(
        "no worker dead but by our signal", restarts == kills, f"{restarts:g} deaths, {kills} kills"
    )


def _fill(file: Path) -> None:
    try:
        with file.open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
    except OSError:
        return  # it is full
