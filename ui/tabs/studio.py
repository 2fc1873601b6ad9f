"""The limit studio: what other limits would have decided of cases that were decided, or tried.

Nothing is published by it: `studio.js` counts in the browser, and what is downloaded is the part of a
description file that would say so.
"""

import asyncio
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from server.log.lookup import newest_records
from server.model.bundle import Bundle
from server.model.logged_rows import is_batch, logged_rows
from server.model.policy import NEEDED, UNUSUAL
from server.model.row_names import name_of_row
from server.scoring.service import Service
from ui.tabs.limit_groups import groups_html, groups_told
from ui.words.bands import bands_of
from ui.words.policy import Because
from ui.words.text import NBSP, Text, table, tag
from ui.words.wording import Wording, decided

#: Decisions that are read from the end of the log, and lines that are looked at for them.
MOST_CASES, MOST_LINES = 5000, 20_000

_HEADING = Text("Limit studio", "Atelier des limites")
_LEAD = Text(
    "What other limits would have decided of the same cases. What the policy decides beside the score stays. "
    "Nothing is changed on the server.",
    "Ce que d'autres limites auraient décidé des mêmes cas. Ce que la politique décide outre le score reste. "
    "Rien n'est changé sur le serveur.",
)
_CASES = Text("Cases", "Cas")
_BETWEEN = Text("{low} → {high} at", "{low} → {high} à partir de")
_PERCENT = Text.same(f"{NBSP}%")
_COST = Text("Cost of {mistake}", f"Coût{NBSP}: {{mistake}}")
_MISTAKES = (Text("a missed case", "un cas manqué"), Text("a false alarm", "une fausse alerte"))
_BACK = Text("Back to the limits and costs of the model", "Revenir aux limites et coûts du modèle")
_SAVE = Text("Download the policy part", "Télécharger la partie politique")
_HEADS = (
    Text("decision", "décision"),
    Text("now", "maintenant"),
    Text("then", "alors"),
    Text("change", "différence"),
)
_FLIPS = Text("Who would be decided otherwise", "Qui serait décidé autrement")


class Studio:
    """The cases and the words of the studio for one model that decides."""

    def __init__(self, service: Service, bundle: Bundle) -> None:
        self._service, self._bundle = service, bundle
        self._limits = bundle.limits
        self._bands = [band.decision for band in bands_of(bundle)]
        wording = Wording.of(bundle)
        self._words = decided(bundle, wording)
        self._mistakes = [
            said if said.en else general
            for said, general in zip((wording.missed, wording.false_alarm), _MISTAKES, strict=True)
        ]
        self._deciding = deciding(bundle)

    async def told(self) -> dict[str, Any]:
        """What the script works with: markup, limits, decisions, costs, the last logged cases."""
        log = self._service.log
        cases = await asyncio.to_thread(self._logged, self._service.settings.log_dir) if log else []
        decision, policy = self._bundle.decision, self._bundle.policy
        needed = policy.needed if policy is not None else None
        return {
            "html": self._html(),
            "limits": self._limits,
            "least": (needed.unless_below or 0.0) if needed is not None else 0.0,
            "bands": self._bands,
            "decisions": {name: [*words] for name, words in self._words.items()},
            "deciding": [place for place, then in enumerate(self._deciding.values()) if then],
            "costs": [decision.cost_false_negative, decision.cost_false_positive],
            "description": {
                "decisions": [decision.below, decision.otherwise],
                **({"policy": self._bundle.manifest["policy"]} if policy is not None else {}),
            },
            "cases": cases,
            **groups_told(self._bundle),
        }

    def _logged(self, folder: Path) -> list[tuple[str, float, str, bool]]:
        """Of the last logged rows the name, the probability, the decision, and whether the policy made it."""
        return list(islice(self._rows(folder), MOST_CASES))

    def _rows(self, folder: Path) -> Iterator[tuple[str, float, str, bool]]:
        for record in islice(newest_records(folder, self._bundle.label), MOST_LINES):
            try:
                yield from self._of(record)
            except (KeyError, TypeError, ValueError, IndexError):
                continue  # of another form

    def _of(self, record: Mapping[str, Any]) -> Iterator[tuple[str, float, str, bool]]:
        rows = list(logged_rows(record))
        said = record.get("because", [])
        reasons = said if is_batch(record) and said else [said] * len(rows)
        for i in reversed(range(len(rows))):
            is_fixed = any(self._deciding.get(reason) for reason in reasons[i])
            yield name_of_row(record, i), rows[i].score, str(rows[i].outcome), is_fixed

    def _html(self) -> str:
        inputs = "".join(self._input(i) for i in range(len(self._limits)))
        return (
            f"{tag('h2', _HEADING)}{tag('p', _LEAD)}"
            f'<p class="source">{tag("label", _CASES, for_="studio-cases")}'
            f'<select id="studio-cases"></select></p>'
            f'<div class="limits">{inputs}</div><div class="prices">{self._prices()}</div>'
            f'<p class="problem" role="alert"></p>'
            f"{table(_HEADING, _HEADS)}"
            f'<p class="cost"></p><p class="note basis"></p>{tag("h3", _FLIPS)}'
            f'<p class="count" role="status"></p><ul class="flips"></ul>{groups_html(self._bundle)}'
            f'<p class="saves">{tag("button", _SAVE, type="button", class_="save primary")}'
            f"{tag('button', _BACK, type='button', class_='back')}</p>"
        )

    def _prices(self) -> str:
        """What each of the two mistakes costs, to type: by the model's own costs until then."""
        return "".join(
            f"<p>{tag('label', _COST.put(mistake=mistake), for_=f'studio-cost-{i}')}"
            f'<input type="number" id="studio-cost-{i}" min="0" step="any"></p>'
            for i, mistake in enumerate(self._mistakes)
        )

    def _input(self, i: int) -> str:
        low, high = (self._words[name] for name in self._bands[i : i + 2])
        label = tag("label", _BETWEEN.put(low=low, high=high), for_=f"studio-limit-{i}")
        return (
            f'<p>{label}<input type="range" min="0.1" max="99.9" step="0.1" aria-hidden="true" tabindex="-1">'
            f'<span><input type="number" id="studio-limit-{i}" min="0.01" max="99.99" step="any">'
            f"{tag('span', _PERCENT)}</span></p>"
        )


def deciding(bundle: Bundle) -> dict[str, str]:
    """What each reason of the policy decides by its name, in the order of `because`; "" of a note."""
    policy = bundle.policy
    if policy is None:
        return {}
    thens = {check.reason: check.then for check in policy.checks}
    if policy.needed is not None:
        thens[NEEDED] = policy.needed.then
    if policy.unusual is not None:
        thens[UNUSUAL] = policy.unusual.then
    return {name: thens[name] for name in Because(bundle).words}
