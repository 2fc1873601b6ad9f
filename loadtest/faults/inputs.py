"""Input that is too large, too deep, compressed, cut into crumbs, or nonsense: F18, F19 and F20."""

import contextlib
import gzip
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import orjson
import psutil
import uvloop

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene, Served
from loadtest.harness.fuzzer import fuzz_decoders
from loadtest.harness.http_bytes import converse, first_status, get, post, several_at_once
from loadtest.harness.instances import wait_until
from loadtest.harness.recording_client import Load
from loadtest.harness.scrape import scrape, total

MAX_BODY = 2**20
GROWTH_MB = 10.0
HANG_SECONDS, GIVEN_UP_SECONDS = 1.0, 5.0
#: Responses that say the server failed. 501 says that it was asked for what it does not do.
FAILED_STATUSES = {500, *range(502, 600)}


class Vector(NamedTuple):
    """A request and the statuses it may be answered with."""

    name: str
    request: bytes
    statuses: set[int]


def oversize(scene: Scene, outcome: FaultOutcome) -> None:
    """Bodies, chunks, depths, bombs, heads and paths beyond every limit."""
    row = orjson.dumps(scene.rows[0].fields)
    with scene.serve(workers=2) as served:
        pids = served.workers()
        with Load(served.url, scene.rows, rate=200.0) as clients:
            for vector in _vectors(row):
                for _ in range(8):  # buffers that the first of their size make stay, in each worker
                    first_status(served.url, vector.request)
                before_mb = served.rss_mb()
                seen = Counter(first_status(served.url, vector.request) for _ in range(scene.times(10, 1)))
                grown_mb = served.rss_mb() - before_mb
                outcome.expect(
                    f"{vector.name}: {_or(vector.statuses)}", set(seen) <= vector.statuses, dict(seen)
                )
                outcome.expect_at_most(f"{vector.name}: memory", grown_mb, GROWTH_MB, "MB")
        outcome.expect("the same workers alive", served.workers() == pids)
    outcome.add_logged(clients.records, served.logs)
    outcome.expect_none("other requests failed", outcome.failed)
    outcome.expect_none("responses or lines wrong", outcome.wrong)


def _vectors(row: bytes) -> Iterator[Vector]:
    large = b" " * (2 * MAX_BODY)
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    yield Vector("2 MiB by Content-Length", post("/predict", large), {413})
    yield Vector("2 MiB, 100-continue", post("/predict", large, "Expect: 100-continue"), {413})
    chunk = b"%x\r\n%b\r\n" % (2**16, b" " * 2**16)
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    yield Vector("2 MiB in chunks", chunked + chunk * 32 + b"0\r\n\r\n", {413})
    crumbs = b"".join(b"1\r\n%c\r\n" % byte for byte in row.ljust(1_000_000)) + b"0\r\n\r\n"
    yield Vector("1,000,000 chunks of a byte", chunked + crumbs, {200, 413})
    for coding in ("gzip", "br", "zstd", "deflate"):
        bomb = gzip.compress(bytes(16 * 2**20))
        yield Vector(f"a bomb as {coding}", post("/predict", bomb, f"Content-Encoding: {coding}"), {415})
    for depth in (65, 255, 1024, 1025, 100_000):
        nested = b'{"AMT_CREDIT":' + b"[" * depth + b"]" * depth + b"}"
        yield Vector(f"arrays {depth:,} deep", post("/predict", nested), {400, 422})
        objects = b'{"a":' * depth + b"1" + b"}" * depth
        yield Vector(f"objects {depth:,} deep", post("/predict", objects), {400, 422})
    yield Vector("1,000,000 open brackets", post("/predict", b"[" * 1_000_000), {400})
    names = b"{" + b",".join(b'"%d":1' % i for i in range(80_000)) + b"}"
    yield Vector("80,000 unknown fields", post("/predict", names), {422})
    yield Vector("8 MiB of a header", get("/livez")[:-2] + b"X: " + b"a" * 2**23 + b"\r\n\r\n", {431})
    yield Vector("a path of 1 MiB", get("/" + "a" * 2**20), {414})


def _or(statuses: set[int]) -> str:
    return " or ".join(map(str, sorted(statuses)))


def nonsense(scene: Scene, outcome: FaultOutcome) -> None:
    """20,000 random and mutated byte strings on the socket; Atheris on the decoders."""
    if scene.fuzz_seconds:
        outcome.figures["Atheris"], broken = fuzz_decoders(scene.fuzz_seconds, scene.new_folder())
        outcome.expect_none("crashes, hangs and disagreements of decoders", broken)
    count = scene.times(20_000, 2000)
    with scene.serve(workers=2) as served:
        pids = served.workers()
        with Load(served.url, scene.rows, rate=200.0) as clients:
            seen, slow, hung = throw_bytes(
                served.url, list(byte_strings(scene.rows[0].request, count, seed=1))
            )
        outcome.expect("the same workers alive", served.workers() == pids)
        log = served.logs.parent / "server.log"
        outcome.expect("no traceback in the server's output", b"Traceback" not in log.read_bytes())
    outcome.add_logged(clients.records, served.logs)
    statuses = ", ".join(f"{n:,} {status or 'closed'}" for status, n in sorted(seen.items()))
    outcome.figures["responses to nonsense"] = statuses
    outcome.expect_none("5xx", sum(n for status, n in seen.items() if status in FAILED_STATUSES))
    outcome.expect_none(f"connections open after {GIVEN_UP_SECONDS:g} s", hung)
    outcome.expect(f"0 responses later than {HANG_SECONDS:g} s", not slow, slow, timed=True)
    outcome.expect_none("other requests failed", outcome.failed)
    outcome.expect_none("responses or lines wrong", outcome.wrong)


def byte_strings(good: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Byte strings, a half of them random, the others a good request with random changes."""
    choose = random.Random(seed)
    for i in range(count):
        if i % 2:
            yield choose.randbytes(choose.randrange(1, 400))
            continue
        data = bytearray(good)
        for _ in range(choose.randrange(1, 6)):
            at = choose.randrange(len(data))
            change = choose.randrange(4)
            if change == 0:
                data[at] = choose.randrange(256)
            elif change == 1:
                data[at:at] = choose.randbytes(choose.randrange(1, 8))
            elif change == 2:
                del data[at : at + choose.randrange(1, 20)]
            else:
                data[at:at] = data[choose.randrange(len(data)) :][:40]
            if not data:
                break
        yield bytes(data)


def throw_bytes(url: str, strings: list[bytes]) -> tuple[Counter[int], int, int]:
    """Send each string over a connection that ends its writing side there.

    First statuses (0: closed without a response), how many ends were late, and how
    many did not come at all.
    """
    return uvloop.run(_throw_all(url, strings))


async def _throw_all(url: str, strings: list[bytes]) -> tuple[Counter[int], int, int]:
    seen: Counter[int] = Counter()
    ends: list[float] = []

    async def throw(data: bytes) -> None:
        began, received = time.monotonic(), b""
        with contextlib.suppress(TimeoutError):
            received = await converse(url, [data], GIVEN_UP_SECONDS + 0.5)
        seen[int(received[9:12]) if received.startswith(b"HTTP/1.1 ") else 0] += 1
        ends.append(time.monotonic() - began)

    await several_at_once(16, strings, throw)
    return seen, sum(end > HANG_SECONDS for end in ends), sum(end > GIVEN_UP_SECONDS for end in ends)


def memory_squeezed(scene: Scene, outcome: FaultOutcome) -> None:
    """RLIMIT_AS 16 MB above what the workers have, and batches of 10,000 rows."""
    rows = [dict(row.fields) for row in scene.rows]
    batch = post("/predict/batch", orjson.dumps({"rows": (rows * 5)[:10_000]}))
    with scene.serve(workers=2) as served:
        pids = served.workers()
        for pid in pids:
            limit = psutil.Process(pid).memory_info().vms + 16 * 2**20
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        with Load(served.url, scene.rows, rate=100.0) as clients:
            seen = _send_at_once(served, batch, scene.times(200, 20))
        for pid in set(pids) & set(served.workers()):
            resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        outcome.recovered(
            wait_until(lambda: _send_at_once(served, batch, 1)[200] == 1, "a batch answered again", 30.0)
        )
        replaced = total(scrape(served.url), "hotrow_worker_restarts_total")
    found = outcome.add_logged(clients.records, served.logs)
    outcome.figures["responses to batches"] = ", ".join(
        f"{n} {status or 'cut off'}" for status, n in seen.items()
    )
    outcome.figures["workers replaced"] = f"{replaced:g}"
    outcome.expect("200, 413, 503 or no response to a batch", set(seen) <= {0, 200, 413, 503}, dict(seen))
    outcome.expect_none("lines twice", len(found.duplicates))
    outcome.expect_none("responses or lines wrong", outcome.wrong)


def _send_at_once(served: Served, request: bytes, count: int) -> Counter[int]:
    """The statuses of so many equal requests, eight at a time; 0 for one without a response."""
    with ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(partial(first_status, served.url), [request] * count))
