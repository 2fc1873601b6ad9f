"""Counters in memory that all workers share, summed by whichever worker is scraped.

Every worker adds to its own region of one anonymous shared mapping, made before
the workers are forked. So a scrape of any worker sees all of them, a killed
worker's counts stay, its successor goes on from them, and there is no file that
could be left half-written or fill a disk. Adding costs two memory accesses,
without a lock: a region has one writer.
"""

import math
import mmap
import os
import time
import weakref
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import psutil

from server.errors import Reason
from server.metrics.exemplar_table import ExemplarOf, ExemplarTable
from server.metrics.layout import Histogram, SlotLayout
from server.metrics.names import CODES, METHODS, OTHER, REFUSED_REASONS, route_label
from server.model.bundle import Bundle

Totals: TypeAlias = npt.NDArray[np.float64]


class RingFigures(Protocol):
    """What there is to tell of one worker's ring of the prediction log."""

    @property
    def unread_bytes(self) -> int: ...
    @property
    def beat_ns(self) -> int: ...
    def oldest_ns(self) -> int | None: ...


class SharedMetrics:
    """The regions of all workers; made once, before the first fork."""

    def __init__(self, layout: SlotLayout, workers: int) -> None:
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
        """How long the oldest response of any worker has waited for its line; 0 if none waits.

        Told from when the response was given, so an observer that is dead shows, too.
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

    def exemplars(self) -> dict[int, ExemplarOf]:
        """Requests with a trace, by the slot of the bucket that they fell into."""
        return ExemplarTable(self.region(0), self.layout.exemplars).read()

    def statistics(self, label: str) -> dict[str, int]:
        """The statistics of a model: sums over the workers, and the time of its last inference."""
        slots, totals = self.layout.statistics[label], self.totals()
        last = max(self.region(worker)[slots["last_ms"]] for worker in range(self.workers))
        return {name: int(totals[slot]) for name, slot in slots.items()} | {"last_ms": int(last)}


class WorkerMetrics:
    """What one worker counts; for the event loop's thread alone.

    The slots of drift, and of lines lost to a disk or a failure, are the observer's.
    """

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
        predictions = [self.shared.layout.predictions[label, outcome] for outcome in outcomes]
        firsts, bounds, total = [a.first for a in predictions], predictions[0].bounds, predictions[0].sum_slot
        if task == "multiclass":

            def count_class(probabilities: list[float], outcome: int) -> None:
                probability = probabilities[outcome]
                values[firsts[outcome] + bisect_left(bounds, probability)] += 1.0
                values[total] += probability

            return count_class

        def count(output: float, decision: int) -> None:
            values[firsts[decision] + bisect_left(bounds, output)] += 1.0
            values[total] += output

        return count

    def drift_plan(
        self, label: str, names: Sequence[str], hidden: Container[str], window_rows: int
    ) -> dict[str, Any] | None:
        """How the observer counts one model's rows, None if it has no reference."""
        slots = self.shared.layout.drift.get(label)
        return None if slots is None else slots.plan(names, hidden, window_rows)

    def groups_plan(self, label: str, hidden: Container[str]) -> dict[str, Any] | None:
        """How the observer counts a model's decisions by group, as JSON; None if there are none to count.

        Fields that a mask hides are left out.
        """
        fields: dict[str, dict[str, dict[str, int]]] = {}
        for (model, field, group), slots in self.shared.layout.groups.items():
            if model == label and field not in hidden:
                fields.setdefault(field, {})[group] = slots
        return {"fields": fields} if fields else None

    def challenger_plan(self, label: str, challenger: Bundle) -> dict[str, Any] | None:
        """How the observer has a model's challenger scored, as JSON; None if it came after the counters."""
        slots = self.shared.layout.challengers.get((label, challenger.label))
        told = {"champion": label, "label": challenger.label, "digest": challenger.digest}
        folder = os.fspath(challenger.directory)
        return None if slots is None else {**told, "directory": folder, "slots": slots}

    def count_rejected(self, label: str, fields: Iterable[tuple[str, Reason]]) -> None:
        """Count fields that a row was refused for, and why."""
        slots = self.shared.layout.refused.get(label, {})
        for field, reason in fields:
            first = slots.get(field, slots.get(""))
            if first is not None:
                self._values[first + REFUSED_REASONS.index(reason)] += 1.0

    def history_plan(self, label: str, outcomes: Sequence[str]) -> dict[str, Any]:
        """Where one model's counters lie of which the observer tells minute by minute, as JSON."""
        layout = self.shared.layout
        return {
            "label": label,
            "answers": [[outcome, layout.predictions[label, outcome].first] for outcome in outcomes],
            "bounds": layout.predictions[label, outcomes[0]].bounds,
            "refused": layout.refused.get(label, {}),
            "reasons": len(REFUSED_REASONS),
        }

    def scored_rows(
        self, label: str, outcomes: Sequence[str], task: str
    ) -> Callable[[Sequence[Any], npt.NDArray[np.intp]], None]:
        """A function that counts many rows' answers and the indices of their outcomes, int [n]."""
        values = self._values
        predictions = [self.shared.layout.predictions[label, outcome] for outcome in outcomes]

        def count(outputs: Sequence[Any], found: npt.NDArray[np.intp]) -> None:
            observed = np.asarray(outputs, dtype=np.float64)
            if task == "multiclass":
                observed = observed[np.arange(len(found)), found]
            buckets = np.searchsorted(predictions[0].bounds, observed, side="left")
            for outcome, at in enumerate(predictions):
                for bucket, number in enumerate(np.bincount(buckets[found == outcome]).tolist()):
                    values[at.first + bucket] += number
            values[predictions[0].sum_slot] += math.fsum(observed.tolist())

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

    def lines_dropped(self, reason: str) -> int:
        """The log lines dropped for `reason` until now, of workers before in this one's place, too."""
        return int(self._values[self.shared.layout.dropped[reason]])

    def shed(self, reason: str) -> Callable[[], None]:
        """A function that counts a request refused for `reason`."""
        return self._incrementer(self.shared.layout.shed[reason])

    def add_in_flight(self, change: int) -> None:
        """One request more, or less, between arrival and answer."""
        self._values[self.shared.layout.in_flight] += change

    def span_dropped(self) -> None:
        """Count a span that found no room in the ring."""
        self._values[self.shared.layout.spans["log_full"]] += 1.0

    def _incrementer(self, slot: int) -> Callable[[], None]:
        values = self._values

        def increment() -> None:
            values[slot] += 1.0

        return increment

    def _observer(self, histogram: Histogram) -> Callable[[float], None]:
        values, bounds, first, total = self._values, histogram.bounds, histogram.first, histogram.sum_slot

        def observe(value: float) -> None:
            values[first + bisect_left(bounds, value)] += 1.0
            values[total] += value

        return observe
