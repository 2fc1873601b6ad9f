"""Counters in memory that all workers share, summed by whichever worker is scraped.

Every worker adds to its own region of one anonymous shared mapping, made before
the workers are forked. So a scrape of any worker sees all of them, a killed
worker's counts stay, its successor goes on from them, and there is no file that
could be left half-written or fill a disk. Adding costs two memory accesses,
without a lock: a region has one writer. `prometheus_client` renders the page.
"""

import math
import mmap
import os
import time
import weakref
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import psutil
from prometheus_client import GCCollector, PlatformCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from server.errors import BundleError
from server.metrics.drift_counts import DriftSlots, drift_families
from server.model.reference import Reference

#: Upper bounds in seconds. The library's own buckets start at 5 ms, where every
#: request of this server would fall into the first.
DURATION_BUCKETS = (
    20e-6, 30e-6, 40e-6, 50e-6, 75e-6, 100e-6, 150e-6, 200e-6, 300e-6, 500e-6, 750e-6,
    1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 10e-3, 25e-3, 100e-3, 500e-3, 2.0,
)  # fmt: skip
PROBABILITY_BUCKETS = tuple(i / 20 for i in range(1, 21))

OTHER = "other"
#: The one outcome of a model that answers with a value (`Bundle.outcomes`).
VALUE = ""
#: Label values come from these sets alone; everything else is `other`.
ROUTES = (
    "/predict",
    "/predict/batch",
    "/explain",
    "/model",
    "/models",
    "/models/predict",
    "/models/predict/batch",
    "/models/explain",
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/v2",
    "/v2/infer",
    OTHER,
)
#: What a path ends in that rows are sent to.
SCORING = ("/predict", "/predict/batch", "/explain")
#: The ones of `ROUTES` that answer rows: what rules, alerts, dashboard and report look at.
SCORING_ROUTES = (*SCORING, *(f"/models{end}" for end in SCORING), "/v2/infer")
METHODS = ("GET", "POST", "HEAD", OTHER)
CODES = (
    "200",
    "400",
    "401",
    "404",
    "405",
    "408",
    "413",
    "414",
    "415",
    "417",
    "422",
    "431",
    "500",
    "501",
    "503",
    "504",
    OTHER,
)
#: What alerts look at, there from the start: of a series that begins with its first count Prometheus
#: sees no rise, and the first burst of errors would be none.
FROM_THE_START = frozenset(
    (route, "POST", code) for route in SCORING_ROUTES for code in ("200", "422", "500", "503")
)
#: The bound of the latency objective: all that a series without a count need tell, a page of empty
#: buckets costs the event loop a millisecond a scrape.
OBJECTIVE_SECONDS = 5e-3
DROP_REASONS = ("queue_full", "disk", "failed")
SHED_REASONS = ("inflight",)
RELOAD_RESULTS = ("ok", "failed")
#: Room in every region for models that a reload brings: some 500 like the shipped
#: one. The kernel gives a page of it when it is written to, not before.
SPARE_SLOTS = 2**18

#: What the Open Inference Protocol's statistics of a model are made of.
STATISTICS = (
    "last_ms",
    "rows",
    "calls",
    "success",
    "success_ns",
    "fail",
    "fail_ns",
    "queue_ns",
    "input_ns",
    "infer_ns",
    "output_ns",
)


def route_label(path: str) -> str:
    """The one of `ROUTES` that a path is counted under."""
    if path.startswith("/v2"):
        return "/v2/infer" if path.endswith("/infer") else "/v2"
    if path.startswith("/docs/"):
        return "/docs"
    if path.startswith("/models/"):
        return next((f"/models{end}" for end in SCORING if path.endswith(end)), "/models")
    return path if path in ROUTES else OTHER


def _answer_bounds(outcome: str, reference: Reference | None) -> Sequence[float]:
    """The upper bounds of a probability's histogram, or of a value's: those of the training scores."""
    if outcome != VALUE:
        return PROBABILITY_BUCKETS
    return reference.score.edges if reference is not None else ()


Totals: TypeAlias = npt.NDArray[np.float64]


class _Histogram(NamedTuple):
    """Where a histogram lies in a region: one slot a bucket, one above, the sum."""

    bounds: Sequence[float]
    first: int

    @property
    def size(self) -> int:
        return len(self.bounds) + 2

    @property
    def sum_slot(self) -> int:
        return self.first + len(self.bounds) + 1


class Layout:
    """The slots of one worker's region, the same for every worker.

    `models` are pairs of a bundle's label and what its predictions are counted
    as: two decisions, classes, or the empty name alone for a predicted value.
    `references` are what drift is measured against, by label. Models that come
    later are admitted; those that were served keep their slots, so no counter falls.
    """

    def __init__(
        self, models: Sequence[tuple[str, tuple[str, ...]]], references: Mapping[str, Reference] | None = None
    ) -> None:
        self._next = 0
        self.slots = 0  # fixed below: a region cannot grow once it is shared
        self.pid = self._take()
        self.born = self._take()
        self.deaths = self._take()
        self.start_failures = self._take()
        self.cpu_seen = self._take()
        self.cpu_before = self._take()
        self.in_flight = self._take()
        self.observer_restarts = self._take()
        self.dropped = {reason: self._take() for reason in DROP_REASONS}
        self.shed = {reason: self._take() for reason in SHED_REASONS}
        self.reloading = self._take()
        self.reloads = {result: self._take() for result in RELOAD_RESULTS}
        # One addition counts the outcome, and its probability or value.
        self.answers: dict[tuple[str, str], _Histogram] = {}
        self.statistics: dict[str, dict[str, int]] = {}
        self.drift: dict[str, DriftSlots] = {}
        self.duration = {
            (route, method, code): self._histogram(DURATION_BUCKETS)
            for route in ROUTES
            for method in METHODS
            for code in CODES
        }
        for label, outcomes in models:
            self.register(label, outcomes, (references or {}).get(label))
        self.slots = self._next + SPARE_SLOTS

    @property
    def used(self) -> int:
        """The slots that mean something, from the first."""
        return self._next

    def register(self, label: str, outcomes: Sequence[str], reference: Reference | None) -> None:
        """Give a model its slots, as far as it has none; raises `BundleError` if there is no room left."""
        for outcome in outcomes:
            if (label, outcome) not in self.answers:
                self.answers[label, outcome] = self._histogram(_answer_bounds(outcome, reference))
        if label not in self.statistics:
            self.statistics[label] = {name: self._take() for name in STATISTICS}
        known = self.drift.get(label)
        if reference is not None and (known is None or known.reference != reference):
            self.drift[label] = DriftSlots(reference, self._take)

    def _take(self, slots: int = 1) -> int:
        first, end = self._next, self._next + slots
        if self.slots and end > self.slots:
            raise BundleError(
                "expected room for the counts of one more model, got none: restart the server to load it"
            )
        self._next = end
        return first

    def _histogram(self, bounds: Sequence[float]) -> _Histogram:
        histogram = _Histogram(bounds, self._next)
        self._take(histogram.size)
        return histogram


class RingFigures(Protocol):
    """What there is to tell of one worker's ring of the prediction log."""

    @property
    def unread_bytes(self) -> int: ...  # noqa: D102
    @property
    def beat_ns(self) -> int: ...  # noqa: D102
    def oldest_ns(self) -> int | None: ...  # noqa: D102


class SharedMetrics:
    """The regions of all workers; made once, before the first fork."""

    def __init__(self, layout: Layout, workers: int) -> None:
        self.layout = layout
        self.workers = workers
        # Shared by a descriptor: survives any worker, needs no file system, no clean-up.
        self.descriptor = os.memfd_create("hotrow-metrics", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, workers * layout.slots * 8)
        weakref.finalize(self, os.close, self.descriptor)
        self._memory = mmap.mmap(self.descriptor, 0)
        #: The prediction log's rings, one a worker, if there is a log.
        self.rings: Sequence[RingFigures] = ()
        self._values = memoryview(self._memory).cast("d")
        self.started_seconds = time.time()

    def region(self, worker: int) -> "memoryview[float]":
        """The float64 slots of one worker, writable."""
        start = worker * self.layout.slots
        return self._values[start : start + self.layout.slots]

    def count_death(self, worker: int) -> None:
        """One worker ended without having been told to; called by the parent process alone."""
        self.region(worker)[self.layout.deaths] += 1.0

    def count_start_failure(self) -> None:
        """A worker could not be started for want of a process or descriptor; called by the parent alone."""
        self.region(0)[self.layout.start_failures] += 1.0

    def count_reload(self, result: str) -> None:
        """The models were read again, with this result; called by the process that reads them alone."""
        self.region(0)[self.layout.reloads[result]] += 1.0

    def set_reloading(self, is_reloading: bool) -> None:
        """Whether models are being read again; said by the process that reads them alone."""
        self.region(0)[self.layout.reloading] = is_reloading

    def clear_gauges(self, worker: int) -> None:
        """Forget what a worker that has ended had under way; called by the parent process alone."""
        self.region(worker)[self.layout.in_flight] = 0.0

    def count_observer_restart(self) -> None:
        """The observer ended; called by the process that looks after it alone."""
        self.region(0)[self.layout.observer_restarts] += 1.0

    def unread_bytes(self) -> int:
        """What waits for the observer."""
        return sum(ring.unread_bytes for ring in self.rings)

    def oldest_unwritten_seconds(self) -> float:
        """How long the oldest answer of any worker has waited for its line; 0 if none waits.

        Told from when the answer was given, so an observer that is dead shows, too.
        """
        since = [moment for ring in self.rings if (moment := ring.oldest_ns()) is not None]
        return max(0.0, (time.perf_counter_ns() - min(since)) / 1e9) if since else 0.0

    def observer_silent_seconds(self) -> float:
        """Since when the observer has given no sign of life; 0 if there is none to give one."""
        beats = [ring.beat_ns for ring in self.rings if ring.beat_ns]
        return max(0.0, (time.perf_counter_ns() - min(beats)) / 1e9) if beats else 0.0

    def totals(self) -> Totals:
        """Every slot summed over the workers, float64 [slots]."""
        regions = np.frombuffer(self._memory).reshape(self.workers, self.layout.slots)
        sums: Totals = regions[:, : self.layout.used].sum(axis=0)
        return sums

    def statistics(self, label: str) -> dict[str, int]:
        """The statistics of a model: sums over the workers, and the time of its last inference."""
        slots, totals = self.layout.statistics[label], self.totals()
        last = max(self.region(worker)[slots["last_ms"]] for worker in range(self.workers))
        return {name: int(totals[slot]) for name, slot in slots.items()} | {"last_ms": int(last)}


class WorkerMetrics:
    """What one worker counts; for the event loop's thread alone. The slots of drift,
    and of lines lost to a disk or a failure, are the observer's."""

    def __init__(self, shared: SharedMetrics, worker: int) -> None:
        self.shared = shared
        self.worker = worker
        self._values = values = shared.region(worker)
        layout = shared.layout
        values[layout.cpu_before] += values[layout.cpu_seen]
        values[layout.cpu_seen] = 0.0
        values[layout.in_flight] = 0.0
        values[layout.pid] = os.getpid()
        values[layout.born] = psutil.Process().create_time()

    def duration(self, route: str, method: str, code: str) -> Callable[[float], None]:
        """A function that observes seconds of one route, method and code."""
        key = (
            route_label(route),
            method if method in METHODS else OTHER,
            code if code in CODES else OTHER,
        )
        return self._observer(self.shared.layout.duration[key])

    def scored(self, label: str, outcomes: Sequence[str], task: str = "binary") -> Callable[[Any, int], None]:
        """A function that counts what one model answered, and the index of its outcome.

        It observes the probability, of several classes the likeliest's, or the value.
        """
        values = self._values
        answers = [self.shared.layout.answers[label, outcome] for outcome in outcomes]
        firsts, bounds, total = [a.first for a in answers], answers[0].bounds, answers[0].sum_slot
        if task == "multiclass":

            def count_class(probabilities: list[float], outcome: int) -> None:
                probability = probabilities[outcome]
                values[firsts[outcome] + bisect_left(bounds, probability)] += 1.0
                values[total] += probability

            return count_class
        first_below, first_otherwise = firsts[0], firsts[-1]

        def count(output: float, decision: int) -> None:
            values[(first_otherwise if decision else first_below) + bisect_left(bounds, output)] += 1.0
            values[total] += output

        return count

    def drift_plan(
        self, label: str, names: Sequence[str], hidden: Container[str], window_rows: int
    ) -> dict[str, Any] | None:
        """How the observer counts one model's rows, None if it has no reference."""
        slots = self.shared.layout.drift.get(label)
        return None if slots is None else slots.plan(names, hidden, window_rows)

    def scored_rows(
        self, label: str, outcomes: Sequence[str], task: str
    ) -> Callable[[Sequence[Any], npt.NDArray[np.intp]], None]:
        """A function that counts many rows' answers and the indices of their outcomes, int [n]."""
        values = self._values
        answers = [self.shared.layout.answers[label, outcome] for outcome in outcomes]

        def count(outputs: Sequence[Any], found: npt.NDArray[np.intp]) -> None:
            observed = np.asarray(outputs, dtype=np.float64)
            if task == "multiclass":
                observed = observed[np.arange(len(found)), found]
            buckets = np.searchsorted(answers[0].bounds, observed, side="left")
            for outcome, at in enumerate(answers):
                for bucket, number in enumerate(np.bincount(buckets[found == outcome]).tolist()):
                    values[at.first + bucket] += number
            values[answers[0].sum_slot] += math.fsum(observed.tolist())

        return count

    def statistics(self, label: str) -> Callable[..., None]:
        """A function that adds what its keywords say to the statistics of a model."""
        slots, values = self.shared.layout.statistics[label], self._values

        def add(**amounts: float) -> None:
            values[slots["last_ms"]] = time.time_ns() // 1_000_000
            for name, amount in amounts.items():
                values[slots[name]] += amount

        return add

    def dropped(self, reason: str) -> Callable[[], None]:
        """A function that counts a log line dropped for `reason`."""
        return self._incrementer(self.shared.layout.dropped[reason])

    def shed(self, reason: str) -> Callable[[], None]:
        """A function that counts a request refused for `reason`."""
        return self._incrementer(self.shared.layout.shed[reason])

    def add_in_flight(self, change: int) -> None:
        """One request more, or less, between arrival and answer."""
        self._values[self.shared.layout.in_flight] += change

    def _incrementer(self, slot: int) -> Callable[[], None]:
        values = self._values

        def increment() -> None:
            values[slot] += 1.0

        return increment

    def _observer(self, histogram: _Histogram) -> Callable[[float], None]:
        values, bounds, first, total = self._values, histogram.bounds, histogram.first, histogram.sum_slot

        def observe(value: float) -> None:
            values[first + bisect_left(bounds, value)] += 1.0
            values[total] += value

        return observe


class MetricsCollector(Collector):
    """What `/metrics` says of all workers; `models` describes those that are served now."""

    def __init__(self, shared: SharedMetrics, models: Iterable[dict[str, str]]) -> None:
        self._shared = shared
        self.models = list(models)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        PlatformCollector(registry=self.registry)
        if shared.workers == 1:  # of several, only the one that answers could be asked
            GCCollector(registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """Every metric family, summed over the workers."""
        totals = self._shared.totals()
        yield from _request_families(self._shared.layout, totals)
        yield from _prediction_families(self._shared.layout, totals)
        yield from _log_families(self._shared, totals)
        yield from drift_families(self._shared.layout.drift, totals)
        yield self._model_info()
        yield from _process_families(self._shared)

    def _model_info(self) -> Metric:
        info = GaugeMetricFamily(
            "hotrow_model_info", "The models that are served; always 1.", labels=tuple(self.models[0])
        )
        for model in self.models:
            info.add_metric(tuple(model.values()), 1.0)
        return info


def _request_families(layout: Layout, totals: Totals) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "hotrow_request_duration_seconds",
        "Time from the whole request to its answer.",
        labels=("route", "method", "code"),
    )
    first = next(iter(layout.duration.values()))
    table = totals[first.first : first.first + len(layout.duration) * first.size].reshape(-1, first.size)
    counted = np.count_nonzero(table, axis=1).tolist()
    for (labels, histogram), counts, slots in zip(layout.duration.items(), table, counted, strict=True):
        if slots:
            _add_histogram(durations, labels, histogram.bounds, counts)
        elif labels in FROM_THE_START:
            _add_histogram(durations, labels, (OBJECTIVE_SECONDS,), np.zeros(3))
    yield durations
    yield GaugeMetricFamily(
        "hotrow_requests_in_flight", "Requests being answered.", value=float(totals[layout.in_flight])
    )
    yield _counters("hotrow_shed", "Requests refused to protect the others.", layout.shed, totals)
    reloads = CounterMetricFamily(
        "hotrow_model_reloads", "Times the model folders were read again.", labels=("result",)
    )
    for result, slot in layout.reloads.items():
        reloads.add_metric((result,), float(totals[slot]))
    yield reloads
    yield GaugeMetricFamily(
        "hotrow_model_reload_in_progress",
        "Whether the model folders are being read again.",
        value=float(totals[layout.reloading]),
    )


def _prediction_families(layout: Layout, totals: Totals) -> Iterator[Metric]:
    decisions = CounterMetricFamily(
        "hotrow_predictions", "Rows scored, by model and decision or class.", labels=("model", "decision")
    )
    probability = HistogramMetricFamily(
        "hotrow_probability",
        "Predicted probability of the positive class, or of the likeliest of several.",
        labels=("model",),
    )
    value = HistogramMetricFamily(
        "hotrow_predicted_value", "Predicted value, in the tenths of the training data.", labels=("model",)
    )
    for label in layout.statistics:
        parts = {outcome: at for (model, outcome), at in layout.answers.items() if model == label}
        counts = {outcome: totals[at.first : at.first + at.size] for outcome, at in parts.items()}
        for outcome, of_outcome in counts.items():
            decisions.add_metric((label, outcome), float(of_outcome[:-1].sum()))
        family = value if VALUE in parts else probability
        bounds = next(iter(parts.values())).bounds
        _add_histogram(family, (label,), bounds, np.sum(list(counts.values()), axis=0))
    yield from (decisions, probability, value)


def _log_families(shared: SharedMetrics, totals: Totals) -> Iterator[Metric]:
    layout = shared.layout
    yield GaugeMetricFamily(
        "hotrow_log_queue_bytes",
        "Answers whose lines wait to be written.",
        value=float(shared.unread_bytes()),
    )
    yield GaugeMetricFamily(
        "hotrow_log_oldest_unwritten_seconds",
        "How long the oldest answer has waited for its line to be written.",
        value=shared.oldest_unwritten_seconds(),
    )
    yield GaugeMetricFamily(
        "hotrow_observer_silent_seconds",
        "Since when the process that writes the log has given no sign of life.",
        value=shared.observer_silent_seconds(),
    )
    yield CounterMetricFamily(
        "hotrow_observer_restarts",
        "Times the process that writes the log was started again.",
        value=float(totals[layout.observer_restarts]),
    )
    yield _counters("hotrow_log_dropped", "Log lines lost, by reason.", layout.dropped, totals)


def _process_families(shared: SharedMetrics) -> Iterator[Metric]:
    """CPU and memory of each worker, and their sums under the standard `process_*` names.

    A worker's CPU time is remembered from scrape to scrape, so that the counter
    does not fall when the worker is killed; what it burned since is lost.
    """
    cpu = CounterMetricFamily("hotrow_worker_cpu_seconds", "CPU time of each worker.", labels=("worker",))
    memory = GaugeMetricFamily(
        "hotrow_worker_resident_memory_bytes", "Resident memory of each worker.", labels=("worker",)
    )
    cpu_seconds = restarts = resident = virtual = open_files = 0.0
    for worker in range(shared.workers):
        values, layout = shared.region(worker), shared.layout
        restarts += values[layout.deaths]
        if not values[layout.pid]:
            continue  # never started
        try:
            process = psutil.Process(int(values[layout.pid]))
            # A process long dead, and its number another's; clocks are set by seconds.
            if abs(process.create_time() - values[layout.born]) > 60.0:
                raise psutil.NoSuchProcess(process.pid)
            with process.oneshot():
                times, usage = process.cpu_times(), process.memory_info()
                open_files += process.num_fds()
        except psutil.Error:
            pass  # between a worker's death and its successor's start
        else:
            values[layout.cpu_seen] = max(values[layout.cpu_seen], times.user + times.system)
            memory.add_metric((str(worker),), usage.rss)
            resident, virtual = resident + usage.rss, virtual + usage.vms
        seconds = values[layout.cpu_before] + values[layout.cpu_seen]
        cpu.add_metric((str(worker),), seconds)
        cpu_seconds += seconds
    yield cpu
    yield memory
    yield CounterMetricFamily(
        "hotrow_worker_restarts", "Workers started again after a death.", value=restarts
    )
    yield CounterMetricFamily(
        "hotrow_worker_start_failures",
        "Tries to start a worker that the system had no process or descriptor for.",
        value=float(shared.region(0)[shared.layout.start_failures]),
    )
    yield CounterMetricFamily("process_cpu_seconds", "CPU time of all workers.", value=cpu_seconds)
    yield GaugeMetricFamily(
        "process_resident_memory_bytes", "Resident memory of all workers.", value=resident
    )
    yield GaugeMetricFamily("process_virtual_memory_bytes", "Virtual memory of all workers.", value=virtual)
    yield GaugeMetricFamily("process_open_fds", "Open file descriptors of all workers.", value=open_files)
    yield GaugeMetricFamily(
        "process_start_time_seconds", "Start of the server since the epoch.", value=shared.started_seconds
    )


def _counters(name: str, meaning: str, slots: dict[str, int], totals: Totals) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=("reason",))
    for reason, slot in slots.items():
        family.add_metric((reason,), float(totals[slot]))
    return family


def _add_histogram(
    family: HistogramMetricFamily, labels: Sequence[str], bounds: Sequence[float], counts: Totals
) -> None:
    """Add counts by bucket, the sum behind them."""
    cumulative = np.cumsum(counts[:-1]).tolist()
    buckets = zip([*map(repr, bounds), "+Inf"], cumulative, strict=True)
    family.add_metric(labels, list(buckets), sum_value=float(counts[-1]))
