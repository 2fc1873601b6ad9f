"""The last 24 hours of the server, as the observer tells them: one card of the operations tab."""

from collections import Counter, deque
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from server.log.history import KEPT_MINUTES, History
from server.model.schema import Schema
from ui.drawing.plots import trend
from ui.words.labels import Labels
from ui.words.text import NBSP, Text, joined, tag
from ui.words.values import format_number

_HEADING = Text("The last 24 hours, minute by minute", "Les dernières 24 heures, minute par minute")
_NONE_YET = Text("The first minute is not over yet.", "La première minute n'est pas encore écoulée.")
_RATE = Text("Requests a minute", "Requêtes par minute")
_SLOWEST = Text("p99 of /predict in ms", "p99 de /predict en ms")
_AGO = Text("24 hours ago", "il y a 24 heures")
_MOST = Text("at most {figure}", "au plus {figure}")
_REFUSED = Text("Fields refused most: {fields}", f"Champs les plus refusés{NBSP}: {{fields}}")
_FIELD = Text("{label} ({count})", "{label} ({count})")
_OTHER = Text("no feature of the model", "aucune variable du modèle")
_NO_FIELDS = Text("No field was refused.", "Aucun champ n'a été refusé.")
_LISTED = 5


class _Minute(NamedTuple):
    requests: int
    slowest_ms: float
    refused: dict[str, int]


class Day:
    """Reads each minute once; `renew` may run in a thread, one at a time."""

    def __init__(self, history: History, label: str) -> None:
        self._history, self._label = history, label
        self._minutes: deque[_Minute] = deque(maxlen=KEPT_MINUTES)
        self._next = 0

    def renew(self) -> None:
        """Take the minutes that were told since the last time."""
        for entry in self._history.minutes.since(self._next):
            told = orjson.loads(entry)
            self._next = int(datetime.fromisoformat(told["from"]).timestamp() // 60) + 1
            self._minutes.append(self._minute(told))

    def _minute(self, told: dict[str, Any]) -> _Minute:
        requests = sum(sum(codes.values()) for codes in told["requests"].values())
        slowest_us = told["latency_us"].get("/predict", {}).get("p99", 0.0)
        refused = told["models"].get(self._label, {}).get("refused", {})
        return _Minute(requests, slowest_us / 1000, refused)

    def html(self, labels: Labels, schema: Schema) -> str:
        """The card."""
        minutes = list(self._minutes)
        if not minutes:
            return _card(tag("p", _NONE_YET, class_="note"))
        drawn = ""
        for what, values in (
            (_RATE, [float(minute.requests) for minute in minutes]),
            (_SLOWEST, [minute.slowest_ms for minute in minutes]),
        ):
            most = max(values)
            figure = Text.figures(format_number(round(most)) if most >= 10 else f"{most:.2f}")
            words = _MOST.put(figure=figure)
            drawn += tag("h3", what) + trend([("first", values)], what, KEPT_MINUTES, _AGO, words)
        return _card(drawn + tag("p", self._refused(labels, schema), class_="note"))

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


def _card(content: str) -> str:
    return f'<section class="sheet whole">{tag("h2", _HEADING)}{content}</section>'
