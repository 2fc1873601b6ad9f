"""What `/metrics` says of all workers, as families of `prometheus_client`, which renders the page."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import psutil
from prometheus_client import GCCollector, PlatformCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar

from server.metrics.drift_gauges import drift_families
from server.metrics.exemplar_table import ExemplarOf
from server.metrics.layout import SlotLayout
from server.metrics.measured import Measured, MeasuredFile
from server.metrics.names import FROM_THE_START, OBJECTIVE_SECONDS, REFUSED_REASONS, REQUEST_LABELS, VALUE
from server.metrics.outcome_gauges import outcome_families
from server.metrics.shared import SharedMetrics, Totals

#: The places of those series.
_FROM_THE_START = {place for place, labels in enumerate(REQUEST_LABELS) if labels in FROM_THE_START}


class MetricsCollector(Collector):
    """What `/metrics` says of all workers; `models` describes those that are served now.

    `measured` is what outcomes told of them, as far as somebody asked.
    """

    def __init__(
        self,
        shared: SharedMetrics,
        models: Iterable[dict[str, str]],
        measured: MeasuredFile | None = None,
    ) -> None:
        self._shared = shared
        self._measured = measured
        self.models = list(models)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        PlatformCollector(registry=self.registry)
        if shared.workers == 1:  # of several, only the one that answers could be asked
            GCCollector(registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """Every metric family, summed over the workers."""
        totals = self._shared.totals()
        yield from _request_families(self._shared.layout, totals, self._shared.exemplars())
        yield from _prediction_families(self._shared.layout, totals)
        yield from _log_families(self._shared, totals)
        yield from drift_families(self._shared.layout.drift, totals)
        yield from outcome_families(self.measured())
        yield self._model_info()
        yield from _process_families(self._shared)

    def measured(self) -> list[Measured]:
        """What outcomes told of the models that are served now."""
        if self._measured is None:
            return []
        served = {f"{model['name']}@{model['version']}" for model in self.models}
        return [one for one in self._measured.models() if one.model in served]

    def _model_info(self) -> Metric:
        info = GaugeMetricFamily(
            "hotrow_model_info", "The models that are served; always 1.", labels=tuple(self.models[0])
        )
        for model in self.models:
            info.add_metric(tuple(model.values()), 1.0)
        return info


def _request_families(
    layout: SlotLayout, totals: Totals, exemplars: Mapping[int, ExemplarOf]
) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "hotrow_request_duration_seconds",
        "Time from the whole request to its response.",
        labels=("route", "method", "code"),
    )
    first = next(iter(layout.duration.values()))
    table = totals[first.first : first.first + len(layout.duration) * first.size].reshape(-1, first.size)
    counted = set(np.flatnonzero(table.any(axis=1)).tolist())
    # Of 1,360 series a page has a dozen: the others are not even looked at.
    for place in sorted(counted | _FROM_THE_START):
        labels = REQUEST_LABELS[place]
        histogram = layout.duration[labels]
        if place in counted:
            traced = [exemplars.get(slot) for slot in range(histogram.first, histogram.sum_slot)]
            _add_histogram(durations, labels, histogram.bounds, table[place], traced)
        else:
            _add_histogram(durations, labels, (OBJECTIVE_SECONDS,), np.zeros(3))
    yield durations
    yield GaugeMetricFamily(
        "hotrow_requests_in_flight", "Requests being answered.", value=float(totals[layout.in_flight])
    )
    yield _counters("hotrow_shed", "Requests refused to protect the others.", "reason", layout.shed, totals)
    yield _counters(
        "hotrow_model_reloads", "Times the model folders were read again.", "result", layout.reloads, totals
    )
    yield GaugeMetricFamily(
        "hotrow_model_reload_in_progress",
        "Whether the model folders are being read again, or workers of the old models still answer.",
        value=float(totals[layout.reloading]),
    )


def _prediction_families(layout: SlotLayout, totals: Totals) -> Iterator[Metric]:
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
        parts = {outcome: at for (model, outcome), at in layout.predictions.items() if model == label}
        counts = {outcome: totals[at.first : at.first + at.size] for outcome, at in parts.items()}
        for outcome, of_outcome in counts.items():
            decisions.add_metric((label, outcome), float(of_outcome[:-1].sum()))
        family = value if VALUE in parts else probability
        bounds = next(iter(parts.values())).bounds
        _add_histogram(family, (label,), bounds, np.sum(list(counts.values()), axis=0))
    yield from (decisions, probability, value)
    yield _counters(
        "hotrow_challenger_rows",
        "Rows that a challenger was given, by what became of them.",
        "model challenger result",
        {(*key, result): slot for key, slots in layout.challengers.items() for result, slot in slots.items()},
        totals,
    )
    yield _counters(
        "hotrow_group_decisions",
        "Rows that said which group they are of, by decision or class.",
        "model field group decision",
        {(*key, outcome): slot for key, slots in layout.groups.items() for outcome, slot in slots.items()},
        totals,
    )
    yield _refused_fields(layout, totals)


def _refused_fields(layout: SlotLayout, totals: Totals) -> Metric:
    """Of the fields and reasons those that came: a model of 600 need not fill the page."""
    slots = {
        (label, field, reason): slot
        for label, firsts in layout.refused.items()
        for field, first in firsts.items()
        for slot, reason in enumerate(REFUSED_REASONS, first)
        if totals[slot]
    }
    meaning = 'Fields that rows were refused for; field "" stands for those that are no feature.'
    return _counters("hotrow_refused_fields", meaning, "model field reason", slots, totals)


def _log_families(shared: SharedMetrics, totals: Totals) -> Iterator[Metric]:
    layout = shared.layout
    yield GaugeMetricFamily(
        "hotrow_log_queue_bytes",
        "Responses whose lines wait to be written.",
        value=float(shared.unread_bytes()),
    )
    yield GaugeMetricFamily(
        "hotrow_log_oldest_unwritten_seconds",
        "How long the oldest response has waited for its line to be written.",
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
    meaning = "Spans of OpenTelemetry, by what became of them."
    yield _counters("hotrow_spans", meaning, "result", layout.spans, totals)
    yield _counters("hotrow_log_dropped", "Log lines lost, by reason.", "reason", layout.dropped, totals)


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


def _counters(name: str, meaning: str, labels: str, slots: Mapping[Any, int], totals: Totals) -> Metric:
    """A counter for each slot, by its label or its labels."""
    family = CounterMetricFamily(name, meaning, labels=labels.split())
    for key, slot in slots.items():
        family.add_metric((key,) if isinstance(key, str) else key, float(totals[slot]))
    return family


def _add_histogram(
    family: HistogramMetricFamily,
    labels: Sequence[str],
    bounds: Sequence[float],
    counts: Totals,
    traced: Sequence[ExemplarOf | None] = (),
) -> None:
    """Add counts by bucket, the sum behind them; to each bucket its exemplar, for OpenMetrics."""
    cumulative = np.cumsum(counts[:-1]).tolist()
    names = [*map(repr, bounds), "+Inf"]
    buckets = zip(names, cumulative, traced or [None] * len(names), strict=True)
    family.add_metric(labels, [_bucket(*bucket) for bucket in buckets], sum_value=float(counts[-1]))


def _bucket(
    name: str, count: float, traced: ExemplarOf | None
) -> tuple[str, float] | tuple[str, float, Exemplar]:
    if traced is None:
        return name, count
    labels = {"trace_id": traced.trace_id, "span_id": traced.span_id}
    return name, count, Exemplar(labels, traced.seconds, traced.ended)
