"""Stretches of time that do not look like the others, and why."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from monitoring.change_point import change_point
from monitoring.report.figures import Figures, Periods, Series

#: Robust standard deviations from the median: under a normal distribution one in
#: 500 million periods lies further out.
FAR = 6.0
#: And so much of the median at least, for a steady figure has tiny deviations.
MINIMUM_CHANGE = 0.3
MINIMUM_REQUESTS = 20
MINIMUM_PERIODS = 16
#: A share of few decisions: one period in two million by chance.
FAR_SHARE = 5.0
#: Two rates on either side of the most striking moment: that many deviations, and so many times the other.
FAR_CHANGE, CHANGED = 7.0, 1.5
#: The middle half of the values is this many standard deviations wide, if they are normal.
_QUARTILES = 1.349


@dataclass(frozen=True)
class Anomaly:
    """One stretch of periods, `first` to `last` by index, with what is odd about it."""

    figure: str
    first: int
    last: int
    since: datetime
    why: str


def anomalies(figures: Figures) -> list[Anomaly]:
    """The anomalies of a log, in the order of time."""
    periods = figures.periods
    if len(periods.starts) < MINIMUM_PERIODS:
        return []
    enough = periods.requests >= MINIMUM_REQUESTS
    odd: list[Anomaly] = []
    for figure, values, unit in (
        ("latency", periods.latency_p50, "µs median latency"),
        ("tail", periods.latency_p99, "µs at p99"),
        ("cpu", periods.cpu, "% CPU"),
        ("memory", periods.memory, "MiB memory"),
    ):
        odd += _outliers(figure, values, unit, enough, periods)
    odd += _refusals(figures)
    odd += _silences(periods)
    return sorted(odd, key=lambda anomaly: (anomaly.first, anomaly.figure))


def _outliers(
    figure: str, values: Series, unit: str, enough: npt.NDArray[np.bool_], periods: Periods
) -> Iterator[Anomaly]:
    known = values[enough & ~np.isnan(values)]
    if len(known) < MINIMUM_PERIODS:
        return
    low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
    deviation = max((high - low) / _QUARTILES, MINIMUM_CHANGE * median / FAR, 1e-9)
    far = enough & (np.nan_to_num(values, nan=median) > median + FAR * deviation)

    def why(part: slice) -> str:
        return f"{np.nanmax(values[part]):,.0f} {unit}, typically {median:,.0f}"

    yield from _runs(figure, far, why, periods)


def _refusals(figures: Figures) -> Iterator[Anomaly]:
    """Another rate of refusals from some period on, and periods unlike the others between two such."""
    periods = figures.periods
    counts = np.nan_to_num(np.stack([periods.refused, periods.scored - periods.refused], axis=1))
    begins = [*_changes(counts.astype(np.int64)), len(counts)]
    then = math.nan
    for first, end in pairwise([0, *begins]):
        now = float(counts[first:end, 0].sum() / max(1.0, counts[first:end].sum()))
        if first:
            why = f"{now:.1%} of decisions are “{figures.refusal}” since then, {then:.1%} before"
            yield Anomaly("refusals", first, end - 1, periods.starts[first], why)
        yield from _odd_refusals(figures, slice(first, end), now)
        then = now


def _changes(counts: npt.NDArray[np.int64]) -> list[int]:
    """The rows of counts, int64 [periods, 2], with which a rate begins that lasts, in order.

    Too little in each period, and much in all: both sides of the most striking moment, and
    each of these again.
    """
    at = change_point(counts)
    before, after = counts[:at].sum(axis=0), counts[at:].sum(axis=0)
    if not at or min(before.sum(), after.sum()) < MINIMUM_REQUESTS * MINIMUM_PERIODS:
        return []
    then, now, overall = before[0] / before.sum(), after[0] / after.sum(), counts[:, 0].sum() / counts.sum()
    deviation = np.sqrt(overall * (1 - overall) * (1 / before.sum() + 1 / after.sum()))
    if abs(now - then) <= FAR_CHANGE * deviation or max(now, then) <= CHANGED * min(now, then):
        return []
    return [*_changes(counts[:at]), at, *(at + later for later in _changes(counts[at:]))]


def _odd_refusals(figures: Figures, among: slice, rate: float) -> Iterator[Anomaly]:
    """Rates that chance alone would not give where this one is usual: five binomial deviations off."""
    periods = figures.periods
    if not 0.0 < rate < 1.0:
        return
    n = np.maximum(periods.scored, 1.0)
    away = np.abs(periods.refused / n - rate) / np.sqrt(rate * (1 - rate) / n)
    far = np.zeros(len(n), dtype=np.bool_)
    far[among] = ((away > FAR_SHARE) & (periods.scored >= MINIMUM_REQUESTS))[among]

    def why(part: slice) -> str:
        share = periods.refused[part].sum() / max(1.0, periods.scored[part].sum())
        return f"{share:.1%} of decisions are “{figures.refusal}”, {rate:.1%} around then"

    yield from _runs("refusals", far, why, periods)


def _silences(periods: Periods) -> Iterator[Anomaly]:
    """No requests where, at the usual pace, there would have been many."""
    usual = float(np.median(periods.requests))
    silent = (periods.requests == 0) & (usual >= MINIMUM_REQUESTS)

    def why(part: slice) -> str:
        seconds = (part.stop - part.start) * periods.seconds
        return f"no requests for {seconds:,.3g} s, typically {usual:,.0f} in {periods.seconds:,.3g} s"

    yield from _runs("requests", silent, why, periods)


def _runs(
    figure: str, far: npt.NDArray[np.bool_], why: Callable[[slice], str], periods: Periods
) -> Iterator[Anomaly]:
    """Neighbouring odd periods as one anomaly."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], far.astype(np.int8), [0]])))
    for first, end in edges.reshape(-1, 2).tolist():
        yield Anomaly(figure, first, end - 1, periods.starts[first], why(slice(first, end)))
