"""The pieces of the answer's panel, as HTML."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Literal, NamedTuple

from ui.wording import NBSP, sentence

Symbol = Literal["check", "cross", "attention", "down", "up", "none"]

_PATHS = {
    "check": "M7 12.5l3.4 3.5L17 9",
    "cross": "M8 8l8 8M16 8l-8 8",
    "attention": "M12 6.5v7M12 17v.5",
    "down": "M12 7v10M7.5 12.5L12 17l4.5-4.5",
    "up": "M12 17V7M7.5 11.5L12 7l4.5 4.5",
}


class Complaint(NamedTuple):
    """One refused field: its feature, its label and the server's words."""

    feature: str
    label: str
    detail: str


def panel(kind: str, *parts: str) -> str:
    """The whole panel; `kind` chooses its tone in the style sheet."""
    return f'<section class="panel {kind}" aria-label="Decision">{"".join(parts)}</section>'


def head(symbol: Symbol, word: str, explanation: str) -> str:
    """Sign, word and sentence.

    The role stands on the same element in every state, so that a screen reader
    says what it changes to.
    """
    return (
        f'<div class="head" role="status">{_icon(symbol)}<h2>{escape(word)}</h2>'
        f'<p class="explanation">{escape(explanation)}</p></div>'
    )


def refused(detail: str, complaints: Sequence[Complaint]) -> str:
    """The server's refusal, each field by its label."""
    entries = "".join(
        f'<li><a href="#" data-field="{escape(c.feature)}">{escape(c.label)}</a>: {escape(c.detail)}</li>'
        for c in complaints
    )
    said = head("attention", "Not decided", sentence(detail) + ".")
    return panel("refused", said, f'<ul class="complaints">{entries}</ul>' if entries else "")


def origin(document: Mapping[str, Any], seconds: float) -> str:
    """Which model answered, how long it took and the key of the answer in the log."""
    # A figure under 10 us would be more exact than a single measurement is.
    milliseconds = f"{max(seconds * 1000, 0.01):.2f}{NBSP}ms"
    return (
        f'<p class="origin"><strong>Scored in {milliseconds}</strong> '
        f"<span>by {escape(document['model'])}</span> "
        f'<span class="id">answer {escape(document["id"])}</span></p>'
    )


def _icon(symbol: Symbol) -> str:
    if symbol == "none":
        return ""
    return (
        '<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">'
        f'<circle cx="12" cy="12" r="11"/><path d="{_PATHS[symbol]}"/></svg>'
    )
