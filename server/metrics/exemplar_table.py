"""Exemplars in the shared memory: of a bucket of a histogram the latest request with a sampled trace.

One process writes them, the one that sends spans, any worker reads. An entry holds whole
numbers that a float64 holds exactly; its key is written last and taken away first, so that a
reader sees it whole or not at all.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

#: Buckets that can have an exemplar at once; beyond, the one that was written first gives its place.
ENTRIES = 128
_ENTRY_SLOTS = 8
SLOTS = ENTRIES * _ENTRY_SLOTS


class ExemplarOf(NamedTuple):
    """A request: its seconds, when it ended in seconds since the epoch, its trace and span in hex digits."""

    seconds: float
    ended: float
    trace_id: str
    span_id: str


class ExemplarTable:
    """The entries from the slot `first` on of the shared metrics' first region."""

    def __init__(self, values: "memoryview[float]", first: int) -> None:
        self._values = values[first : first + SLOTS]
        self._places: dict[int, int] = {}

    def keep(
        self,
        histogram: int,
        bounds: Sequence[float],
        seconds: float,
        ended: float,
        trace_id: int,
        span_id: int,
    ) -> None:
        """Keep a request for its bucket of the histogram that begins at the slot `histogram`."""
        bucket = histogram + bisect_left(bounds, seconds)
        place = self._places.pop(bucket, None)
        if place is None:
            place = len(self._places)
            if place == ENTRIES:
                place = self._places.pop(next(iter(self._places)))
        self._places[bucket] = place
        trace = (trace_id >> 80, trace_id >> 32 & 2**48 - 1, trace_id & 2**32 - 1)
        entry = (seconds, ended, *trace, span_id >> 32, span_id & 2**32 - 1)
        values, at = self._values, place * _ENTRY_SLOTS
        values[at] = 0.0
        for position, value in enumerate(entry, at + 1):
            values[position] = value
        values[at] = bucket + 1.0

    def clear(self) -> None:
        for at in range(0, SLOTS, _ENTRY_SLOTS):
            self._values[at] = 0.0

    def read(self) -> dict[int, ExemplarOf]:
        """The exemplars that there are, by the slot of their bucket."""
        found, values = {}, self._values.tolist()
        for at in range(0, SLOTS, _ENTRY_SLOTS):
            if not values[at]:
                continue
            key, seconds, ended, *parts = entry = values[at : at + _ENTRY_SLOTS]
            if self._values[at : at + _ENTRY_SLOTS].tolist() == entry:  # else it is being written
                high, middle, low, span_high, span_low = map(int, parts)
                trace_id, span_id = f"{high:012x}{middle:012x}{low:08x}", f"{span_high:08x}{span_low:08x}"
                found[int(key) - 1] = ExemplarOf(seconds, ended, trace_id, span_id)
        return found
