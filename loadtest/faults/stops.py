"""Stops and restarts under load, told and untold: F2, F3, F4 and F6."""

import os
import signal
import socket
import subprocess
import time

import psutil

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene, Served
from loadtest.harness.foreign import Foreign, foreign_load
from loadtest.harness.http_bytes import address
from loadtest.harness.instances import wait_until
from loadtest.harness.recording_client import Load
from loadtest.harness.subject import LoadTestError
from server.publish.running_server import RunningServer

#: Clients that are told to close for 1 s, and the closing of the listener.
STOP_SECONDS = 5.0
HALF_SENT = (
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
)


def sigterm(scene: Scene, outcome: FaultOutcome) -> None:
    """20 times SIGTERM under our clients, wrk and hey; 1 and 2 workers."""
    foreign, codes, slowest, strays = Foreign(), set(), 0.0, 0
    for round_ in range(scene.times(20, 2)):
        workers = 1 + round_ % 2
        with scene.serve(workers=workers) as served:
            before = foreign.answered
            with (
                foreign_load(served.url, scene.rows, 4, served.logs.parent, foreign),
                Load(served.url, scene.rows, clients=16) as clients,
            ):
                clients.wait_for(500 + 37 * (round_ % 7))
                time.sleep(0.3)  # the other clients start as processes
                began = time.monotonic()
                codes.add(served.end())
                slowest = max(slowest, time.monotonic() - began)
        found = outcome.add_logged(clients.records, served.logs)
        strays += abs(found.others - served.probes - (foreign.answered - before))
    _nothing_lost(outcome)
    _report(foreign, outcome, ends=True)
    outcome.expect("a log with as many lines as all clients had answers", not strays, f"{strays} off")
    outcome.expect("exit code 0", codes == {0}, codes)
    outcome.expect_at_most("the slowest stop", slowest, STOP_SECONDS, "s", timed=True)


def sighup(scene: Scene, outcome: FaultOutcome) -> None:
    """20 times SIGHUP under our clients, wrk and hey; 2 workers."""
    times = scene.times(20, 1)
    foreign, seconds = Foreign(), times * 4
    with scene.serve(workers=2) as served:
        server = RunningServer(served.pid, served.url)
        with (
            foreign_load(served.url, scene.rows, seconds, served.logs.parent, foreign),
            Load(served.url, scene.rows, clients=16) as clients,
        ):
            for _ in range(times):
                clients.wait_for(clients.records.ok + 100)
                server.reload()
                clients.wait_for(clients.records.ok + 1000)
        outcome.expect("exit code 0", served.end() == 0)
    outcome.add_logged(clients.records, served.logs)
    _nothing_lost(outcome)
    outcome.expect_none("requests shed", outcome.shed)
    _report(foreign, outcome, ends=False)
    instances = len(clients.records.instances)
    outcome.expect("responses of successors", instances > 2, f"{instances} instances")


def half_sent(scene: Scene, outcome: FaultOutcome) -> None:
    """100 requests without their end, then SIGTERM."""
    limit = 2.0
    for workers in (1, 2):
        with scene.serve(workers=workers, drain_seconds=f"{limit:g}") as served:
            halves = [socket.create_connection(address(served.url)) for _ in range(100)]
            for half in halves:
                half.sendall(HALF_SENT)
            with Load(served.url, scene.rows, clients=8) as clients:
                clients.wait_for(200)
                began = time.monotonic()
                code = served.end()
                seconds = time.monotonic() - began
            for half in halves:
                half.close()
        outcome.add_logged(clients.records, served.logs)
        outcome.expect(f"exit code 0 with {workers} workers", code == 0, code)
        outcome.expect_at_most(
            f"the stop of {workers} workers (limit {limit:g} s)", seconds, limit + 2.0, "s", timed=True
        )
    _nothing_lost(outcome)


def supervisor_killed(scene: Scene, outcome: FaultOutcome) -> None:
    """SIGKILL to the parent of the workers."""
    with scene.serve(workers=2) as served:
        workers = served.workers()
        with Load(served.url, scene.rows, clients=8) as clients:
            clients.wait_for(200)
            killed = time.monotonic()
            os.kill(served.pid, signal.SIGKILL)
            served.subject.process.wait()
            gone = wait_until(lambda: not any(map(_runs, workers)), "the workers to end", 30.0)
        outcome.add_logged(clients.records, served.logs)
        outcome.expect_at_most("workers gone", gone, 2.0, "s", timed=True)
        outcome.expect("a restart that binds at once", _restarts(scene, served), timed=False)
        outcome.recovered(time.monotonic() - killed)
    outcome.expect_exact_log()


def _restarts(scene: Scene, served: Served) -> bool:
    port = served.url.rpartition(":")[2]
    try:
        with scene.serve(workers=2, port=port):
            return True
    except (LoadTestError, subprocess.SubprocessError):
        return False


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _nothing_lost(outcome: FaultOutcome) -> None:
    outcome.expect_none("requests failed", outcome.failed)
    outcome.expect_exact_log()


def _report(foreign: Foreign, outcome: FaultOutcome, *, ends: bool) -> None:
    """Note what they say; of a server that ends, connections are refused at last."""
    tools = [tool for tool in ("wrk", "hey") if tool not in foreign.missing]
    for tool in foreign.missing:
        outcome.figures[tool] = "not installed"
    if tools:
        outcome.figures[" and ".join(tools)] = f"{foreign.answered:,} answers"
        outcome.expect_none(f"failures seen by {' and '.join(tools)}", foreign.failed)
        if not ends:
            outcome.expect_none("connections refused", foreign.refused)
