"""What whoever a decision is about could change, on the sheet and beside the sliders."""

import json
from html import escape

from server.model.schema import Row
from server.scoring.served_model import ServedModel
from ui.cases.changes import ChangeFinder, WordedProposal
from ui.words.text import NBSP, Text, tag
from ui.words.values import texts_of
from ui.words.wording import Wording, percent

_HEADING = Text("What the {case} could change", "Ce qui pourrait être changé")
_THEN = Text("then {name} {risk}", f"alors {{name}}{NBSP}: {{risk}}")
_TRY = Text("Try it", "Essayer")


class Changes:
    """Draws the proposals for one model; none where its bundle says of no input that it can be changed."""

    def __init__(self, model: ServedModel) -> None:
        self._finder, self._schema = ChangeFinder(model), model.bundle.schema
        self._words = Wording.of(model.bundle)

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
