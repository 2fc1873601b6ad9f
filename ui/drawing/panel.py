"""The pieces of the answer's panel, as HTML."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Literal
from urllib.parse import quote

from ui.words.labels import Complaint
from ui.words.text import NBSP, Text, attribute, tag

Symbol = Literal["check", "cross", "attention", "down", "up", "none"]

_PATHS = {
    "check": "M7 12.5l3.4 3.5L17 9",
    "cross": "M8 8l8 8M16 8l-8 8",
    "attention": "M12 6.5v7M12 17v.5",
    "down": "M12 7v10M7.5 12.5L12 17l4.5-4.5",
    "up": "M12 17V7M7.5 11.5L12 7l4.5 4.5",
}

_DECISION = Text("Decision", "Décision")
_NOT_DECIDED = Text("Not decided", "Pas de décision")
_TO_CORRECT = Text("{count} {count:field|fields} to correct.", "{count} {count:champ|champs} à corriger.")
_SCORED = Text(f"Scored in {{time}}{NBSP}ms", f"Calculé en {{time}}{NBSP}ms")
_BY = Text("by {model}", "par {model}")
_ANSWER = Text("answer {id}", "réponse {id}")
_LETTER, _RECORD = Text("Letter", "Lettre"), Text("Record", "Fiche")
_PERSON = Text("Note, or decide otherwise", "Noter ou décider autrement")
_TRIAL = Text(
    "A trial: neither logged nor counted. Press Decide to decide it.",
    "Un essai : ni journalisé ni compté. Appuyez sur Décider pour en décider.",
)


def panel(kind: str, *parts: str) -> str:
    """The whole panel, a landmark of the page; `kind` chooses its tone in the style sheet."""
    return f'<section class="panel {kind}" {attribute("aria-label", _DECISION)}>{"".join(parts)}</section>'


def supposed(kind: str, *parts: str) -> str:
    """The same for an answer that is a supposition: one of several, and no landmark."""
    return f'<div class="panel {kind}">{"".join(parts)}</div>'


def head(symbol: Symbol, word: Text, explanation: Text) -> str:
    """Sign, word and sentence; `verdict.js` has a screen reader say the last two."""
    return (
        f'<div class="head">{icon(symbol)}{tag("h2", word)}'
        f"{tag('p', explanation, class_='explanation')}</div>"
    )


def refused(detail: str, complaints: Sequence[Complaint]) -> str:
    """The server's refusal, each field by its label."""
    entries = "".join(
        f"<li>{tag('a', c.label, href='#', data_field=c.feature)} {tag('span', c.detail)}</li>"
        for c in complaints
    )
    count = len(complaints)
    words = _TO_CORRECT.put(count=str(count)) if count else Text.same(detail + ".").sentence()
    said = head("attention", _NOT_DECIDED, words)
    return panel("refused", said, f'<ul class="complaints">{entries}</ul>' if entries else "")


def milliseconds(seconds: float) -> Text:
    """A time in words; a figure under 10 us would be more exact than a single measurement is."""
    return Text.figures(f"{max(seconds * 1000, 0.01):.2f}")


def origin(document: Mapping[str, Any], seconds: float) -> str:
    """Which model answered, how long it took and the key of the answer in the log, if it is there."""
    answer = (
        tag("span", _ANSWER.put(id=document["id"]), class_="id")
        if "id" in document
        else tag("span", _TRIAL, class_="trial")
    )
    return (
        f'<p class="origin">{tag("strong", _SCORED.put(time=milliseconds(seconds)))} '
        f"{tag('span', _BY.put(model=document['model']))} "
        f"{answer}</p>{papers(document['id']) if 'id' in document else ''}"
    )


def papers(id_: str) -> str:
    """The ways from an answer to its letter, its record, and what a person says of it."""
    links = "".join(
        f'<a href="page/{kind}?id={quote(id_, safe="")}" class="paper" target="_blank" rel="noopener" '
        f'data-fr="{escape(words.fr)}">{escape(words.en)}</a>'
        for kind, words in (("letter", _LETTER), ("record", _RECORD))
    )
    person = tag("button", _PERSON, type="button", class_="say", data_id=id_, aria_expanded="false")
    return f'<p class="papers">{links}{person}</p><div class="person"></div>'


def icon(symbol: Symbol) -> str:
    """A sign in a circle, so that no decision is told by its colour alone."""
    if symbol == "none":
        return ""
    return (
        f'<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" data-symbol="{escape(symbol)}">'
        f'<circle cx="12" cy="12" r="11"/><path d="{_PATHS[symbol]}"/></svg>'
    )
