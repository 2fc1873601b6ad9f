"""What others see of who sends slowly, asks too often or stands still (F31), and of the page (F24)."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import orjson

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene, Served, needs_tool
from loadtest.harness.bodies import paced, wrk_script
from loadtest.harness.closed_loop import read_latencies, read_wrk, wrk
from loadtest.harness.http_bytes import address, exchange, get, post
from loadtest.harness.meanwhile import meanwhile
from loadtest.harness.recording_client import Load
from loadtest.harness.subject import LoadTestError, Subject, free_port, observer_of, python, running
from loadtest.harness.target import keep_to, load_core, server_core

#: What is promised beside each.
ANSWERED_SHARE, P99_FACTOR = 0.99, 2.0
#: A thousand connections that come or go are work of some tens of milliseconds.
SETTLED_SECONDS = 0.5
#: And beside the page, which is a process of its own.
PAGE_FACTOR = 1.05
#: Clients that are not in step: one in a closed loop would be as fast as the server is.
CLIENTS, PAUSE_MS = 8, 10
#: Alone and beside in turn; with all there is to it a part takes some 30 s.
ROUNDS = 3
#: Pages of `/metrics` beyond a burst are one a second.
PAGES = 22
#: What a request that never becomes whole begins with.
_HEAD = post("/predict/batch", b" " * 2**20)[: -(2**20)] + b"{"


def beside(scene: Scene, outcome: FaultOutcome) -> None:
    """208 and 1,000 slow senders, 28 kB/s of digits, 8 clients on /metrics, a stopped writer of the log."""
    needs_tool("wrk")
    with scene.serve(core=server_core(1)) as served, keep_to(load_core(1)):
        script = served.logs.parent / "post.lua"
        wrk_script([row.request.partition(b"\r\n\r\n")[2] for row in scene.rows[:500]], script)
        paced(script, PAUSE_MS)
        for name, disturbance in scene.chosen(_disturbances(served)).items():
            _judge(scene, outcome, served, script, name, disturbance)


def _disturbances(served: Served) -> Mapping[str, Callable[[], AbstractContextManager[None]]]:
    return {
        "208 senders of 2.5 kB/s together": lambda: _slow_senders(served.url, 208, 12),
        "1,000 senders of 28 kB/s together": lambda: _slow_senders(served.url, 1000, 28),
        "28 kB/s of digits of one number": lambda: _repeated(served.url, _digits(28_000)),
        "8 clients on /metrics": lambda: _flood(served.url + "/metrics", 8),
        "the writer of the log, stopped": lambda: _stopped(served.pid),
    }


def _judge(
    scene: Scene,
    outcome: FaultOutcome,
    served: Served,
    script: Path,
    name: str,
    disturbance: Callable[[], AbstractContextManager[None]],
) -> None:
    """Rounds alone and beside in turn, so that what else the machine does hits both."""
    alone, disturbed = [], []
    for _ in range(scene.times(ROUNDS, 1)):
        time.sleep(SETTLED_SECONDS)
        alone.append(_p99_ms(outcome, served, script, scene.times(3, 1)))
        with disturbance():
            time.sleep(SETTLED_SECONDS)
            disturbed.append(_p99_ms(outcome, served, script, scene.times(3, 1)))
    with disturbance():
        shares = {
            route: _answered(served, request, scene.times(PAGES if route == "/metrics" else 200, 20))
            for route, request in _routes(scene).items()
        }
    outcome.expect_at_least(f"answers of every route beside {name}", min(shares.values()), ANSWERED_SHARE)
    before_ms, beside_ms = float(np.median(alone)), float(np.median(disturbed))
    outcome.figures[f"p99 beside {name}"] = f"{beside_ms:.2f} ms, alone {before_ms:.2f} ms"
    outcome.expect_at_most(
        f"p99 of /predict beside {name} over p99 alone", beside_ms / before_ms, P99_FACTOR, timed=True
    )


def _answered(served: Served, request: bytes, count: int) -> float:
    """The share of so many responses with status 200."""
    responses = exchange(served.url, *[request] * count)
    return sum(response.status == 200 for response in responses) / count


def _p99_ms(outcome: FaultOutcome, served: Served, script: Path, seconds: int) -> float:
    """Of clients that pause between two requests."""
    command = [*wrk(served.url + "/predict", seconds, CLIENTS, script), "--latency"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    done = read_wrk(output)
    if done is None:
        raise LoadTestError(f"expected responses of {served.url}, got none")
    failed = done.not_200 + done.connect + done.read + done.write + done.timeout
    outcome.sent += done.requests
    outcome.ok += done.requests - failed
    if failed:
        outcome.failed["other than 200"] += failed
    return read_latencies(output)[99] / 1e3


def _routes(scene: Scene) -> Mapping[str, bytes]:
    row = scene.rows[0].fields
    required = [feature.name for feature in scene.bundle.schema.features if not feature.nullable]
    tensors = [
        {"name": name, "datatype": "FP64", "shape": [1], "data": [float(row[name])]} for name in required
    ]
    return {
        "/predict": scene.rows[0].request,
        "/predict with a deadline": post("/predict", orjson.dumps(row), "X-Request-Timeout-Ms: 10000"),
        "/predict/batch": post("/predict/batch", orjson.dumps({"rows": [row]})),
        "/v2": post(f"/v2/models/{scene.bundle.name}/infer", orjson.dumps({"inputs": tensors})),
        "/explain": post("/explain", orjson.dumps(row)),
        "/model": get("/model"),
        "/readyz": get("/readyz"),
        "/metrics": get("/metrics"),
    }


@contextmanager
def _slow_senders(url: str, count: int, bytes_per_second: int) -> Iterator[None]:
    """So many connections, each with a body that comes ever so slowly; one that is closed comes again."""
    connections = [_begin(url) for _ in range(count)]
    piece = b" " * bytes_per_second

    def send(turn: int) -> None:
        i = turn % count
        try:
            connections[i].sendall(piece)
        except OSError:
            connections[i].close()
            connections[i] = _begin(url)

    with contextlib.ExitStack() as stack:
        stack.callback(_close, connections)
        stack.enter_context(_at_a_rate(send, count))  # each once a second, no two at the same time
        yield


def _digits(size: int) -> bytes:
    """A cell that no expression may look at more than once."""
    return post("/predict/batch", b"AMT_CREDIT\n" + b"1" * size + b"x\n", content_type="text/csv")


def _repeated(url: str, request: bytes) -> AbstractContextManager[None]:
    """One request a second."""
    return _at_a_rate(lambda _: exchange(url, request), 1)


def _at_a_rate(act: Callable[[int], object], per_second: float) -> AbstractContextManager[None]:
    """Act in a thread that nobody else waits for, with 0, 1, 2, … in turn."""

    def work(stopping: threading.Event) -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        due = time.monotonic()
        for turn in itertools.count():
            act(turn)
            due += 1.0 / per_second
            if stopping.wait(max(0.0, due - time.monotonic())):
                return

    return meanwhile(work)


def _close(connections: Iterable[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def _begin(url: str) -> socket.socket:
    connection = socket.create_connection(address(url), 10.0)
    connection.sendall(_HEAD)
    return connection


@contextmanager
def _flood(url: str, clients: int) -> Iterator[None]:
    """As many requests as the server answers, of a process that who measures never waits for."""
    command = ["chrt", "--idle", "0", *wrk(url, 3600, clients)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as flooding:
        try:
            yield
        finally:
            flooding.terminate()


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    observer = observer_of(pid)
    observer.suspend()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            observer.resume()


def page(scene: Scene, outcome: FaultOutcome) -> None:
    """The page, beside the API, flooded, hung, killed."""
    needs_tool("wrk")
    port, folder = free_port(), scene.new_folder()
    seconds = scene.times(8, 2)
    with (
        scene.serve() as served,
        running(
            "the page",
            python("-m", "ui", "--model", str(scene.bundle.directory), "--port", str(port)),
            f"http://127.0.0.1:{port}",
            "/readyz",
            environment={"HOTROW_LOG_DIR": str(folder / "logs")},
            log=folder / "page.log",
        ) as beside,
    ):
        p99_ms = {}
        with Load(served.url, scene.rows, rate=300.0) as clients:
            for name, harm in _harms(beside, seconds).items():
                began = time.monotonic()
                harm()
                time.sleep(max(0.0, began + seconds - time.monotonic()))
                p99_ms[name] = clients.records.percentiles_ms(began)["p99_ms"]
    outcome.add_logged(clients.records, served.logs)
    outcome.expect_none("requests failed", outcome.failed)
    outcome.expect_exact_log()
    outcome.figures["p99"] = ", ".join(f"{name} {value:.2f} ms" for name, value in p99_ms.items())
    for name in ("hung", "killed"):
        ratio = p99_ms[name] / p99_ms["left alone"]
        outcome.expect_at_most(f"p99 with the page {name} over p99 beside it", ratio, PAGE_FACTOR, timed=True)


def _harms(beside: Subject, seconds: int) -> dict[str, Callable[[], object]]:
    flood = wrk(beside.url + "/", seconds, 64)
    return {
        "left alone": lambda: None,
        "flooded": lambda: subprocess.run(flood, capture_output=True, check=True),
        "hung": lambda: os.kill(beside.pid, signal.SIGSTOP),
        "killed": lambda: os.kill(beside.pid, signal.SIGKILL),
    }
