"""What whoever a decision is about could change, on the sheet and beside the sliders."""

import json
from collections.abc import Sequence
from html import escape

from server.model.schema import Row
from server.scoring.served_model import ServedModel
from ui.cases.changes import ChangeFinder, WordedProposal
from ui.cases.steady import Steadiness
from ui.words.labels import Labels
from ui.words.text import NBSP, Text, joined, tag
from ui.words.values import texts_of
from ui.words.wording import Wording, percent

_HEADING = Text("What the {case} could change", "Ce qui pourrait être changé")
_THEN = Text("then {name} {risk}", f"alors {{name}}{NBSP}: {{risk}}")
_ERRORS = Text("Small errors of entry", "Petites erreurs de saisie")
_STEADY = Text(
    "No single figure that is 5 % off would change this decision.",
    f"Aucun chiffre faux de 5{NBSP}% à lui seul ne changerait cette décision.",
)
_UNSTEADY = Text(
    "One of these alone, 5 % off, would change it: {names}.",
    f"Un seul de ces chiffres, faux de 5{NBSP}%, la changerait{NBSP}: {{names}}.",
)
_TRY = Text("Try it", "Essayer")


class Changes:
    """Draws the proposals for one model; none where its bundle says of no input that it can be changed."""

    def __init__(self, model: ServedModel, order: Sequence[str]) -> None:
        self._predictor, self._labels = model.scorer.predictor, Labels.of(model.bundle)
        self._steadiness = Steadiness(self._predictor, list(order)) if model.bundle.task == "binary" else None
        self._finder, self._schema = ChangeFinder(model), model.bundle.schema
        self._words = Wording.of(model.bundle)

    async def beside(self, row: Row) -> str:
        """What stands beside a verdict: the proposals, and what a small error of entry would do."""
        if self._steadiness is None:
            return ""
        is_first = self._predictor.predict(row)[1] == 0
        turning = await self._steadiness.turning(row)
        names = joined([self._labels.label(self._schema[name]) for name in turning])
        said = _UNSTEADY.put(names=names) if turning else _STEADY
        return ("" if is_first else await self.html(row)) + tag("h3", _ERRORS) + tag("p", said)

    async def html(self, row: Row) -> str:
        """The proposals for one encoded row, or the sentence that there is nothing."""
        if not self._finder.is_offered:
            return ""
        found = await self._finder.find(row)
        listed = "".join(self._proposal(proposal) for proposal in found.proposals)
        heading = tag("h3", _HEADING.put(case=self._words.case))
        return f"{heading}{tag('p', found.said)}" + (f'<ul class="smallest">{listed}</ul>' if listed else "")

    def _proposal(self, proposal: WordedProposal) -> str:
        then = _THEN.put(name=self._words.probability, risk=percent(proposal.probability, 2))
        values = texts_of(self._schema, proposal.values)
        return (
            f"<li>{tag('strong', proposal.words)} {tag('span', then)} "
            f'<button type="button" class="try" data-changes="{escape(json.dumps(values))}" '
            f'data-fr="{escape(_TRY.fr)}">{_TRY.en}</button></li>'
        )
