"""What the observer tells of each minute: requests, latencies, answers, refused fields, the log, the rows."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from server.log.history import History
from server.log.ring import Ring
from server.metrics.names import OBJECTIVE_SECONDS, REQUEST_LABELS, SCORING_ROUTES
from server.metrics.row_counter import ColumnPlan, Counts

MINUTE_SECONDS = 60
#: The minute that runs is told so often.
RENEW_SECONDS = 2.0
_QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}

Slots = npt.NDArray[np.float64]


class Minutes:
    """Takes the growth of the shared counters from minute to minute.

    `plan` is the config's `history`: where counters lie; `regions` are all workers'
    slots, float64 [workers, slots]. What is known of models comes with each look:
    their descriptions, and the rows counted of each by label. What `models` counted
    before is another observer's to tell, if there was one.
    """

    def __init__(
        self,
        plan: Mapping[str, Any],
        regions: Slots,
        rings: Sequence[Ring],
        history: History,
        models: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self._plan, self._regions, self._rings, self._history = plan, regions, rings, history
        # Before anything was told, what is counted already came while the first observer started.
        was_told = any(history.running.since(0)) or any(history.minutes.since(0))
        self._before = self._counts(models) if was_told else {}
        self._began = time.time()
        self._renewed = 0.0

    def look(self, now: float, models: Iterable[Mapping[str, Any]], tallies: Mapping[str, Counts]) -> None:
        """Tell of the minute if it is over, or seldom of the one that runs; `now` is `time.time()`."""
        is_over = now // MINUTE_SECONDS != self._began // MINUTE_SECONDS
        if not is_over and abs(now - self._renewed) < RENEW_SECONDS:
            return
        self._renewed = now
        described = {model["label"]: model for model in models}
        counts = self._counts(described.values())
        grown = {name: count - self._before.get(name, 0.0) for name, count in counts.items()}
        minute = int(self._began // MINUTE_SECONDS)
        content = orjson.dumps(self._told(now, grown, described))
        if not is_over:
            self._history.running.add(minute, content)
            return
        self._history.minutes.add(minute, content)
        columns = {
            label: _columns(described[label]["drift"], tally)
            for label, tally in tallies.items()
            if label in described and tally[0]
        }
        if columns:
            self._history.columns.add(minute, orjson.dumps(self._named(columns)))
        for tally in tallies.values():
            tally[:] = 0.0
        self._before, self._began = counts, now

    def _counts(self, models: Iterable[Mapping[str, Any]]) -> dict[str, Slots]:
        """Every counter that is told of, summed over the workers, by what it counts."""
        first, size = self._plan["durations"], len(self._plan["bounds"]) + 2
        counts = {
            "durations": self._sums(first, len(REQUEST_LABELS) * size),
            "dropped": self._at(self._plan["dropped"].values()),
            "shed": self._at(self._plan["shed"]),
        }
        for model in models:
            size = len(model["bounds"]) + 2
            for outcome, slot in model["answers"]:
                counts[f"{model['label']}\0{outcome}"] = self._sums(slot, size)
            reasons = model["reasons"]
            slots = (first + reason for first in model["refused"].values() for reason in range(reasons))
            counts[f"{model['label']}\0\0"] = self._at(slots).reshape(-1, reasons).sum(axis=1)
        return counts

    def _sums(self, first: int, size: int) -> Slots:
        sums: Slots = self._regions[:, first : first + size].sum(axis=0)
        return sums

    def _at(self, slots: Iterable[int]) -> Slots:
        sums: Slots = self._regions[:, list(slots)].sum(axis=0)
        return sums

    def _named(self, models: Mapping[str, Any]) -> dict[str, Any]:
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._began))
        return {"from": began, "models": models}

    def _told(
        self, now: float, grown: Mapping[str, Slots], models: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        requests, latencies, slow = self._requests(grown["durations"])
        oldest = [moment for ring in self._rings if (moment := ring.oldest_ns()) is not None]
        waits = (time.perf_counter_ns() - min(oldest)) / 1e9 if oldest else 0.0
        responses = {label: _responses(model, grown) for label, model in models.items()}
        return self._named({label: told for label, told in responses.items() if any(told.values())}) | {
            "seconds": round(now - self._began, 1),
            "requests": requests,
            "latency_us": latencies,
            "slow": slow,
            "shed": int(grown["shed"].sum()),
            "log": {
                "dropped": _counted(self._plan["dropped"], grown["dropped"]),
                "waiting_bytes": sum(ring.unread_bytes for ring in self._rings),
                "oldest_unwritten_seconds": round(waits, 3),
            },
        }

    def _requests(self, durations: Slots) -> tuple[dict[str, Any], dict[str, Any], int]:
        """Requests by route and code, quantiles of their durations by route, slow scoring ones."""
        bounds = self._plan["bounds"]
        by_route: dict[str, Slots] = {}
        requests: dict[str, dict[str, int]] = {}
        table = durations.reshape(-1, len(bounds) + 2)[:, :-1]
        for (route, _, code), counts in zip(REQUEST_LABELS, table, strict=True):
            if count := int(counts.sum()):
                codes = requests.setdefault(route, {})
                codes[code] = codes.get(code, 0) + count
                by_route[route] = by_route.get(route, 0.0) + counts
        beyond = int(np.searchsorted(bounds, OBJECTIVE_SECONDS)) + 1
        slow = sum(
            int(counts[beyond:].sum()) for route, counts in by_route.items() if route in SCORING_ROUTES
        )
        return requests, {route: _quantiles(bounds, counts) for route, counts in by_route.items()}, slow


def _quantiles(bounds: Sequence[float], counts: Slots) -> dict[str, float]:
    return {name: round(1e6 * quantile(bounds, counts, share), 1) for name, share in _QUANTILES.items()}


def _responses(model: Mapping[str, Any], grown: Mapping[str, Slots]) -> dict[str, Any]:
    by_outcome = {o: grown[f"{model['label']}\0{o}"][:-1] for o, _ in model["answers"]}
    scores = np.sum(list(by_outcome.values()), axis=0).astype(int).tolist()
    return {
        "answers": {outcome: int(counts.sum()) for outcome, counts in by_outcome.items() if counts.any()},
        "scores": scores if any(scores) else [],
        "refused": _counted(model["refused"], grown[f"{model['label']}\0\0"]),
    }


def _columns(plan: Mapping[str, Any], tally: Counts) -> dict[str, Any]:
    """What a minute's rows held, by feature: counts by bin, of missing values, and beyond the range."""
    found = {}
    for name, column in zip(plan["names"], map(ColumnPlan._make, plan["columns"]), strict=True):
        if name:  # the score's own histogram is told with the responses
            found[name] = {
                "bins": tally[column.first : column.missing].astype(int).tolist(),
                "missing": int(tally[column.missing]),
                "beyond": int(tally[column.beyond]),
            }
    return found


def _counted(names: Iterable[str], counts: Slots) -> dict[str, int]:
    return {name: int(count) for name, count in zip(names, counts.tolist(), strict=True) if count}


def quantile(bounds: Sequence[float], counts: Slots, share: float) -> float:
    """The value under which `share` of what was counted lies, by a straight line within a bucket.

    As PromQL's histogram_quantile; beyond the last bound that bound.
    """
    sums = np.cumsum(counts)
    wanted = share * sums[-1]
    bucket = int(np.searchsorted(sums, wanted))
    if bucket >= len(bounds):
        return float(bounds[-1])
    low = bounds[bucket - 1] if bucket else 0.0
    below = sums[bucket - 1] if bucket else 0.0
    return float(low + (bounds[bucket] - low) * (wanted - below) / max(1.0, counts[bucket]))
