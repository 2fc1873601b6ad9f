"""Latencies in an HDR histogram: percentiles to three digits, whatever the range."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]  # it ships none

LOWEST_NS, HIGHEST_NS, DIGITS = 1, 60_000_000_000, 3
PERCENTS = {"p50_us": 50.0, "p90_us": 90.0, "p99_us": 99.0, "p999_us": 99.9, "max_us": 100.0}

Nanoseconds = npt.NDArray[np.int64]


def percentiles_us(latencies_ns: Nanoseconds) -> dict[str, float]:
    """p50, p90, p99, p99.9 and the largest of latencies, int64 [n] in ns; 0 without any."""
    histogram = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
    # Equal values are recorded together: one by one the histogram takes 2 us each.
    rounded = np.clip(latencies_ns // 100 * 100, LOWEST_NS, HIGHEST_NS)
    for value, count in zip(*np.unique(rounded, return_counts=True), strict=True):
        histogram.record_value(int(value), int(count))
    return {name: histogram.get_value_at_percentile(percent) / 1000 for name, percent in PERCENTS.items()}


def as_array(latencies_ns: Iterable[int]) -> Nanoseconds:
    """Latencies as an array."""
    return np.fromiter(latencies_ns, dtype=np.int64)
