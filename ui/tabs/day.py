"""The last 24 hours of the server, as the observer tells them: one card of the operations tab."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from server.log.history import KEPT_MINUTES, History
from server.metrics.names import SCORING_ROUTES
from server.model.schema import Schema
from ui.drawing.plots import trend
from ui.words.labels import Labels
from ui.words.text import NBSP, Text, joined, sheet, tag
from ui.words.values import format_number

#: How far back the card looks, in minutes: as far as it takes to show what is known, and no empty day.
_SPANS = {
    5: (Text("5 minutes ago", "il y a 5 minutes"), Text("The last 5 minutes", "Les 5 dernières minutes")),
    30: (Text("30 minutes ago", "il y a 30 minutes"), Text("The last half hour", "La dernière demi-heure")),
    180: (Text("3 hours ago", "il y a 3 heures"), Text("The last 3 hours", "Les 3 dernières heures")),
    KEPT_MINUTES: (
        Text("24 hours ago", "il y a 24 heures"),
        Text("The last 24 hours", "Les dernières 24 heures"),
    ),
}
_HEADING = Text("{span}, minute by minute", "{span}, minute par minute")
_NONE_YET = Text("The first minute is not over yet.", "La première minute n'est pas encore écoulée.")
_RATE = Text("Requests a minute", "Requêtes par minute")
_SLOWEST = Text("p99 of /predict in ms", "p99 de /predict en ms")
_MOST = Text("at most {figure}", "au plus {figure}")
_NONE = Text("none yet", "aucune encore")
_REFUSED = Text("Fields refused most: {fields}", f"Champs les plus refusés{NBSP}: {{fields}}")
_FIELD = Text("{label} ({count})", "{label} ({count})")
_OTHER = Text("no feature of the model", "aucune variable du modèle")
_NO_FIELDS = Text("No field was refused.", "Aucun champ n'a été refusé.")
_LISTED = 5
_KEPT_HOURS = KEPT_MINUTES // 60


class Minute(NamedTuple):
    """One minute of the server: `at` is its number since the epoch, `scored` its scoring requests.

    Of these `slow` took longer than the objective, `failed` had an answer of 5xx, `rejected` of 4xx.
    """

    at: int
    requests: int
    slowest_ms: float
    refused: dict[str, int]
    scored: int = 0
    slow: int = 0
    failed: int = 0
    rejected: int = 0
    shed: int = 0
    dropped: int = 0
    waiting_bytes: int = 0


class Day:
    """Reads each minute once; `renew` may run in a thread, one at a time."""

    def __init__(self, history: History, label: str) -> None:
        self._history, self._label = history, label
        self._minutes: deque[Minute] = deque(maxlen=KEPT_MINUTES)
        self._running: Minute | None = None
        self._next = 0
        #: What the rows of an hour held, by feature: the counts of its bins and, last, of missing ones.
        self._hours: dict[int, dict[str, npt.NDArray[np.int64]]] = {}
        self._next_columns = 0

    def renew(self) -> None:
        """Take the minutes that were told since the last time, and the one that runs."""
        for entry in self._history.minutes.since(self._next):
            minute = self._minute(orjson.loads(entry))
            self._next = minute.at + 1
            self._minutes.append(minute)
        for entry in self._history.running.since(self._next):
            self._running = self._minute(orjson.loads(entry))
        for entry in self._history.columns.since(self._next_columns):
            self._take_columns(orjson.loads(entry))

    def _take_columns(self, told: dict[str, Any]) -> None:
        at = _minute_of(told)
        self._next_columns = at + 1
        hour = self._hours.setdefault(at // 60, {})
        for name, column in told["models"].get(self._label, {}).items():
            counts = np.array([*column["bins"], column["missing"]], dtype=np.int64)
            hour[name] = hour[name] + counts if name in hour else counts
        for old in [hour for hour in self._hours if hour <= at // 60 - _KEPT_HOURS]:
            del self._hours[old]

    def held(self, name: str) -> list[int]:
        """What an input held in the minutes that are over, [bins + 1], missing last, or nothing."""
        hours = [hour[name] for hour in self._hours.values() if name in hour]
        return np.sum(hours, axis=0).tolist() if hours else []

    def until_now(self) -> list[Minute]:
        """Every minute that is known, the oldest first, the one that runs among them."""
        running = [self._running] if self._running is not None and self._running.at >= self._next else []
        return [*self._minutes, *running]

    def _minute(self, told: dict[str, Any]) -> Minute:
        scoring = [codes for route, codes in told["requests"].items() if route in SCORING_ROUTES]
        log = told["log"]
        return Minute(
            _minute_of(told),
            sum(sum(codes.values()) for codes in told["requests"].values()),
            told["latency_us"].get("/predict", {}).get("p99", 0.0) / 1000,
            told["models"].get(self._label, {}).get("refused", {}),
            sum(sum(codes.values()) for codes in scoring),
            told["slow"],
            _coded("5", scoring),
            _coded("4", scoring),
            told["shed"],
            sum(log["dropped"].values()),
            log["waiting_bytes"],
        )

    def html(self, labels: Labels, schema: Schema) -> str:
        """The card."""
        minutes = list(self._minutes)
        span = min(places for places in _SPANS if places >= len(minutes))
        ago, last = _SPANS[span]
        heading = _HEADING.put(span=last)
        if not minutes:
            return sheet(heading, tag("p", _NONE_YET, class_="note"), "whole")
        drawn = ""
        for what, values in (
            (_RATE, [float(minute.requests) for minute in minutes]),
            (_SLOWEST, [minute.slowest_ms for minute in minutes]),
        ):
            most = max(values)
            figure = Text.figures(format_number(round(most)) if most >= 10 else f"{most:.2f}")
            words = _MOST.put(figure=figure) if most else _NONE
            drawn += tag("h3", what) + trend([("first", values)], what, span, ago, words)
        return sheet(heading, drawn + tag("p", self._refused(labels, schema), class_="note"), "whole")

    def _refused(self, labels: Labels, schema: Schema) -> Text:
        counts: Counter[str] = Counter()
        for minute in self._minutes:
            counts.update(minute.refused)
        if not counts:
            return _NO_FIELDS
        fields = [
            _FIELD.put(
                label=labels.label(schema[name]) if name in schema.names else _OTHER,
                count=Text.figures(format_number(count)),
            )
            for name, count in counts.most_common(_LISTED)
        ]
        return _REFUSED.put(fields=joined(fields, ", "))


def _minute_of(told: dict[str, Any]) -> int:
    """The number of a minute since the epoch."""
    return int(datetime.fromisoformat(told["from"]).timestamp() // 60)


def _coded(kind: str, scoring: Sequence[Mapping[str, int]]) -> int:
    """How many were answered with a status of a kind, by its first digit."""
    return sum(count for codes in scoring for code, count in codes.items() if code.startswith(kind))
