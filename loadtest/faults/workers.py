"""Worker processes that are killed, stopped, or die at every start: F1, F5 and F7."""

import os
import random
import signal
import statistics
import threading
import time
from contextlib import suppress

import psutil

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene, Served
from loadtest.harness.instances import wait_for_instances, wait_until
from loadtest.harness.recording_client import Load
from loadtest.harness.request_records import Failure, RequestRecords, reconcile
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import LoadTestError

CLIENTS = 16
READY_SECONDS = 5.0
HUNG_SECONDS = 10.0
MAX_STARTS = 8
CRASH_LOOP_SECONDS = 60.0


class Scraper(threading.Thread):
    """Reads `/metrics` five times a second; a scrape that the kill itself cuts off is no bad page."""

    def __init__(self, url: str) -> None:
        super().__init__(name="scraper", daemon=True)
        self._url = url
        self._stopping = threading.Event()
        self.pages = self.cut = self.fallen = 0
        self._restarts = 0.0

    def run(self) -> None:
        """Scrape until stopped."""
        while not self._stopping.wait(0.2):
            try:
                samples = scrape(self._url)
            except LoadTestError:
                self.cut += 1
                continue
            self.pages += 1
            restarts = total(samples, "hotrow_worker_restarts_total")
            self.fallen += restarts < self._restarts
            self._restarts = restarts

    def stop(self) -> None:
        """Scrape no more."""
        self._stopping.set()
        self.join()


def killed(scene: Scene, outcome: FaultOutcome) -> None:
    """F1: kill a worker every three seconds; who was not connected to it notices nothing."""
    for mode in ("async", "strict"):
        _kills(scene, outcome, mode, scene.times(10, 2))


def _kills(scene: Scene, outcome: FaultOutcome, mode: str, times: int) -> None:
    choose, counts, strangers, excess = random.Random(1), [], 0, 0
    with scene.serve("--workers", "2", log_mode=mode) as served:
        wait_for_instances(served.url, scene.rows[0].request, 2)
        scraper = Scraper(served.url)
        scraper.start()
        with Load(served.url, scene.rows, clients=CLIENTS, rate=2000.0) as clients:
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
        scraper.stop()
        restarts = total(scrape(served.url), "hotrow_worker_restarts_total")
    found = reconcile(clients.records, served.logs)
    outcome.add(clients.records, found)
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
        scraper.pages > 0 and scraper.cut <= times and not scraper.fallen,
        f"{scraper.pages} pages, {scraper.cut} cut off by a kill, {scraper.fallen} with a fallen counter",
    )


def stopped(scene: Scene, outcome: FaultOutcome) -> None:
    """F5: a worker that stands still is replaced; the others' clients notice nothing."""
    with scene.serve("--workers", "2") as served:
        wait_for_instances(served.url, scene.rows[0].request, 2)
        with Load(served.url, scene.rows, clients=CLIENTS, pause=0.005, timeout=30.0) as clients:
            clients.wait_for(1000)
            victim = served.workers()[0]
            instances, connections = served.instances_of(victim), connections_of(victim)
            moment = time.monotonic()
            os.kill(victim, signal.SIGSTOP)
            seconds = wait_until(lambda: victim not in served.workers(), "the hung worker to be ended", 60.0)
            wait_until(lambda: len(served.workers()) == 2, "a successor", 30.0)
            wait_for_instances(served.url, scene.rows[0].request, 1, set(clients.records.instances))
            outcome.recovered(time.monotonic() - moment)
    found = reconcile(clients.records, served.logs)
    outcome.add(clients.records, found)
    outcome.expect_at_most("the hung worker ended", seconds, HUNG_SECONDS, "s", timed=True)
    outcome.expect_none(
        "requests failed that another worker had", len(_of_others(clients.records.failures, instances))
    )
    outcome.expect_at_most("requests failed", len(clients.records.failures), connections)
    outcome.expect_none("responses lost", len(found.lost))
    outcome.expect_none("responses or lines wrong", outcome.wrong)


def crash_loop(scene: Scene, outcome: FaultOutcome) -> None:
    """F7: every worker dies 0.2 s after its start: the server gives up instead of burning a processor."""
    starts: dict[int, float] = {}
    with scene.serve("--workers", "2") as served:
        wait_for_instances(served.url, scene.rows[0].request, 2)
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
