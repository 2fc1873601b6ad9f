"""F23: more requests than the server has capacity for, three and ten times as many."""

import time
from typing import NamedTuple

import numpy as np

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene, Served, needs_tool
from loadtest.harness.bodies import wrk_script
from loadtest.harness.closed_loop import drive
from loadtest.harness.recording_client import Load
from loadtest.harness.reference_rows import ReferenceRow, batches
from loadtest.harness.request_records import RequestRecords
from loadtest.harness.target import keep_to, load_core, server_core
from loadtest.harness.watch import watching

#: So many that a request costs some milliseconds, and a generator on one core can ask for ten times too many.
BATCH_ROWS = 1000
#: To refuse a request costs little, not nothing: the smaller the requests, the more of the
#: capacity refusals take at ten times as many. How much of these is written down too.
SMALL_BATCH_ROWS = 500
CONNECTIONS = 1000
GOODPUT = {3: 0.9, 10: 0.85}
GROWTH_MB = 50.0
#: What an answered request may take at most: this long, or so many times what it takes at the peak, from four
#: clients: beyond, 16 wait and two are worked on, which is 4.5 times as many, and refusals come between.
P99_MS, P99_FACTOR = 100.0, 6.0
NORMAL_SECONDS = 2.0


def overload(scene: Scene, outcome: FaultOutcome) -> None:
    """3 and 10 times the capacity in batches, then up to 1,000 connections of single rows."""
    with scene.serve(core=server_core(1)) as served, keep_to(load_core(1)):
        requests = _requests(scene, BATCH_ROWS)
        for factor, least in GOODPUT.items():
            rounds = _rounds(scene, outcome, served, requests, factor)
            name, peak = f"{factor} times", rounds[-1].peak
            outcome.expect_at_least(f"goodput at {name} over the peak", _share(rounds), least, timed=True)
            grown_mb = max(each.beyond.grown_mb for each in rounds)
            outcome.expect_at_most(f"memory at {name}", grown_mb, GROWTH_MB, "MB")
            late = np.median(
                [each.beyond.p99_ms / max(P99_MS, P99_FACTOR * each.peak.p99_ms) for each in rounds]
            )
            words = f"p99 of responses at {name} over what it may be"
            outcome.expect_at_most(words, float(late), 1.0, timed=True)
            _normal_again(outcome, served, requests, peak)
        _small(scene, outcome, served)
        _rows(scene, outcome, served)
    outcome.expect_none("responses but 200 and 503, and requests without one", outcome.failed)
    outcome.expect_none("responses wrong", outcome.wrong)


class _Found(NamedTuple):
    """Right responses a second, also of the server's CPU time, their p99, the memory's growth.

    Goodput is told by CPU time: what else the machine does would count as a cost of refusing.
    """

    per_second: float
    per_cpu_second: float
    p99_ms: float
    grown_mb: float = 0.0


def _requests(scene: Scene, rows: int) -> list[ReferenceRow]:
    required = {feature.name for feature in scene.bundle.schema.features if not feature.nullable}
    return batches(scene.bundle, scene.rows, rows, required)


class _Round(NamedTuple):
    """The capacity, and what is left of it right afterwards beyond."""

    peak: _Found
    beyond: _Found


def _rounds(
    scene: Scene, outcome: FaultOutcome, served: Served, requests: list[ReferenceRow], factor: int
) -> list[_Round]:
    """Both in turn, since a shared processor is not as fast in one minute as in the next."""
    rounds = []
    for _ in range(scene.times(5, 1)):
        peak = _peak(scene, outcome, served, requests)
        rounds.append(_Round(peak, _beyond(scene, outcome, served, requests, factor * peak.per_second)))
    per_second = [(each.peak.per_second, each.beyond.per_second) for each in rounds]
    outcome.figures[
        f"batches of {len(requests[0].fields)} rows answered a second, {factor} times the capacity"
    ] = "; ".join(f"{alone:,.0f}, then {beyond:,.0f}" for alone, beyond in per_second)
    return rounds


def _share(rounds: list[_Round]) -> float:
    return float(np.median([each.beyond.per_cpu_second / each.peak.per_cpu_second for each in rounds]))


def _peak(scene: Scene, outcome: FaultOutcome, served: Served, requests: list[ReferenceRow]) -> _Found:
    """What the server answers when nothing waits and nothing is refused."""
    with Load(served.url, requests, clients=4) as clients:
        span = _Span(served, scene.times(3, 1))
    outcome.add(clients.records)
    return span.found(clients.records)


class _Span:
    """Some seconds of a load, and the CPU time that the server took in them."""

    def __init__(self, served: Served, seconds: float) -> None:
        time.sleep(1.0)  # until all is under way
        self._began, before = time.monotonic(), served.cpu_seconds()
        time.sleep(seconds)
        self._ended, self._cpu_seconds = time.monotonic(), served.cpu_seconds() - before

    def found(self, records: RequestRecords) -> _Found:
        """What its clients recorded of it."""
        right = records.right_between(self._began, self._ended)
        p99_ms = records.percentiles_ms(self._began, self._ended)["p99_ms"]
        return _Found(right / (self._ended - self._began), right / self._cpu_seconds, p99_ms)


def _beyond(
    scene: Scene, outcome: FaultOutcome, served: Served, requests: list[ReferenceRow], rate: float
) -> _Found:
    """Requests at a rate beyond the capacity."""
    base_mb = served.rss_mb()
    with (
        watching(served.pid) as watch,
        Load(served.url, requests, clients=CONNECTIONS, rate=rate, timeout=30.0) as clients,
    ):
        span = _Span(served, scene.times(5, 2))
    outcome.add(clients.records)
    return span.found(clients.records)._replace(grown_mb=watch.most_mb - base_mb)


def _small(scene: Scene, outcome: FaultOutcome, served: Served) -> None:
    """Smaller batches, ten times too many."""
    requests = _requests(scene, SMALL_BATCH_ROWS)
    share = _share(_rounds(scene, outcome, served, requests, 10))
    outcome.figures[f"goodput at 10 times, batches of {SMALL_BATCH_ROWS} rows"] = f"{share:.0%} of the peak"


def _normal_again(outcome: FaultOutcome, served: Served, requests: list[ReferenceRow], peak: _Found) -> None:
    """At half of the capacity, from at most two seconds on, no request is shed or late."""
    time.sleep(NORMAL_SECONDS)
    with Load(served.url, requests, clients=64, rate=peak.per_second / 2) as clients:
        time.sleep(2.0)
    outcome.add(clients.records)
    outcome.expect_none("requests shed 2 s afterwards", clients.records.shed)
    late = clients.records.percentiles_ms()["p50_ms"] / peak.p99_ms
    outcome.expect_at_most("p50 2 s afterwards over the p99 at the peak", late, 1.0, timed=True)


def _rows(scene: Scene, outcome: FaultOutcome, served: Served) -> None:
    """Single rows are answered as they come: a flood of connections is work as any other."""
    needs_tool("wrk")
    bodies = [row.request.partition(b"\r\n\r\n")[2] for row in scene.rows[:500]]
    script = wrk_script(bodies, served.logs.parent / "post.lua")
    seconds, base_mb = scene.times(8, 2), served.rss_mb()
    rates = {}
    with watching(served.pid) as watch:
        for connections in (32, 96, 320, 1000):
            done = drive(served.subject, "/predict", seconds, script, load_core(1), connections)
            rates[connections] = done.requests_per_second
            outcome.expect_none(
                f"failures seen by wrk over {connections} connections", done.failed - done.late
            )
            if done.late:
                words = f"{done.late:,} of {done.requests:,}"
                outcome.figures[f"slower than 2 s over {connections} connections"] = words
    outcome.figures["rows a second by connections"] = ", ".join(f"{n}: {r:,.0f}" for n, r in rates.items())
    for connections in (96, 320):
        ratio = rates[connections] / rates[32]
        outcome.expect_at_least(
            f"rows over {connections} connections against 32", ratio, GOODPUT[3], timed=True
        )
    outcome.expect_at_most("memory under the flood", watch.most_mb - base_mb, GROWTH_MB, "MB")
