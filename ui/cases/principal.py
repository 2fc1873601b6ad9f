"""The principal reasons of a case, in the bundle's words: those of `/predict`, the log and the letter."""

from collections.abc import Sequence

from server.explain.reasons import MAX_PRINCIPAL, ReasonTexts, largest
from ui.words.text import Text
from ui.words.wording import second_language


def principal(texts: ReasonTexts, values: Sequence[float], terms: Sequence[float]) -> list[Text]:
    """At most four sentences, the weightiest first, of F encoded values and what each adds to the margin."""
    french = second_language(texts.languages)
    return [
        Text(texts.text(i, values[i]), texts.text(i, values[i], french))
        for i in largest(terms, MAX_PRINCIPAL)
    ]
