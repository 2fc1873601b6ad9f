"""The worst requests that the defaults allow, one by one and from many senders: F26 and F27."""

import itertools
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import FaultSkipped, Scene, Served
from loadtest.harness.http_bytes import address, first_status, get
from loadtest.harness.meanwhile import meanwhile
from loadtest.harness.watch import watching
from loadtest.harness.worst_requests import ONE, WORKER_MB, Worst, worst_requests

#: What one request may take beside what the server has, and keep.
GROWTH_MB, KEPT_MB = 64.0, 16.0
#: How long a request of up to `ONE` bytes, or a longer one, may keep others waiting.
SHORT_MS, LONG_MS = 100.0, 1000.0
SENDERS = 64
_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


def one_by_one(scene: Scene, outcome: FaultOutcome) -> None:
    """Each kind of request that once took a worker's time or memory, as long as its route takes."""
    with scene.serve(outcomes="on") as served:
        pids = served.workers()
        before_mb = served.rss_mb()
        seen: dict[str, list[_Seen]] = {}
        for worst in itertools.islice(worst_requests(scene.bundle), scene.times(10**6, 8)):
            seen.setdefault(worst.path.partition("?")[0], []).append(_one(served, worst, outcome))
        for path, of_path in seen.items():
            outcome.figures[path] = (
                f"{len(of_path)} kinds; others waited at most {max(s.wait_ms for s in of_path):.0f} ms; "
                f"at most {max(s.growth_mb for s in of_path):.0f} MB more"
            )
        time.sleep(scene.times(10, 1))
        outcome.expect_at_most("memory kept after 10 s", served.rss_mb() - before_mb, KEPT_MB, "MB")
        outcome.expect("the same worker alive", served.workers() == pids)


class _Seen(NamedTuple):
    """What one request did to the others and to the memory."""

    wait_ms: float
    growth_mb: float


def _one(served: Served, worst: Worst, outcome: FaultOutcome) -> _Seen:
    message = worst.message()
    before_mb = served.rss_mb()
    with watching(served.pid, every_seconds=0.01) as watch, _waits(served.url) as waits:
        status = first_status(served.url, message)
    most_mb = max(watch.most_mb, served.rss_mb())  # of a short request there is no look
    seen = _Seen(max(waits) * 1e3, most_mb - before_mb)
    takes_one_row = not ("/batch" in worst.path or "/infer" in worst.path)
    is_packed = any("Content-Encoding" in header for header in worst.headers)
    is_short = takes_one_row if is_packed else len(message) <= ONE + 4096
    limit_ms = SHORT_MS if is_short else LONG_MS
    outcome.expect(f"{worst.name}: {' or '.join(map(str, worst.statuses))}", status in worst.statuses, status)
    outcome.expect_at_most(f"{worst.name}: memory", seen.growth_mb, GROWTH_MB, "MB")
    outcome.expect_at_most(f"{worst.name}: wait", seen.wait_ms, limit_ms, "ms", timed=True)
    return seen


@contextmanager
def _waits(url: str) -> Iterator[list[float]]:
    """The seconds that `/livez` takes, asked again and again on one connection."""
    waits = [0.0]

    def ask(stopping: threading.Event) -> None:
        with socket.create_connection(address(url), 60.0) as connection:
            while not stopping.wait(0.002):
                began = time.perf_counter()
                connection.sendall(get("/livez"))
                connection.recv(65_536)
                waits.append(time.perf_counter() - began)

    with meanwhile(ask):
        yield waits


def from_many(scene: Scene, outcome: FaultOutcome) -> None:
    """The same to batches and tensors from 64 senders for 60 s, one worker in a cgroup of 512 MiB."""
    messages = [w.message() for w in worst_requests(scene.bundle) if "/batch" in w.path or "/infer" in w.path]
    seen: Counter[int] = Counter()
    turns = itertools.cycle(messages)
    ends = time.monotonic() + scene.times(60, 5)

    def send(url: str) -> None:
        while time.monotonic() < ends:
            seen[first_status(url, next(turns))] += 1

    with scene.serve() as served:
        pids = served.workers()
        base_mb = served.rss_mb()
        with (
            _limited(served.pid, WORKER_MB, outcome),
            watching(served.pid, every_seconds=0.05) as watch,
            ThreadPoolExecutor(SENDERS) as senders,
        ):
            list(senders.map(send, [served.url] * SENDERS))
        time.sleep(scene.times(10, 1))
        outcome.expect("the same worker alive", served.workers() == pids)
        outcome.figures["answers"] = ", ".join(
            f"{n:,} {status or 'none'}" for status, n in sorted(seen.items())
        )
        outcome.expect_at_most("memory", watch.most_mb, WORKER_MB, "MB")
        outcome.expect_at_most("memory kept", served.rss_mb() - base_mb, WORKER_MB / 2, "MB")
        outcome.expect("200, 400, 413, 422 or 503", set(seen) <= {200, 400, 413, 422, 503}, dict(seen))


@contextmanager
def _limited(pid: int, mib: int, outcome: FaultOutcome) -> Iterator[None]:
    """The process in a cgroup of so much memory; where none may be made, its memory is only watched."""
    for root, name in ((_V1, "memory.limit_in_bytes"), (_V2, "memory.max")):
        group = root / f"hotrow-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(mib * 2**20))
            (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            _remove(group)
            continue
        yield
        (root / "cgroup.procs").write_text(str(pid))
        _remove(group)
        return
    outcome.figures["cgroup"] = "none may be made here: the memory was watched"
    yield


def _remove(group: Path) -> None:
    if group.exists():
        try:
            group.rmdir()
        except OSError as error:
            raise FaultSkipped(f"{group} cannot be removed: {error}") from None
