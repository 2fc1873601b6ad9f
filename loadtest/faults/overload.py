"""F23: more requests than the server has capacity for, three and ten times as many."""

import time

from loadtest.bodies import wrk_script
from loadtest.closed_loop import drive
from loadtest.faults.outcome import Outcome
from loadtest.faults.scene import Scene, Served, needs_tool
from loadtest.faults.watch import Watch
from loadtest.ledger_client import Load
from loadtest.reference_rows import ReferenceRow, batches
from loadtest.target import keep_to, load_core, server_core

#: So many that a request costs some milliseconds, and a generator on one core can ask for ten times too many.
BATCH_ROWS = 500
CONNECTIONS = 1000
GOODPUT = 0.9
GROWTH_MB = 50.0
NORMAL_SECONDS = 2.0


def overload(scene: Scene, outcome: Outcome) -> None:
    """Batches at a fixed rate beyond capacity, then single rows over more and more connections."""
    required = {feature.name for feature in scene.bundle.schema.features if not feature.nullable}
    requests = batches(scene.bundle, scene.rows, BATCH_ROWS, required)
    with scene.serve(core=server_core(1)) as served, keep_to(load_core(1)):
        with Load(served.url, requests, clients=4) as peak:
            time.sleep(scene.times(10, 3))
        outcome.add(peak.ledger)
        seconds = scene.times(10, 3)
        capacity = peak.ledger.right_between(0.0, float("inf")) / seconds
        unloaded_ms = peak.ledger.percentiles_ms()["p99_ms"]
        outcome.figures["capacity"] = f"{capacity:,.0f} batches of {BATCH_ROWS} rows a second"
        for factor in (3, 10):
            _beyond(scene, outcome, served, requests, capacity, factor)
            _normal_again(outcome, served, requests, capacity, unloaded_ms)
        _rows(scene, outcome, served)
    outcome.expect_none("answers but 200 and 503, and requests without one", outcome.failed)
    outcome.expect_none("answers wrong", outcome.wrong)


def _beyond(
    scene: Scene,
    outcome: Outcome,
    served: Served,
    requests: list[ReferenceRow],
    capacity: float,
    factor: int,
) -> None:
    base_mb = served.rss_mb()
    seconds = scene.times(20, 4)
    with (
        Watch(served.pid) as watch,
        Load(served.url, requests, clients=CONNECTIONS, rate=factor * capacity, timeout=30.0) as clients,
    ):
        began = time.monotonic()
        time.sleep(seconds)
        ended = time.monotonic()
    outcome.add(clients.ledger)
    goodput = clients.ledger.right_between(began + 1.0, ended) / (ended - began - 1.0)
    p99_ms = clients.ledger.percentiles_ms(began + 1.0, ended)["p99_ms"]
    outcome.figures[f"at {factor} times"] = (
        f"{goodput:,.0f} answers a second, {clients.ledger.shed:,} shed, p99 of answers {p99_ms:.0f} ms, "
        f"{clients.ledger.unsent:,} left unsent"
    )
    outcome.expect_at_least(
        f"goodput at {factor} times over the peak", goodput / capacity, GOODPUT, timed=True
    )
    outcome.expect_at_most(f"memory at {factor} times", watch.most_mb - base_mb, GROWTH_MB, "MB")


def _normal_again(
    outcome: Outcome, served: Served, requests: list[ReferenceRow], capacity: float, unloaded_ms: float
) -> None:
    """At half of the capacity, from at most two seconds on, no request is shed or late."""
    time.sleep(NORMAL_SECONDS)
    with Load(served.url, requests, clients=64, rate=capacity / 2) as clients:
        time.sleep(2.0)
    outcome.add(clients.ledger)
    outcome.expect_none("requests shed 2 s afterwards", clients.ledger.shed)
    late = clients.ledger.percentiles_ms()["p50_ms"] / unloaded_ms
    outcome.expect_at_most("p50 2 s afterwards over the p99 at the peak", late, 1.0, timed=True)


def _rows(scene: Scene, outcome: Outcome, served: Served) -> None:
    """Single rows are answered as they come: a flood of connections is work as any other."""
    needs_tool("wrk")
    bodies = [row.request.partition(b"\r\n\r\n")[2] for row in scene.rows[:500]]
    script = wrk_script(bodies, served.logs.parent / "post.lua")
    seconds, base_mb = scene.times(8, 2), served.rss_mb()
    rates = {}
    with Watch(served.pid) as watch:
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
        outcome.expect_at_least(f"rows over {connections} connections against 32", ratio, GOODPUT, timed=True)
    outcome.expect_at_most("memory under the flood", watch.most_mb - base_mb, GROWTH_MB, "MB")
