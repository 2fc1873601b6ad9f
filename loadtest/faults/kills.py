"""Whoever is killed, every response has its line, once: workers, what writes the log, both at once (F30)."""

import os
import signal
import time
from functools import partial

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene, Served
from loadtest.harness.instances import wait_until
from loadtest.harness.recording_client import Load
from loadtest.harness.request_records import reconcile
from loadtest.harness.subject import has_ended, observer_of, workers_of

#: Of what is killed at once with the memory that records lie in, answers so old have their line.
LAST_SECONDS = 0.1
#: While a successor waits for its start, up to 8 s, the queue of 16 MiB must hold what is answered.
PAUSE_SECONDS = 0.004
#: A writer that is killed again and again is started ever later, on a fresh server at once.
KILLS_EACH = 5
WORKER, OBSERVER, BOTH = "a worker", "the observer", "both at once"


def kills(scene: Scene, outcome: FaultOutcome) -> None:
    """50 times each a worker, the observer, and both at once, under load, with 1 and with 2 workers."""
    ways = {
        "2 workers, a worker": partial(_of_a_server, workers=2, what=WORKER),
        "2 workers, the observer": partial(_of_a_server, workers=2, what=OBSERVER),
        "2 workers, both at once": partial(_of_a_server, workers=2, what=BOTH),
        "1 worker, the observer": partial(_of_a_server, workers=1, what=OBSERVER),
        "1 worker, a worker": partial(_of_the_only_process, what=WORKER),
        "1 worker, both at once": partial(_of_the_only_process, what=BOTH),
    }
    for name, way in scene.chosen(ways).items():
        way(scene, outcome, name)
    outcome.expect_none("responses or lines wrong", outcome.wrong)
    outcome.expect_none("lines twice", outcome.duplicate)


def _of_a_server(scene: Scene, outcome: FaultOutcome, name: str, *, workers: int, what: str) -> None:
    """Who started them keeps the memory, and starts them again: nothing is lost, whatever is killed."""
    lost, each = 0, scene.times(KILLS_EACH, 2)
    for _ in range(scene.times(50, 2) // each):
        with scene.serve(workers=workers) as served:
            with Load(served.url, scene.rows, clients=4, pause=PAUSE_SECONDS) as clients:
                for turn in range(each):
                    wait_until(lambda: len(served.workers()) == workers, "all workers", 60.0)
                    _kill(served, what, turn)
                    clients.wait_for(clients.records.ok + 200, 60.0)
            served.end()
        found = outcome.add_logged(clients.records, served.logs)
        lost += len(found.lost)
    _hold(outcome, name, lost)


def _of_the_only_process(scene: Scene, outcome: FaultOutcome, name: str, *, what: str) -> None:
    """The server is that worker: it ends, and what writes the log goes on, if it is let."""
    lost, late = 0, 0
    for _ in range(scene.times(50, 1)):
        with scene.serve() as served, Load(served.url, scene.rows, clients=4) as clients:
            clients.wait_for(300, 60.0)
            observer = observer_of(served.pid)
            if what == BOTH:
                # What is answered before it has begun waits for it, however long that takes.
                wait_until(lambda: served.line_bytes() > 0, "the first lines", 60.0)
                clients.wait_for(clients.records.ok + 300, 60.0)
                observer.suspend()  # so that neither outlives the other by a moment
                killed = time.monotonic()
                os.kill(served.pid, signal.SIGKILL)
                observer.kill()
            else:
                killed = time.monotonic()
                os.kill(served.pid, signal.SIGKILL)
            served.subject.process.wait(30)
            clients.stop()
            wait_until(lambda: has_ended(observer.pid), "the last lines", 60.0)  # noqa: B023
        found = reconcile(clients.records, served.logs)
        outcome.add(clients.records)
        outcome.duplicate += len(found.duplicates)
        outcome.wrong += len(found.wrong)
        lost += len(found.lost)
        responses = clients.records.responses
        late += sum(responses[identifier].when < killed - LAST_SECONDS for identifier in found.lost)
    if what == BOTH:
        outcome.figures[f"lost, {name}"] = f"{lost:,}"
        outcome.expect(f"lines of all responses but of the last 0.1 s ({name})", not late, late, timed=True)
    else:
        outcome.lost += lost
        _hold(outcome, name, lost)


def _kill(served: Served, what: str, turn: int) -> None:
    observer, workers = observer_of(served.pid), workers_of(served.pid)
    victims = {
        WORKER: [workers[turn % len(workers)]] if workers else [],
        OBSERVER: [observer],
        BOTH: [*workers[turn % 2 : turn % 2 + 1], observer],
    }[what]
    for victim in victims:
        victim.kill()
    gone = {victim.pid for victim in victims}
    wait_until(
        lambda: (
            observer_of(served.pid).pid not in gone
            and not gone & {worker.pid for worker in workers_of(served.pid)}
        ),
        "successors",
        60.0,
    )
    # One that is killed before it has begun, again and again, writes nothing until the queue is full.
    written = served.line_bytes()
    wait_until(lambda: served.line_bytes() > written, "lines of the successor", 60.0)


def _hold(outcome: FaultOutcome, name: str, lost: int) -> None:
    outcome.figures[f"lost, {name}"] = str(lost)
    outcome.expect_none(f"responses without a line ({name})", lost)
