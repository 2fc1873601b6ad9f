"""Requests on their own schedule, whatever the server does.

A closed loop waits for each response before it asks again, so while the server
stalls nothing is asked and nothing is seen (coordinated omission). Here every
request has its intended time; its latency counts from then, also when all
connections were busy and it left late. Beside it stands the latency from the
actual sending, to show the difference.
"""

import asyncio
import random
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter_ns, process_time_ns
from typing import NamedTuple

import uvloop

from loadtest.harness.http_bytes import address, content_length
from loadtest.harness.percentiles import percentiles_us
from loadtest.harness.subject import LoadTestError

CONNECTIONS = 64
WARM_UP_SECONDS = 1.0
#: How long to wait for the last answers.
PATIENCE_SECONDS = 5.0
#: The generator is trusted if the p99 of its own lateness is less than this part
#: of the p99 it reports, or less than what a processor takes to change tasks; and
#: if it had its processor, which it always uses, nearly to itself.
LATE_SHARE, LATE_US, PROCESSOR_SHARE = 0.25, 100.0, 0.9


class LatencyResult(NamedTuple):
    """One run. Latencies in us: `corrected` from the intended time, `uncorrected` from the sending.

    `rate` was asked for, `scheduled` is what the (perhaps random) schedule held.
    `late` is how far behind its schedule the generator itself was, before it looked
    for a free connection; `limited` says that this spoils the figures.
    """

    rate: float
    scheduled: float
    achieved: float
    requests: int
    failures: int
    unanswered: int
    corrected: dict[str, float]
    uncorrected: dict[str, float]
    late: dict[str, float]
    processor_share: float
    limited: bool


class _OpenLoopConnection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, answered: Callable[["_OpenLoopConnection", bytes], None]) -> None:
        self._answered = answered
        self._received = b""
        self.transport: asyncio.Transport | None = None
        self.intended_ns = self.sent_ns = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as TCP gives
        self.transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None

    def ask(self, request: bytes, intended_ns: int) -> None:
        """Send a request whose time was `intended_ns`."""
        self.intended_ns = intended_ns
        self.sent_ns = perf_counter_ns()
        if self.transport is not None:
            self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        head_end = data.find(b"\r\n\r\n") + 4
        if head_end > 3 and len(data) >= head_end + content_length(data[:head_end]):
            self._received = b""
            self._answered(self, data)
        else:
            self._received = data


class _Load:
    """The connections of one run and what they saw."""

    def __init__(self, requests: Sequence[bytes], warm_until_ns: int) -> None:
        self._requests = requests
        self._turn = 0
        self._warm_until_ns = warm_until_ns
        self.idle: deque[_OpenLoopConnection] = deque()
        self.waiting: deque[int] = deque()
        self.corrected, self.uncorrected, self.late = array("q"), array("q"), array("q")
        self.failures = self.under_way = self.scheduled = 0
        self.last_ns = 0

    def due(self, intended_ns: int) -> None:
        """Send now, or as soon as a connection is free."""
        self.scheduled += intended_ns >= self._warm_until_ns
        self.late.append(perf_counter_ns() - intended_ns)
        if self.idle:
            self.send(self.idle.popleft(), intended_ns)
        else:
            self.waiting.append(intended_ns)

    def send(self, connection: _OpenLoopConnection, intended_ns: int) -> None:
        """Send the next request."""
        self._turn = (self._turn + 1) % len(self._requests)
        self.under_way += 1
        connection.ask(self._requests[self._turn], intended_ns)

    def answered(self, connection: _OpenLoopConnection, data: bytes) -> None:
        """Note the latencies, and send what waits."""
        now = perf_counter_ns()
        self.under_way -= 1
        self.last_ns = now
        if connection.intended_ns >= self._warm_until_ns:
            self.corrected.append(now - connection.intended_ns)
            self.uncorrected.append(now - connection.sent_ns)
            self.failures += data[9:12] != b"200"
        self.after(connection)

    def after(self, connection: _OpenLoopConnection) -> None:
        """A connection is free."""
        if self.waiting:
            self.send(connection, self.waiting.popleft())
        else:
            self.idle.append(connection)


class _ClosedLoad(_Load):
    """Each connection asks again as soon as it is answered."""

    until_ns = 0

    def after(self, connection: _OpenLoopConnection) -> None:
        now = perf_counter_ns()
        if now < self.until_ns:
            self.send(connection, now)


def open_loop(
    url: str,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    *,
    poisson: bool = False,
    connections: int = CONNECTIONS,
) -> LatencyResult:
    """Send `requests` (bytes of whole HTTP/1.1 requests, in turn) at `rate` for `seconds`.

    One second more comes before, unmeasured. With `poisson` the gaps are
    exponential, as of independent clients, otherwise equal. The generator turns
    without sleeping, since a timer is a millisecond late: give it a processor of
    its own.
    """
    return uvloop.run(_open(url, requests, rate, seconds, poisson, connections))


def closed_loop(url: str, requests: Sequence[bytes], seconds: float, connections: int) -> dict[str, float]:
    """Percentiles in us as a closed loop reports them, for comparison; and `rate`."""
    return uvloop.run(_closed(url, requests, seconds, connections))


async def _open(
    url: str,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    poisson: bool,
    connections: int,
) -> LatencyResult:
    began_ns = perf_counter_ns() + 200_000_000
    measured_ns = began_ns + round(WARM_UP_SECONDS * 1e9)
    ended_ns = measured_ns + round(seconds * 1e9)
    load = _Load(requests, measured_ns)
    opened = await _connect(url, load, connections)
    cpu_ns, wall_ns = process_time_ns(), perf_counter_ns()
    for intended_ns in _schedule(began_ns, ended_ns, rate, poisson):
        while perf_counter_ns() < intended_ns:
            await asyncio.sleep(0)
        load.due(intended_ns)
    processor_share = (process_time_ns() - cpu_ns) / (perf_counter_ns() - wall_ns)
    await _drain(load, opened)
    return _result(load, rate, seconds, measured_ns, processor_share)


async def _closed(url: str, requests: Sequence[bytes], seconds: float, connections: int) -> dict[str, float]:
    load = _ClosedLoad(requests, 0)
    opened = await _connect(url, load, connections)
    began_ns = perf_counter_ns()
    load.until_ns = began_ns + round(seconds * 1e9)
    for connection in opened:
        load.send(connection, perf_counter_ns())
    await asyncio.sleep(seconds)
    await _drain(load, opened)
    rate = len(load.uncorrected) / ((load.last_ns - began_ns) / 1e9)
    return {"rate": rate, **percentiles_us(load.uncorrected)}


def _schedule(began_ns: int, ended_ns: int, rate: float, poisson: bool) -> Iterator[int]:
    gap = random.Random(0).expovariate if poisson else None
    at, step_ns = float(began_ns), 1e9 / rate
    while at < ended_ns:
        yield int(at)
        at += gap(1.0) * step_ns if gap else step_ns


async def _connect(url: str, load: _Load, connections: int) -> list[_OpenLoopConnection]:
    loop = asyncio.get_running_loop()
    opened = []
    for _ in range(connections):
        _, connection = await loop.create_connection(
            lambda: _OpenLoopConnection(load.answered), *address(url)
        )
        opened.append(connection)
    load.idle.extend(opened)
    return opened


async def _drain(load: _Load, opened: Sequence[_OpenLoopConnection]) -> None:
    deadline = perf_counter_ns() + PATIENCE_SECONDS * 1e9
    while load.under_way and perf_counter_ns() < deadline:
        await asyncio.sleep(0.001)
    for connection in opened:
        if connection.transport is not None:
            connection.transport.close()


def _result(
    load: _Load, rate: float, seconds: float, measured_ns: int, processor_share: float
) -> LatencyResult:
    if not load.corrected:
        raise LoadTestError("expected responses to requests at a fixed rate, got none")
    corrected = percentiles_us(load.corrected)
    late = percentiles_us(load.late)
    achieved = len(load.corrected) / (max(seconds * 1e9, load.last_ns - measured_ns) / 1e9)
    behind = late["p99_us"] > max(LATE_US, LATE_SHARE * corrected["p99_us"]) or late["p50_us"] > LATE_US
    return LatencyResult(
        rate=rate,
        scheduled=load.scheduled / seconds,
        achieved=achieved,
        requests=len(load.corrected),
        failures=load.failures,
        unanswered=load.under_way + len(load.waiting),
        corrected=corrected,
        uncorrected=percentiles_us(load.uncorrected),
        late=late,
        processor_share=processor_share,
        limited=behind or processor_share < PROCESSOR_SHARE,
    )
