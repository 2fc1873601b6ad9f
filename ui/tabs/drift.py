"""How far inputs moved from training: one card of the operations tab, each entry with its bins to open."""

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise

from server.metrics.drift import MIN_ROWS
from server.model.bundle import Bundle
from server.model.distribution import Distribution
from server.model.reference import read_reference
from server.model.schema import Feature
from ui.tabs.looks import MetricsSample, Shifted
from ui.words.labels import UNKNOWN_WORD, Labels
from ui.words.text import NBSP, Text, joined, table, tag
from ui.words.values import format_number
from ui.words.wording import percent

_LISTED = 6
#: Bins told of one input: of more categories those that moved most.
_BINS = 14

HEADING = Text("Drift, strongest first", "Dérive, la plus forte d'abord")
_DRIFTED, _STEADY = Text("drifted", "dérive"), Text("as in training", "comme à l'entraînement")
_FEW = Text("too few rows", "trop peu de lignes")
_UNSEEN = Text("{share} never seen in training", "{share} jamais vues à l'entraînement")
_MISSING = Text("{label}: missing or not", f"{{label}}{NBSP}: valeur manquante ou non")
_SCORE = Text("Score", "Score")
_NOTE = Text(
    "PSI against the training data, over the last {count} rows, however old; the mark is where it counts as "
    "drift. Opened, an input shows the rows of the last 24 hours.",
    "PSI par rapport aux données d'entraînement, sur les {count} dernières lignes, quel que soit leur âge ; "
    "le trait est le seuil de dérive. Ouverte, une donnée montre les lignes des dernières 24 heures.",
)
_NO_DRIFT = Text(
    "Too few rows to compare with the training data yet: {count}, of which {independent} "
    "{independent:tells|tell} something new.",
    f"Encore trop peu de lignes pour comparer aux données d'entraînement{NBSP}: {{count}}, dont "
    "{independent} {independent:apporte|apportent} du nouveau.",
)
_NO_REFERENCE = Text("This bundle has no reference.", "Ce modèle n'a pas de référence.")
_HEADS = (
    Text("value", "valeur"),
    Text("training", "entraînement"),
    Text("the last 24 hours", "dernières 24 heures"),
)
_TABLE = Text("{label}: training and now", f"{{label}}{NBSP}: entraînement et maintenant")


#: The counts of an input by bin and, last, of missing ones, empty where they are not known.
Held = Callable[[str], Sequence[int]]


class Drift:
    """The card of one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._labels = bundle, Labels.of(bundle)
        self._reference = read_reference(bundle)

    def html(self, newest: MetricsSample, held: Held) -> str:
        """What the strongest drift at one look is of: values, missing ones or the score."""
        rows = newest.single.get("hotrow_drift_rows")
        if rows is None:
            return tag("p", _NO_REFERENCE)
        independent = newest.single.get("hotrow_drift_independent_rows", rows)
        if independent < MIN_ROWS or not newest.drift:
            return tag("p", _NO_DRIFT.put(count=_figure(rows), independent=_figure(independent)))
        ranking = sorted(newest.drift, key=lambda shifted: -shifted.strength)
        entries = "".join(self._shifted(shifted, held) for shifted in ranking[:_LISTED])
        note = tag("p", _NOTE.put(count=_figure(rows)), class_="note")
        return f'<ol class="drift">{entries}</ol>{note}'

    def _shifted(self, shifted: Shifted, held: Held) -> str:
        drifted = shifted.strength > 1.0
        judged = _FEW if math.isinf(shifted.limit) else _DRIFTED if drifted else _STEADY
        unseen = _UNSEEN.put(share=percent(shifted.unseen)) if shifted.unseen else None
        words = joined([judged, unseen], "; ") if unseen else judged
        told = (
            f"{tag('span', self._measured(shifted))}"
            f"{tag('span', Text.figures(f'{shifted.psi:.2f}'), class_='figure')}"
            f'<i style="--share:{min(100.0, 50 * shifted.strength):.1f}%"></i>{tag("small", words)}'
        )
        if bins := self._bins(shifted.feature, held(shifted.feature)):
            key = f"{shifted.feature} {'missing' if shifted.missing else 'values'}"
            told = f'<details data-key="{escape(key)}"><summary>{told}</summary>{bins}</details>'
        return f'<li class="{"drifted" if drifted else ""}">{told}</li>'

    def _measured(self, shifted: Shifted) -> Text:
        if not shifted.feature:
            return _SCORE
        label = self._labels.label(self._bundle.schema[shifted.feature])
        return _MISSING.put(label=label) if shifted.missing else label

    def _bins(self, name: str, now: Sequence[int]) -> str:
        """The shares of all rows in each bin, then and now, one below the other; "" where none are known."""
        then = self._reference.features.get(name) if self._reference is not None else None
        if then is None or len(now) != len(then.shares) + 1 or not any(now):
            return ""
        feature, count = self._bundle.schema[name], sum(now)
        present = 1 - then.missing_rate
        before = [*(share * present for share in then.shares), then.missing_rate]
        after = [held / count for held in now]
        told = list(zip([*self._names(feature, then), UNKNOWN_WORD], before, after, strict=True))
        told = [row for row in told if row[1] or row[2]]
        moved = sorted(told, key=lambda row: -abs(row[2] - row[1]))[:_BINS]
        most = max(max(row[1:]) for row in moved)
        rows = "".join(
            f"<tr>{tag('th', name, scope='row')}{_bar(then_, most)}{_bar(now_, most)}</tr>"
            for name, then_, now_ in told
            if (name, then_, now_) in moved
        )
        return table(_TABLE.put(label=self._labels.label(feature)), _HEADS, rows)

    def _names(self, feature: Feature, found: Distribution) -> list[Text]:
        if feature.kind == "category":
            return list(self._labels.choices(feature).values())
        if found.has_codes and feature.form_kind == "flag":
            return [self._labels.value(feature, code) for code in (0, 1)]
        edges = [Text.figures(format_number(float(f"{edge:.4g}"))) for edge in found.edges]
        if not edges:
            return [Text("all", "toutes")]
        between = [joined([low, high], " – ") for low, high in pairwise(edges)]
        return [joined([Text.same("≤"), edges[0]], NBSP), *between, joined([Text.same(">"), edges[-1]], NBSP)]


def _bar(share: float, most: float) -> str:
    width = f"--share:{100 * share / most:.1f}%"
    return f'<td style="{width}">{tag("span", percent(share))}<i></i></td>'


def _figure(count: float) -> Text:
    return Text.figures(format_number(round(count)))
