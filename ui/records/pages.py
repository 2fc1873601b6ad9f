"""The sheet and the letter of a decision as HTML, from templates, in one language each."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ui.words.text import Text

Language = Literal["en", "fr"]
_FOLDER = Path(__file__).parent / "templates"
_MONTHS = {
    "en": "January February March April May June July August September October November December",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
}


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def page(name: str, language: Language, **given: Any) -> str:
    """The template of a name; `say(english, french)` and `in_words(text)` are in it."""
    french = language == "fr"

    def say(english: str, in_french: str) -> str:
        return in_french if french else english

    template = _environment().get_template(f"{name}.html")
    now = datetime.now(UTC)
    return template.render(
        given, language=language, say=say, in_words=in_words(language), day=day(language), now=now
    )


def in_words(language: Language) -> Callable[[Text], str]:
    """A function that gives a text in one language."""
    return lambda text: text.fr if language == "fr" else text.en


def day(language: Language) -> Callable[[datetime], str]:
    """A function that writes a date as letters have it."""
    months = _MONTHS[language].split()
    return lambda when: f"{when.day} {months[when.month - 1]} {when.year}"
