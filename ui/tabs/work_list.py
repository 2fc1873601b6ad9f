"""The rows of a scored file to work through: what each is listed under, and what a refused one needs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from server.errors import BadValue
from server.model.bundle import Bundle
from server.model.judge import Judge
from server.model.schema import Schema
from server.scoring.scored import ScoredRows
from ui.words.labels import Labels
from ui.words.policy import Because
from ui.words.problems import french
from ui.words.text import Text, table, tag
from ui.words.wording import Wording, decided

#: A probability is near a limit if it differs by no more than this share of it, or of its complement.
NEAR_SHARE = 0.1

_HEADING = Text("Row by row", "Ligne par ligne")
_SHOW = Text("Show", "Afficher")
_MORE = Text("Show more", "Afficher plus")
_NEAR = Text("Near a limit (within a tenth of it)", "Près d'une limite (à un dixième d'elle)")
_HEADS = (
    Text("line", "ligne"),
    Text("answer", "réponse"),
    Text("result", "résultat"),
    Text("because", "motifs"),
    Text("what to do", "que faire"),
)


class Groups:
    """What the rows of a file are listed under: outcomes, reasons of the policy, nearness to a limit."""

    def __init__(self, bundle: Bundle, judge: Judge | None) -> None:
        self._judge, self._names = judge, bundle.outcomes
        self._limits: list[float] = []
        named = {name: Text.same(name) for name in bundle.classes}
        if bundle.task == "binary":
            named = decided(bundle, Wording.of(bundle))
            self._limits = bundle.limits
        spoken = Because(bundle).words
        self.words = [*named.values(), *spoken.values(), *([_NEAR] if self._limits else [])]
        self.outcomes = len(named)
        self._places = {name: i for i, name in enumerate(named)}
        self._spoken = {name: self.outcomes + i for i, name in enumerate(spoken)}

    def of(self, scored: ScoredRows) -> list[list[int]]:
        """The places in `words` of each scored row, that of its outcome first."""
        found = [[self._places[self._names[o]]] if self.outcomes else [] for o in scored.outcomes.tolist()]
        if self._judge is not None and scored.verdicts is not None:
            for groups, verdict in zip(found, scored.verdicts.tolist(), strict=True):
                groups += [self._spoken[reason] for reason in self._judge.because(verdict)]
        for i in np.flatnonzero(self._near(scored)).tolist():
            found[i].append(len(self.words) - 1)
        return found

    def _near(self, scored: ScoredRows) -> npt.NDArray[np.bool_]:
        near = np.zeros(len(scored.outcomes), dtype=bool)
        for limit in self._limits:
            near |= np.abs(np.asarray(scored.outputs) - limit) <= NEAR_SHARE * min(limit, 1.0 - limit)
        return near


class RefusedRows:
    """What is said of the values of a file that are not accepted."""

    def __init__(self, schema: Schema, labels: Labels) -> None:
        self._features, self._labels = {feature.name: feature for feature in schema.features}, labels

    def listed(self, faults: Sequence[BadValue]) -> list[dict[str, Any]]:
        """Each with its line, its feature's label and what to do, as HTML; of a whole line `label` is ""."""
        return [
            {"line": line, "label": self._label(column), "detail": self._detail(column, detail)}
            for line, column, detail, _ in faults
        ]

    def row(
        self, faults: Sequence[BadValue], record: Sequence[str], columns: Mapping[str, int]
    ) -> dict[str, Any]:
        """One refused row: its cells as they came, and which of them to repair; -1 stands for all."""
        places = [columns.get(column, -1) for _, column, _, _ in faults]
        told = [{"cell": p, **fault} for p, fault in zip(places, self.listed(faults), strict=True)]
        return {"cells": record, "faults": told}

    def _label(self, column: str) -> str:
        return tag("strong", self._labels.label(self._features[column])) if column else ""

    def _detail(self, column: str, detail: str) -> str:
        if not column:  # of a whole line
            return tag("span", Text(detail, french(detail)))
        return tag("span", self._labels.refusal(self._features[column], detail))


def reasons_of(scored: ScoredRows, i: int) -> list[dict[str, Any]]:
    """The reasons of one row, none if none were asked for."""
    found: list[dict[str, Any]] = orjson.loads(scored.reasons[i]) if scored.reasons else []
    return found


def work_list_html() -> str:
    """The place of the list, which `work_list.js` fills once a file is scored."""
    return (
        f'<section class="sheet work" hidden>{tag("h2", _HEADING)}'
        f'<p class="filter">{tag("label", _SHOW, for_="work-filter")}<select id="work-filter"></select></p>'
        f'<p class="count note" role="status"></p><p class="problem" role="alert"></p>'
        f"{table(_HEADING, _HEADS)}{tag('button', _MORE, type='button', class_='more')}</section>"
    )
