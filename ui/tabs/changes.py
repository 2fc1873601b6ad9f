"""What whoever a decision is about could change, as `POST /recourse` answers it."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from server.errors import NotOffered
from server.explain.recourse import told
from server.model.schema import Row
from server.scoring.served_model import ServedModel
from ui.words.text import NBSP, Text, joined, tag
from ui.words.values import texts_of
from ui.words.wording import Wording, decided, percent, second_language

_HEADING = Text("What the {case} could change", "Ce qui pourrait être changé")
_THEN = Text("then {name} {risk}", f"alors {{name}}{NBSP}: {{risk}}")
_TRY = Text("Try it", "Essayer")


class Changes:
    """Words the proposals for one model; none where its bundle says of no input that it can be changed."""

    def __init__(self, model: ServedModel) -> None:
        self._model, self._schema = model, model.bundle.schema
        self._words = Wording.of(model.bundle)

    async def html(self, row: Row) -> str:
        """The proposals for one encoded row, or the sentence that there is nothing."""
        model = self._model
        try:
            model.recourse.check_offered()
        except NotOffered:
            return ""
        found = await model.rows.apart(model.recourse.find, row)
        texts = model.reason_texts
        french = second_language(texts.languages)
        said_of = zip(
            ("en", french), decided(model.bundle, self._words)[model.bundle.outcomes[0]], strict=True
        )
        both = [told(found, row, model.bundle, texts, language, word) for language, word in said_of]
        said = Text(both[0]["text"], both[1]["text"])
        pairs = zip(both[0]["proposals"], both[1]["proposals"], strict=True)
        proposals = "".join(self._proposal(*pair) for pair in pairs)
        heading = tag("h3", _HEADING.put(case=self._words.case))
        listed = f'<ul class="smallest">{proposals}</ul>' if proposals else ""
        return f"{heading}{tag('p', said)}{listed}"

    def _proposal(self, english: Mapping[str, Any], french: Mapping[str, Any]) -> str:
        changes = english["changes"]
        texts = [Text(a["text"], b["text"]) for a, b in zip(changes, french["changes"], strict=True)]
        then = _THEN.put(name=self._words.probability, risk=percent(english["probability"], 2))
        values = texts_of(self._schema, {change["feature"]: change["to"] for change in changes})
        return (
            f"<li>{tag('strong', joined(texts, f'{NBSP}; '))} {tag('span', then)} "
            f'<button type="button" class="try" data-changes="{escape(json.dumps(values))}" '
            f'data-fr="{escape(_TRY.fr)}">{_TRY.en}</button></li>'
        )
