"""What a log says: requests, latency, CPU and memory, scores and refusals, over time and in all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.logs.table import ORIGINAL_DECISIONS, LogTable

#: So many periods the time is cut into at most, with so many requests each on average at least.
MAX_PERIODS = 240
REQUESTS_PER_PERIOD = 30
#: Periods a moving average is taken over.
MOVING_PERIODS = 7
SCORE_BINS = 50
MICROSECOND = timedelta(microseconds=1)
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}

Series = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Mean, quantiles and ends of one column; NaN if it is nowhere."""

    mean: float
    p50: float
    p95: float
    p99: float
    minimum: float
    maximum: float

    def to_dict(self) -> dict[str, float | None]:
        """The figures by name, None where the column is nowhere."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Periods:
    """Figures of equal stretches of time, float64 [periods], NaN where nothing came.

    `seconds` is the length of one, `starts` their beginnings.
    """

    seconds: float
    starts: list[datetime]
    requests: Series
    latency_mean: Series
    latency_p50: Series
    latency_p99: Series
    cpu: Series
    memory: Series
    scored: Series
    refused: Series


@dataclass(frozen=True)
class Figures:
    """Everything the report shows of a log except drift and anomalies.

    Latencies are microseconds, memory MiB, rates shares of 1. `outcomes` are the
    decisions or classes with their shares, most frequent first, none of a model of
    values; `refusal` is the one that is followed over time: of decisions that of the
    highest scores, of classes the most frequent, empty if there is none.
    `score_edges` are the bounds of the bins that `score_counts` counts. `others` are
    the lines of other models that were left out, `doubled` those that were there
    twice, `astray` those whose time cannot be right.
    """

    files: int
    requests: int
    rows: int
    unreadable: int
    first: datetime
    last: datetime
    models: list[str]
    others: Mapping[str, int]
    doubled: int
    astray: int
    latency: Spread
    cpu: Spread
    memory: Spread
    score: Spread
    outcomes: list[tuple[str, float]]
    refusal: str
    refusal_rate: float
    score_edges: Series
    score_counts: npt.NDArray[np.int64]
    slowest: list[tuple[datetime, str, float]]
    periods: Periods

    @property
    def seconds(self) -> float:
        """From the first request to the last."""
        return (self.last - self.first).total_seconds()

    @property
    def pace(self) -> tuple[str, int]:
        """The shortest unit in which there is a request, else the longest, and its seconds."""
        per_second = self.requests / self.seconds if self.seconds else float(self.requests)
        frequent = (item for item in _UNITS.items() if per_second * item[1] >= 1)
        return next(frequent, ("day", _UNITS["day"]))


def figures(
    log: LogTable, decisions: Sequence[str] = ORIGINAL_DECISIONS, refusal: str = ORIGINAL_DECISIONS[1]
) -> Figures:
    """The figures of a log; `decisions` are the words that a bundle has, `refusal` that for high scores.

    A log with other words was written under others: what they mean is told by the scores.
    """
    requests, first, last = log.row("select count(*), min(ts), max(ts) from requests")
    if first is None:
        raise LogError(f"expected lines with a time in {log.files[0]}, got none that can be right")
    (rows,) = log.row("select count(*) from scored")
    outcomes = _outcomes(log)
    known = bool(outcomes) and {word for word, _ in outcomes} <= set(decisions)
    refusal = refusal if known else _refusal(log)
    edges = _score_edges(log)
    return Figures(
        files=len(log.files),
        requests=requests,
        rows=rows,
        unreadable=log.unreadable,
        first=first,
        last=last,
        models=[name for (name,) in log.rows("select distinct model from requests order by 1") if name],
        others=log.others,
        doubled=log.doubled,
        astray=log.astray,
        latency=_spread(log, "duration_us", "requests"),
        cpu=_spread(log, "cpu_percent", "requests"),
        memory=_spread(log, "rss_mb", "requests"),
        score=_spread(log, "score", "scored"),
        outcomes=outcomes,
        refusal=refusal,
        refusal_rate=dict(outcomes).get(refusal, 0.0 if outcomes else float("nan")),
        score_edges=edges,
        score_counts=_score_counts(log, edges),
        slowest=log.rows(
            "select ts, coalesce(id, ''), duration_us from requests where ts is not null "
            "order by duration_us desc nulls last, id limit 10"
        ),
        periods=_periods(log, requests, first, last, refusal),
    )


def moving_average(values: Series, periods: int = MOVING_PERIODS) -> Series:
    """The mean of each value and its neighbours, `periods` in all; NaN is left out."""
    present = ~np.isnan(values)
    ones = np.ones(min(periods, len(values)))
    sums = np.convolve(np.where(present, values, 0.0), ones, "same")
    counts = np.convolve(present.astype(float), ones, "same")
    averages: Series = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return averages


def _is(decision: str) -> str:
    return f"decision = {literal(decision)}"


def _outcomes(log: LogTable) -> list[tuple[str, float]]:
    query = (
        "select decision, count(*) / sum(count(*)) over () share from scored where decision is not null "
        "group by 1 order by 2 desc, 1"
    )
    return log.rows(query)


def _refusal(log: LogTable) -> str:
    """The decision that stands for high scores; of more than two classes the most frequent."""
    query = "select decision, avg(score), count(*) from scored where decision is not null group by 1"
    found = log.rows(query)
    if not found:
        return ""
    of_classes = len(found) > 2
    return str(max(found, key=lambda row: (row[2] if of_classes else row[1] or 0.0, row[0]))[0])


def _score_edges(log: LogTable) -> Series:
    """Bounds of equal bins: from 0 to 1 of probabilities, else from the least value to the largest."""
    low, high = log.row("select min(score), max(score) from scored where isfinite(score)")
    if low is None or (low >= 0.0 and high <= 1.0):
        low, high = 0.0, 1.0
    return np.linspace(low, high, SCORE_BINS + 1)


def _spread(log: LogTable, column: str, table: str) -> Spread:
    found = log.row(
        f"select avg({column}), quantile_cont({column}, [0.5, 0.95, 0.99]), min({column}), max({column}) "
        f"from {table}"
    )
    mean, quantiles, minimum, maximum = found
    nan = float("nan")
    values = (mean, *(quantiles or (nan, nan, nan)), minimum, maximum)
    return Spread(*(nan if value is None else float(value) for value in values))


def _score_counts(log: LogTable, edges: Series) -> npt.NDArray[np.int64]:
    counts = np.zeros(SCORE_BINS, dtype=np.int64)
    low, width = float(edges[0]), float(edges[-1] - edges[0])
    query = (
        f"select least(floor((score - {low!r}) / {width!r} * {SCORE_BINS}), {SCORE_BINS - 1})::int b, "
        "count(*) from scored where isfinite(score) group by 1"
    )
    for position, count in log.rows(query):
        counts[position] = count
    return counts


def _periods(log: LogTable, requests: int, first: datetime, last: datetime, refusal: str) -> Periods:
    number = max(1, min(MAX_PERIODS, requests // REQUESTS_PER_PERIOD))
    # Whole microseconds: of seconds as floats the last request can be a microsecond beyond the end.
    began = (first - datetime(1970, 1, 1)) // MICROSECOND  # the log's times are UTC
    # A little more than the time there is, so that the last request falls into the last period.
    length = (last - first) // MICROSECOND // number + 1
    period = f"((epoch_us(ts) - {began}) // {length})::int"
    names = ("requests", "latency_mean", "latency_p50", "latency_p99", "cpu", "memory", "scored", "refused")
    series = {name: np.full(number, np.nan) for name in names}
    for name in ("requests", "scored", "refused"):
        series[name] = np.zeros(number)
    by_request = log.rows(
        f"select {period} p, count(*), avg(duration_us), quantile_cont(duration_us, 0.5), "
        "quantile_cont(duration_us, 0.99), avg(cpu_percent), avg(rss_mb) "
        "from requests where ts is not null group by 1"
    )
    by_row = log.rows(
        f"select {period} p, count(*), count(*) filter ({_is(refusal)}) from scored "
        "where decision is not null and ts is not null group by 1"
    )
    for found, columns in ((by_request, names[:6]), (by_row, names[6:])):
        for position, *values in found:
            for name, value in zip(columns, values, strict=True):
                series[name][position] = np.nan if value is None else value
    ticks = np.datetime64(first, "us") + np.arange(number) * np.timedelta64(length, "us")
    return Periods(seconds=length / 1e6, starts=ticks.tolist(), **series)
