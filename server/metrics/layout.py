"""Where each counter lies in a worker's region of the shared memory."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from server.errors import BundleError
from server.metrics import exemplar_table
from server.metrics.drift_slots import DriftSlots
from server.metrics.names import (
    CHALLENGER_RESULTS,
    DROP_REASONS,
    REFUSED_REASONS,
    RELOAD_RESULTS,
    REQUEST_LABELS,
    SHED_REASONS,
    SPAN_RESULTS,
    STATISTICS,
    VALUE,
)
from server.model.distribution import Reference

#: Upper bounds in seconds. The library's own buckets start at 5 ms, where every
#: request of this server would fall into the first.
DURATION_BUCKETS = (
    20e-6, 30e-6, 40e-6, 50e-6, 75e-6, 100e-6, 150e-6, 200e-6, 300e-6, 500e-6, 750e-6,
    1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 10e-3, 25e-3, 100e-3, 500e-3, 2.0,
)  # fmt: skip
PROBABILITY_BUCKETS = tuple(i / 20 for i in range(1, 21))

#: Room in every region for models that a reload brings: some 500 like the shipped
#: one. The kernel gives a page of it when it is written to, not before.
SPARE_SLOTS = 2**18


def _prediction_bounds(outcome: str, reference: Reference | None) -> Sequence[float]:
    """The upper bounds of a probability's histogram, or of a value's: those of the training scores."""
    if outcome != VALUE:
        return PROBABILITY_BUCKETS
    return reference.score.edges if reference is not None else ()


class Histogram(NamedTuple):
    """Where a histogram lies in a region: one slot a bucket, one above, the sum."""

    bounds: Sequence[float]
    first: int

    @property
    def size(self) -> int:
        return len(self.bounds) + 2

    @property
    def sum_slot(self) -> int:
        """The slot of the sum, its last."""
        return self.first + len(self.bounds) + 1


class SlotLayout:
    """The slots of one worker's region, the same for every worker.

    `models` are pairs of a bundle's label and what its predictions are counted
    as: two decisions, classes, or the empty name alone for a predicted value.
    `references` are what drift is measured against, by label. Models that come
    later are registered; those that were served keep their slots, so no counter falls.
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
        self.spans = {result: self._take() for result in SPAN_RESULTS}
        self.exemplars = self._take(exemplar_table.SLOTS)
        self.reloading = self._take()
        self.reloads = {result: self._take() for result in RELOAD_RESULTS}
        # One addition counts the outcome, and its probability or value.
        self.predictions: dict[tuple[str, str], Histogram] = {}
        self.statistics: dict[str, dict[str, int]] = {}
        self.drift: dict[str, DriftSlots] = {}
        #: Fields of rows that were refused, by model: a slot for each reason, of which the first is told;
        #: under "" those that are no feature.
        self.refused: dict[str, dict[str, int]] = {}
        #: Decisions by model, field and group.
        self.groups: dict[tuple[str, str, str], dict[str, int]] = {}
        #: What became of rows that a challenger was given, by the labels of champion and challenger.
        self.challengers: dict[tuple[str, str], dict[str, int]] = {}
        self.duration = {labels: self._histogram(DURATION_BUCKETS) for labels in REQUEST_LABELS}
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
            if (label, outcome) not in self.predictions:
                self.predictions[label, outcome] = self._histogram(_prediction_bounds(outcome, reference))
        if label not in self.statistics:
            self.statistics[label] = {name: self._take() for name in STATISTICS}
        known = self.drift.get(label)
        if reference is not None and (known is None or known.reference != reference):
            self.drift[label] = DriftSlots(reference, self._take)

    def history_plan(self) -> dict[str, Any]:
        """Where the counters lie of which the observer tells minute by minute, but for a model's, as JSON."""
        return {
            "durations": next(iter(self.duration.values())).first,
            "bounds": DURATION_BUCKETS,
            "dropped": self.dropped,
            "shed": list(self.shed.values()),
        }

    def tracing_plan(self) -> dict[str, Any]:
        """Where it is counted what became of spans, and exemplars are kept, as JSON."""
        return {
            "slots": self.spans,
            "exemplars": self.exemplars,
            "durations": next(iter(self.duration.values())).first,
            "bounds": DURATION_BUCKETS,
        }

    def register_fields(self, label: str, names: Sequence[str]) -> None:
        """Give the fields of a model their slots, as far as they have none; raises as `register`."""
        refused = self.refused.setdefault(label, {})
        for name in ("", *names):
            if name not in refused:
                refused[name] = self._take(len(REFUSED_REASONS))

    def register_groups(
        self, label: str, fields: Mapping[str, Sequence[str]], outcomes: Sequence[str]
    ) -> None:
        """Give decisions by group their slots, as far as they have none; raises as `register`."""
        for field, groups in fields.items():
            for group in groups:
                known = self.groups.setdefault((label, field, group), {})
                for outcome in outcomes:
                    if outcome not in known:
                        known[outcome] = self._take()

    def register_challenger(self, label: str, challenger: str) -> None:
        """Give the challenger of a model its slots, unless it has them; raises as `register`."""
        if (label, challenger) not in self.challengers:
            self.challengers[label, challenger] = {name: self._take() for name in CHALLENGER_RESULTS}

    def _take(self, slots: int = 1) -> int:
        first, end = self._next, self._next + slots
        if self.slots and end > self.slots:
            raise BundleError(
                "expected room for the counts of one more model, got none: restart the server to load it"
            )
        self._next = end
        return first

    def _histogram(self, bounds: Sequence[float]) -> Histogram:
        histogram = Histogram(bounds, self._next)
        self._take(histogram.size)
        return histogram
