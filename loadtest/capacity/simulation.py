"""Requests, queues and replicas that fail, event by event.

A worker answers one request after another, as ours does: it has a queue of its own
(its connections), and a request that comes to it at t starts when those before it
are done (Lindley's recursion, D. V. Lindley, The theory of queues with a single
server, 1952). So a request is one event, not the several of a general simulator:
p99.9 wants half a million of them.
"""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Policy: TypeAlias = Literal["random", "round-robin", "least", "two", "shared"]
POLICIES: tuple[Policy, ...] = ("random", "round-robin", "least", "two", "shared")
#: Of the requests, at the beginning: queues fill, and are not measured.
WARM_UP = 0.1


@dataclass(frozen=True)
class Farm:
    """What answers. Times in seconds.

    A replica is `workers` processes that fail together, `mtbf` after they began on
    the average, and are back `mttr` later (both exponential; 0: they do not fail).
    The load balancer sends to a failed one for `detect` more. `limit` is how many
    requests a worker has at most, waiting or in work; beyond, they are shed (0: none
    are). `policy` is how the balancer picks a replica: `random`, `round-robin`, the
    one with the `least` under way, the better of `two` drawn at random; within it the
    kernel picks the worker at random. `shared`: all workers take from one queue.
    """

    replicas: int = 1
    workers: int = 1
    policy: Policy = "random"
    limit: int = 0
    mtbf: float = 0.0
    mttr: float = 30.0
    detect: float = 5.0

    @property
    def servers(self) -> int:
        """How many requests are in work at once."""
        return self.replicas * self.workers


class Outcome(NamedTuple):
    """What became of the measured requests.

    `latencies`, float64 [answered] in seconds, from arrival to answer, ascending.
    `failed` met a replica that was gone or lost it while they waited.
    """

    latencies: Floats
    requests: int
    shed: int
    failed: int
    utilisation: float
    seconds: float
    replica_failures: int

    def percentile(self, percent: float) -> float:
        """In seconds; NaN if nothing was answered."""
        return float(np.percentile(self.latencies, percent)) if len(self.latencies) else math.nan


def simulate(farm: Farm, rate: float, services: Floats, seed: int = 0) -> Outcome:
    """One request for each of `services`, float64 [n] in seconds, at Poisson times of `rate` a second."""
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, len(services)))
    run = _Run(farm, len(services), random.Random(seed))
    for index, (at, service) in enumerate(zip(arrivals.tolist(), services.tolist(), strict=True)):
        run.arrive(index, at, service)
    first = int(len(services) * WARM_UP)
    ends = np.array(run.ends)[first:]
    span = float(arrivals[-1] - arrivals[first])
    answered = np.isfinite(ends)
    latencies: Floats = np.sort(ends[answered] - arrivals[first:][answered])
    return Outcome(
        latencies=latencies,
        requests=len(ends),
        shed=int(np.isneginf(ends).sum()),
        failed=int(np.isnan(ends).sum()),
        utilisation=float(services[first:][answered].sum()) / (span * farm.servers),
        seconds=span,
        replica_failures=run.failures,
    )


_SHED, _FAILED = -math.inf, math.nan


class _Run:
    """The state at one moment; `ends` is when each request so far was answered, or why it was not."""

    def __init__(self, farm: Farm, requests: int, draw: random.Random) -> None:
        self._farm, self._draw = farm, draw
        self.ends = [_FAILED] * requests
        self.failures = 0
        self._free = [0.0] * farm.servers
        self._queues: list[deque[tuple[float, int]]] = [deque() for _ in range(farm.servers)]
        self._under_way = [0] * farm.replicas
        self._departures: list[tuple[float, int]] = []
        self._up = [True] * farm.replicas
        self._seen = list(range(farm.replicas))
        self._turn = itertools.count()
        self._changes: list[tuple[float, int, Callable[..., None], tuple[int, ...]]] = []
        self._last_failure = [0] * farm.replicas
        self._order = itertools.count()  # of events at the same time
        if farm.mtbf:
            for replica in range(farm.replicas):
                self._schedule(draw.expovariate(1.0 / farm.mtbf), self._fail, replica)
        policies: dict[Policy, Callable[[], int]] = {
            "random": self._random,
            "round-robin": self._round_robin,
            "least": self._least,
            "two": self._better_of_two,
            "shared": self._first_free,
        }
        self._pick = policies[farm.policy]

    def arrive(self, index: int, at: float, service: float) -> None:
        """One request: answered, shed, or failed."""
        while self._changes and self._changes[0][0] <= at:
            when, _, change, which = heapq.heappop(self._changes)
            change(when, *which)
        while self._departures and self._departures[0][0] <= at:
            self._depart(*heapq.heappop(self._departures))
        if not self._seen:
            return
        worker = self._pick()
        replica = worker // self._farm.workers
        if not self._up[replica]:
            return
        if self._farm.limit and self._is_full(worker):
            self.ends[index] = _SHED
            return
        end = max(at, self._free[worker]) + service
        self._free[worker] = self.ends[index] = end
        self._queues[worker].append((end, index))
        self._under_way[replica] += 1
        heapq.heappush(self._departures, (end, worker))

    def _depart(self, end: float, worker: int) -> None:
        queue = self._queues[worker]
        if queue and queue[0][0] == end:  # else it was lost with its replica
            queue.popleft()
            self._under_way[worker // self._farm.workers] -= 1

    def _is_full(self, worker: int) -> bool:
        if self._farm.policy == "shared":
            return sum(self._under_way) >= self._farm.limit * self._farm.servers
        return len(self._queues[worker]) >= self._farm.limit

    def _fail(self, at: float, replica: int) -> None:
        self.failures += 1
        self._up[replica] = False
        self._under_way[replica] = 0
        for worker in self._workers(replica):
            for end, index in self._queues[worker]:
                if end > at:
                    self.ends[index] = _FAILED
            self._queues[worker].clear()
        self._last_failure[replica] = self.failures
        self._schedule(at + self._farm.detect, self._notice, replica, self.failures)
        self._schedule(at + self._draw.expovariate(1.0 / self._farm.mttr), self._recover, replica)

    def _notice(self, _: float, replica: int, failure: int) -> None:
        # It may be back, or have failed again since, which is noticed in its own time.
        if not self._up[replica] and failure == self._last_failure[replica]:
            self._seen.remove(replica)

    def _recover(self, at: float, replica: int) -> None:
        self._up[replica] = True
        if replica not in self._seen:
            self._seen.append(replica)
        for worker in self._workers(replica):
            self._free[worker] = at
        self._schedule(at + self._draw.expovariate(1.0 / self._farm.mtbf), self._fail, replica)

    def _schedule(self, at: float, change: Callable[..., None], *which: int) -> None:
        heapq.heappush(self._changes, (at, next(self._order), change, which))

    def _workers(self, replica: int) -> range:
        return range(replica * self._farm.workers, (replica + 1) * self._farm.workers)

    def _worker_of(self, replica: int) -> int:
        return replica * self._farm.workers + int(self._draw.random() * self._farm.workers)

    def _drawn(self) -> int:
        return self._seen[int(self._draw.random() * len(self._seen))]

    def _random(self) -> int:
        return self._worker_of(self._drawn())

    def _round_robin(self) -> int:
        return self._worker_of(self._seen[next(self._turn) % len(self._seen)])

    def _least(self) -> int:
        # Of equals not always the first, which would keep it busier than the others.
        start = next(self._turn) % len(self._seen)
        order = itertools.chain(self._seen[start:], self._seen[:start])
        return self._worker_of(min(order, key=self._under_way.__getitem__))

    def _better_of_two(self) -> int:
        return self._worker_of(min(self._drawn(), self._drawn(), key=self._under_way.__getitem__))

    def _first_free(self) -> int:
        workers = itertools.chain.from_iterable(map(self._workers, self._seen))
        return min(workers, key=self._free.__getitem__)


def draw_services(kind: str, mean: float, variation: float, count: int, seed: int = 0) -> Floats:
    """Service times, float64 [count], in the unit of `mean`: `fixed`, `exponential` or `lognormal`.

    `variation` is the coefficient of variation of the last.
    """
    drawn = np.random.default_rng([seed, 1])
    if kind == "fixed":
        return np.full(count, mean)
    if kind == "exponential":
        return drawn.exponential(mean, count)
    sigma = math.sqrt(math.log1p(variation**2))
    return drawn.lognormal(math.log(mean) - sigma**2 / 2, sigma, count)


def resample(values: Floats, mean: float | None, count: int, seed: int = 0) -> Floats:
    """Service times drawn from measured ones, scaled to a mean if one is given."""
    drawn: Floats = np.random.default_rng([seed, 1]).choice(values, count)
    return drawn if mean is None else drawn * (mean / float(values.mean()))
