"""Clients that are slow, idle, too many, or gone: F15, F16, F17 and F22."""

import contextlib
import re
import resource
import socket
import struct
import subprocess
import time

import orjson

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import FaultSkipped, Scene, Served, needs_tool
from loadtest.harness.http_bytes import address, first_status, get, post
from loadtest.harness.instances import wait_until
from loadtest.harness.recording_client import Load, Manners
from loadtest.harness.request_records import RequestRecords
from loadtest.harness.subject import python

#: What one look at a process' memory differs from the next by, and buffers that stay.
BACK_TO_BASE_MB = 20.0
#: What the server may take to give memory back once a crowd has gone.
SETTLED_SECONDS = 5.0
MAX_IDLE_RSS_MB = 600.0
P99_RATIO = 1.2
#: Descriptors that are not connections: of the log, the event loop, the listener.
LIMITED_FILES = 64
_ESTABLISHED = 1  # linux/tcp_states.h


def slow(scene: Scene, outcome: FaultOutcome) -> None:
    """1,000 connections of slow headers, bodies and reading by slowhttptest; 50 readers of nothing."""
    tool = needs_tool("slowhttptest")
    body = orjson.dumps({"rows": [dict(row.fields) for row in scene.rows[:1000]]})
    with scene.serve(workers=2) as served:
        with Load(served.url, scene.rows, rate=300.0) as before:
            time.sleep(scene.times(5, 1))
        outcome.add(before.records)
        p99_ms = before.records.percentiles_ms()["p99_ms"]
        for kind, options in _slow_kinds(scene).items():
            command = [*tool.split(), *options, "-u", served.url + _PATHS[kind]]
            with Load(served.url, scene.rows, rate=300.0) as clients:
                done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            _judge_slow(outcome, kind, done.stdout, clients.records, p99_ms)
        with (
            Load(served.url, scene.rows, rate=300.0) as clients,
            contextlib.ExitStack() as slow_ones,
        ):
            readers = [slow_ones.enter_context(_slow_reader(served, body)) for _ in range(50)]
            time.sleep(scene.times(15, 2))
            left = sum(map(_is_connected, readers))
        outcome.add(clients.records)
        outcome.expect_none("requests failed beside 50 slow readers", clients.records.failed)
        outcome.figures["slow readers"] = f"{len(readers)}, of which {left} still connected after 15 s"
        _serves_again(scene, outcome, served)


_PATHS = {"slow headers": "/v2/health/live", "slow bodies": "/predict", "slow reading": "/model"}


def _slow_kinds(scene: Scene) -> dict[str, list[str]]:
    count, seconds = scene.times(1000, 200), str(scene.times(20, 5))
    rate = str(count // 5)
    common = ["-l", seconds, "-p", "3", "-r", rate]
    json = ["-t", "POST", "-f", "application/json"]
    return {
        "slow headers": ["-H", "-c", str(count), *common, "-i", "2", "-x", "24", "-t", "GET"],
        "slow bodies": [
            "-B", "-c", str(count), *common, "-i", "2", "-x", "10", "-s", "8192", *json,
        ],
        "slow reading": [
            "-X", "-c", str(count), *common, "-w", "1", "-y", "64", "-n", "2", "-z", "8", "-k", "3",
        ],
    }  # fmt: skip


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def _judge_slow(
    outcome: FaultOutcome, kind: str, output: str, records: RequestRecords, before_ms: float
) -> None:
    outcome.add(records)
    seen = re.findall(r"service available:\s*(\w+)", _COLOURS.sub("", output))
    outcome.expect(
        f"service available throughout, says slowhttptest ({kind})", set(seen) == {"YES"}, set(seen)
    )
    outcome.expect_none(f"requests failed beside {kind}", records.failed)
    p99_ms = records.percentiles_ms()["p99_ms"]
    outcome.figures[f"p99 beside {kind}"] = f"{p99_ms:.2f} ms, before {before_ms:.2f} ms"
    outcome.expect_at_most(f"p99 beside {kind} over p99 before", p99_ms / before_ms, P99_RATIO, timed=True)


def _slow_reader(served: Served, body: bytes) -> socket.socket:
    """A client that asks for much, and reads nothing of it."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    reader.connect(address(served.url))
    reader.settimeout(1.0)
    with contextlib.suppress(TimeoutError, ConnectionError):
        reader.sendall(post("/predict/batch", body) * 3)
    return reader


def _is_connected(connection: socket.socket) -> bool:
    """Whether the kernel still has the connection (tcp(7), TCP_INFO: the first byte is its state)."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED


def idle(scene: Scene, outcome: FaultOutcome) -> None:
    """Each answered once, then idle, 1 % active; then all reset at once."""
    count = scene.times(10_000, 1000)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < count + 500:
        raise FaultSkipped(f"{count} connections need `ulimit -n {count + 500}`")
    with scene.serve(workers=2) as served:
        _warm_up(scene, outcome, served, clients=64)
        base_mb, base_files = served.rss_mb(), served.files()
        with Load(served.url, scene.rows, clients=count // 100, rate=300.0) as clients:
            connections, answered = keep(served.url, scene.rows[0].request, count)
            time.sleep(scene.times(10, 1))
            held_mb, held = served.rss_mb(), served.files() - base_files
            reset(connections)
            files = wait_until(
                lambda: served.files() < base_files + count // 50, "the connections to end", 30.0
            )
        outcome.add(clients.records)
        _serves_again(scene, outcome, served)
        time.sleep(SETTLED_SECONDS)
        after_mb = served.rss_mb()
    outcome.figures["held"] = (
        f"{held:,} connections with {held_mb - base_mb:+.1f} MB ({base_mb:.1f} MB before)"
    )
    outcome.expect_at_least("connections held", held, count)
    outcome.expect(f"{count:,} connections answered once each", answered == count, f"{answered:,}")
    outcome.expect_none("active requests failed", outcome.failed)
    outcome.expect_at_most("memory with them", held_mb, MAX_IDLE_RSS_MB, "MB")
    outcome.expect_at_most("memory kept afterwards", after_mb - base_mb, BACK_TO_BASE_MB, "MB")
    outcome.expect_at_most("all ended", files, 10.0, "s", timed=True)


def keep(url: str, request: bytes, count: int) -> tuple[list[socket.socket], int]:
    """So many connections, each answered once and then left alone; and how many were."""
    connections: list[socket.socket] = []
    answered = 0
    for _ in range(0, count, 200):
        batch = []
        for _ in range(min(200, count - len(connections))):
            connection = socket.create_connection(address(url), 10.0)
            connection.sendall(request)
            batch.append(connection)
        for connection in batch:
            answered += connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connections += batch
    return connections, answered


def reset(connections: list[socket.socket]) -> None:
    """End connections by RST instead of FIN, as a balancer that fails does."""
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def files_exhausted(scene: Scene, outcome: FaultOutcome) -> None:
    """200 connections to a server with 64."""
    with scene.serve(command=["prlimit", f"--nofile={LIMITED_FILES}", *python("-m", "server")]) as served:
        with Load(served.url, scene.rows, clients=4, rate=100.0) as clients:
            clients.wait_for(100)
            crowd = [_connect_at_once(served) for _ in range(200)]
            time.sleep(1.0)  # until what can be accepted is
            before, sent = served.cpu_seconds(), clients.records.sent
            time.sleep(2.0)
            cpu, sent = served.cpu_seconds() - before, clients.records.sent - sent
            held = served.files()
            for connection in crowd:
                connection.close()
            request = scene.rows[0].request
            seconds = wait_until(
                lambda: first_status(served.url, request) == 200, "new connections to be served", 30.0
            )
        outcome.add(clients.records)
        outcome.recovered(seconds)
    outcome.figures["open files"] = f"{held} of {LIMITED_FILES}"
    outcome.expect_none("requests of connected clients failed", outcome.failed)
    outcome.expect("requests answered meanwhile", sent > 100, sent)
    outcome.expect_at_most("CPU in 2 s", cpu, 0.5, "s", timed=True)
    outcome.expect_at_most("new connections served", seconds, 2.0, "s", timed=True)


def _connect_at_once(served: Served) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(address(served.url))
    return connection


def disconnects(scene: Scene, outcome: FaultOutcome) -> None:
    """10,000 amid a request, by FIN and RST; 1,000 before its response."""
    count = scene.times(10_000, 500)
    with scene.serve(workers=2) as served:
        warm = _warm_up(scene, outcome, served, clients=32)
        base_mb, base_files = served.rss_mb(), served.files()
        leaving = Manners(leave=1.0)
        with (
            Load(served.url, scene.rows, rate=300.0) as clients,
            Load(served.url, scene.rows, clients=32, manners=leaving) as leavers,
        ):
            wait_until(lambda: leavers.records.left >= count, f"{count} disconnects", 60.0)
            after = _leave_before_the_response(served, scene, scene.times(1000, 50))
        outcome.add(leavers.records)
        seconds = wait_until(lambda: served.files() <= base_files + 2, "the connections to end", 30.0)
        _serves_again(scene, outcome, served)
        after_mb = served.rss_mb()
    found = outcome.add_logged(clients.records, served.logs)
    outcome.figures["left"] = f"{leavers.records.left:,} amid a request, {after:,} before its response"
    outcome.figures["lines of responses nobody read"] = f"{found.others - warm.ok - served.probes:,}"
    outcome.expect_none("requests of other clients failed", outcome.failed)
    outcome.expect_exact_log()
    outcome.expect_at_most("descriptors back", seconds, 10.0, "s", timed=True)
    outcome.expect_at_most("memory kept afterwards", after_mb - base_mb, BACK_TO_BASE_MB, "MB")


def _leave_before_the_response(served: Served, scene: Scene, count: int) -> int:
    """Send whole requests, each to a connection that is reset at once; how many."""
    for i in range(count):
        connection = socket.create_connection(address(served.url), 10.0)
        connection.sendall(scene.rows[i % len(scene.rows)].request)
        reset([connection])
    return count


def _warm_up(scene: Scene, outcome: FaultOutcome, served: Served, clients: int) -> RequestRecords:
    """Have both workers fill their buffers and pools before they are measured."""
    with Load(served.url, scene.rows, clients=clients) as warm:
        warm.wait_for(5000)
    outcome.add(warm.records)
    return warm.records


def _serves_again(scene: Scene, outcome: FaultOutcome, served: Served) -> None:
    with Load(served.url, scene.rows, clients=8) as after:
        after.wait_for(500)
    outcome.add(after.records)
    status = first_status(served.url, get("/readyz"))
    outcome.expect("ready afterwards", status == 200, status)
