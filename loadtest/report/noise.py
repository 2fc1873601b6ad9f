"""Whether two runs differ by more than runs differ by themselves.

Each run is a sample of seconds. The change is that of the medians, its interval
a bootstrap over blocks of neighbouring seconds, which are alike (Künsch, The
jackknife and the bootstrap for general stationary observations, 1989). Seconds of
one run are more alike than seconds of two runs of the same code: memory lies elsewhere, neighbours come and
go. So each figure also has a floor, what two runs of the same code were seen to
differ by, and only a change whose whole interval lies beyond the floor counts.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
#: Eight figures are looked at, so each must be surer than 95 %.
CONFIDENCE = 0.995
MIN_SECONDS = 4
#: Trouble of other processes lasts for some seconds.
BLOCK_SECONDS = 3
#: A second in which other work took more of the machine than this is left out.
QUIET_SHARE = 0.10

Floats = npt.NDArray[np.float64]


class MedianInterval(NamedTuple):
    """The median of some rounds, and between what it lies with 95 %."""

    median: float
    low: float
    high: float


def median_interval(rounds: Sequence[float]) -> MedianInterval:
    """By a bootstrap over the rounds: a disturbed one moves neither much."""
    values, random = np.array(rounds), np.random.default_rng(0)
    medians = np.median(values[random.integers(0, len(values), (RESAMPLES, len(values)))], axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return MedianInterval(float(np.median(values)), float(low), float(high))


class Figure(NamedTuple):
    """One figure of a second, which way is better, and the change that means nothing.

    `floor` is a part of the earlier value, except where `absolute`; `busy_floor`
    stands in for it when other work used the machine, None for a figure of which
    nothing can be said then.
    """

    key: str
    label: str
    better: Literal["less", "more"]
    floor: float
    busy_floor: float | None = None
    scale: float = 1.0
    unit: str = ""
    absolute: bool = False


FIGURES = (
    Figure("requests_per_second", "requests/s", "more", 0.12),
    Figure("p50_us", "p50", "less", 0.15, scale=1e-3, unit="ms"),
    Figure("p90_us", "p90", "less", 0.15, scale=1e-3, unit="ms"),
    Figure("p99_us", "p99", "less", 0.30, scale=1e-3, unit="ms"),
    Figure("p999_us", "p99.9", "less", 0.60, scale=1e-3, unit="ms"),
    # The kernel counts the server's own time, whoever else computes: only caches are shared.
    Figure("cpu_us_per_request", "server CPU per request", "less", 0.10, 0.25, unit="us"),
    Figure("rss_mb", "server memory", "less", 0.05, 0.05, unit="MB"),
    Figure("error_rate", "failed", "less", 0.001, 0.001, scale=100.0, unit="%", absolute=True),
)


class Difference(NamedTuple):
    """A figure in both runs, with quartiles, and the change with its interval.

    `verdict` is `same`, `better`, `worse`, or `unknown` where too few quiet
    seconds were left.
    """

    figure: Figure
    before: tuple[float, float, float]
    after: tuple[float, float, float]
    change: float
    low: float
    high: float
    verdict: Literal["same", "better", "worse", "unknown"]


def quiet(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The measured seconds in which nothing else used the machine."""
    return [row for row in rows if row["measured"] and row["others_cpu_share"] <= QUIET_SHARE]


def compare_figure(
    figure: Figure, before: Sequence[float | None], after: Sequence[float | None], *, busy: bool = False
) -> Difference:
    """The difference of one figure between the seconds of two runs.

    `busy` says that other work used the machine in them; None is a second without
    that figure, as of a server elsewhere.
    """
    a, b = _known(before), _known(after)
    change, low, high = _change(figure, a, b)
    verdict: Literal["same", "better", "worse", "unknown"] = "same"
    floor = figure.busy_floor if busy else figure.floor
    if floor is None or min(len(a), len(b)) < MIN_SECONDS:
        verdict = "unknown"
    elif low > floor:
        verdict = "better" if figure.better == "more" else "worse"
    elif high < -(floor if figure.absolute else floor / (1.0 + floor)):  # a fall is as far as a rise
        verdict = "better" if figure.better == "less" else "worse"
    return Difference(figure, _quartiles(a), _quartiles(b), change, low, high, verdict)


def _known(values: Sequence[float | None]) -> Floats:
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return numbers[~np.isnan(numbers)]


def _change(figure: Figure, a: Floats, b: Floats) -> tuple[float, float, float]:
    if not len(a) or not len(b):
        return (float("nan"),) * 3
    random = np.random.default_rng(0)
    medians_a, medians_b = (np.median(_resampled(x, random), axis=1) for x in (a, b))
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(_relative(figure, medians_a, medians_b), (tail, 1.0 - tail))
    return float(_relative(figure, np.median(a), np.median(b))), float(low), float(high)


def _resampled(values: Floats, random: np.random.Generator) -> Floats:
    """Blocks of neighbouring values in random order, [RESAMPLES, n] or somewhat more."""
    length = min(BLOCK_SECONDS, len(values))
    starts = random.integers(0, len(values) - length + 1, (RESAMPLES, math.ceil(len(values) / length)))
    drawn: Floats = values[starts[:, :, None] + np.arange(length)].reshape(RESAMPLES, -1)
    return drawn


def _relative(figure: Figure, a: Any, b: Any) -> Any:
    return b - a if figure.absolute else b / np.maximum(a, 1e-12) - 1.0


def _quartiles(values: Floats) -> tuple[float, float, float]:
    if not len(values):
        return (float("nan"),) * 3
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)
