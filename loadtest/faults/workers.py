"""Worker processes that are killed, stopped, or die at every start: F1, F5 and F7."""

import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene, Served
from loadtest.harness.instances import wait_for_instances, wait_until
from loadtest.harness.meanwhile import meanwhile
from loadtest.harness.recording_client import Load
from loadtest.harness.request_records import Failure, RequestRecords
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import LoadTestError

CLIENTS = 16
READY_SECONDS = 5.0
HUNG_SECONDS = 10.0
MAX_STARTS = 8
CRASH_LOOP_SECONDS = 60.0


@dataclass
class Scrapes:
    """Pages of `/metrics`, those that a kill itself cut off, and those with a counter that has fallen."""

    pages: int = 0
    cut: int = 0
    fallen: int = 0
    restarts: float = 0.0


@contextmanager
def _scraping(url: str) -> Iterator[Scrapes]:
    """Read `/metrics` five times a second while the block runs."""
    found = Scrapes()

    def scrape_on(ended: threading.Event) -> None:
        while not ended.wait(0.2):
            try:
                samples = scrape(url)
            except LoadTestError:
                found.cut += 1
                continue
            found.pages += 1
            restarts = total(samples, "hotrow_worker_restarts_total")
            found.fallen += restarts < found.restarts
            found.restarts = restarts

    with meanwhile(scrape_on):
        yield found


def killed(scene: Scene, outcome: FaultOutcome) -> None:
    """SIGKILL to one of 2 workers every 3 s, 10 times, the log async and strict."""
    for mode in ("async", "strict"):
        _kills(scene, outcome, mode, scene.times(10, 2))


def _kills(scene: Scene, outcome: FaultOutcome, mode: str, times: int) -> None:
    choose, counts, strangers, excess = random.Random(1), [], 0, 0
    with scene.serve(workers=2, log_mode=mode) as served:
        with (
            _scraping(served.url) as scrapes,
            Load(served.url, scene.rows, clients=CLIENTS, rate=2000.0) as clients,
        ):
            clients.wait_for(1000)
            for _ in range(times):
                victim = choose.choice(served.workers())
                instances, connections = served.instances_of(victim), connections_of(victim)
                known = set(clients.records.instances)
                begun = len(clients.records.failures)
                moment = time.monotonic()
                os.kill(victim, signal.SIGKILL)
                outcome.recovered(_seconds_until_replaced(scene, served, clients.records, known, moment))
                time.sleep(max(0.0, moment + 3.0 - time.monotonic()))
                failures = clients.records.failures[begun:]
                counts.append(len(failures))
                strangers += len(_of_others(failures, instances))
                excess += max(0, len(failures) - connections)
        restarts = total(scrape(served.url), "hotrow_worker_restarts_total")
    found = outcome.add_logged(clients.records, served.logs)
    outcome.figures[f"failed a kill, {mode}"] = f"median {statistics.median(counts):g}, most {max(counts)}"
    outcome.figures[f"lost, {mode}"] = str(len(found.lost))
    outcome.expect_none(f"requests failed that another worker had ({mode})", strangers)
    outcome.expect_none(f"requests failed beyond the victim's connections ({mode})", excess)
    outcome.expect_none(f"responses or lines wrong ({mode})", outcome.wrong)
    outcome.expect_none(f"torn lines left ({mode})", found.unreadable)
    outcome.expect_none(f"lines twice ({mode})", len(found.duplicates))
    outcome.expect_none(f"responses lost ({mode})", len(found.lost))
    outcome.expect_at_most("ready again", outcome.recover_seconds or 0.0, READY_SECONDS, "s", timed=True)
    outcome.expect(f"{times} restarts counted", restarts == times, f"{restarts:g}")
    outcome.expect(
        f"/metrics at every scrape ({mode})",
        scrapes.pages > 0 and scrapes.cut <= times and not scrapes.fallen,
        f"{scrapes.pages} pages, {scrapes.cut} cut off by a kill, {scrapes.fallen} with a fallen counter",
    )


def stopped(scene: Scene, outcome: FaultOutcome) -> None:
    """SIGSTOP to one of 2 workers."""
    with (
        scene.serve(workers=2) as served,
        Load(served.url, scene.rows, clients=CLIENTS, pause=0.005, timeout=30.0) as clients,
    ):
        clients.wait_for(1000)
        victim = served.workers()[0]
        instances, connections = served.instances_of(victim), connections_of(victim)
        moment = time.monotonic()
        os.kill(victim, signal.SIGSTOP)
        seconds = wait_until(lambda: victim not in served.workers(), "the hung worker to be ended", 60.0)
        wait_until(lambda: len(served.workers()) == 2, "a successor", 30.0)
        wait_for_instances(served.url, scene.rows[0].request, 1, set(clients.records.instances))
        outcome.recovered(time.monotonic() - moment)
    outcome.add_logged(clients.records, served.logs)
    outcome.expect_at_most("the hung worker ended", seconds, HUNG_SECONDS, "s", timed=True)
    outcome.expect_none(
        "requests failed that another worker had", len(_of_others(clients.records.failures, instances))
    )
    outcome.expect_at_most("requests failed", len(clients.records.failures), connections)
    outcome.expect_exact_log()


def crash_loop(scene: Scene, outcome: FaultOutcome) -> None:
    """SIGKILL to each worker 0.2 s after its start."""
    starts: dict[int, float] = {}
    with scene.serve(workers=2) as served:
        began = time.monotonic()
        while served.subject.process.poll() is None and time.monotonic() - began < CRASH_LOOP_SECONDS:
            with suppress(psutil.NoSuchProcess):
                for worker in served.workers():
                    starts.setdefault(worker, time.monotonic())
            for worker, started in starts.items():
                if worker != served.pid and time.monotonic() - started > 0.2:
                    with suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
            time.sleep(0.02)
        code = served.subject.process.poll()
    outcome.expect_at_most("starts in 60 s, after the first two", len(starts) - 2, MAX_STARTS)
    outcome.expect("an end with an exit code that is not 0", code not in (None, 0), code)


def connections_of(pid: int) -> int:
    """The established connections of one process."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return 0
    return sum(connection.status == psutil.CONN_ESTABLISHED for connection in connections)


def _seconds_until_replaced(
    scene: Scene, served: Served, records: RequestRecords, known: set[str], moment: float
) -> float:
    """From the kill to the first response of a worker that was not there, to our clients or a probe."""
    wait_for_instances(served.url, scene.rows[0].request, 1, known)
    fresh = [when for instance, when in records.instances.items() if instance not in known]
    return min([time.monotonic(), *fresh]) - moment


def _of_others(failures: list[Failure], instances: set[str]) -> list[Failure]:
    """Those over a connection that another worker had answered. Over a new one nobody had yet."""
    return [failure for failure in failures if failure.instance and failure.instance not in instances]
