"""Percentiles of latencies, and what they are called."""

import numpy as np
import numpy.typing as npt

PERCENTS = {"p50_us": 50.0, "p90_us": 90.0, "p99_us": 99.0, "p999_us": 99.9, "max_us": 100.0}
LABELS = {"p50_us": "p50", "p90_us": "p90", "p99_us": "p99", "p999_us": "p99.9", "max_us": "max"}


def percentiles_us(latencies_ns: npt.ArrayLike) -> dict[str, float]:
    """p50, p90, p99, p99.9 and the largest of latencies in ns, each one that occurred; 0 without any."""
    latencies = np.asarray(latencies_ns, dtype=np.int64)
    if not len(latencies):
        return dict.fromkeys(PERCENTS, 0.0)
    found = np.percentile(latencies, list(PERCENTS.values()), method="inverted_cdf")
    return dict(zip(PERCENTS, (found / 1000).tolist(), strict=True))
