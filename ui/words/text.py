"""Words in the two languages of the page, and markup that carries both.

Every word is sent in English with its French beside it in `data-fr`; `base.js`
shows one or the other. So a change of language needs no request, and what was
typed stays where it is.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

NBSP = "\N{NO-BREAK SPACE}"
#: Between thousands in French.
THIN = "\N{NARROW NO-BREAK SPACE}"

_FRENCH_FIGURES = str.maketrans({",": THIN, ".": ","})


class _Put(str):
    """A value in a text; `{value:row|rows}` is the one word or the other, as the value asks for."""

    def __format__(self, forms: str) -> str:
        one, several, more = forms.partition("|")
        if not several:
            return super().__format__(forms)
        return one if self.is_one() else more

    def is_one(self) -> bool:
        """Whether a number so written is followed by the singular: in English nothing but 1 is."""
        return self == "1"


class _FrenchPut(_Put):
    def is_one(self) -> bool:
        """In French whatever is less than 2: 0, 1 and 1,5."""
        return self.partition(",")[0] in ("0", "1")


class Text(NamedTuple):
    """One text in both languages."""

    en: str
    fr: str

    def put(self, **values: "Text | str") -> "Text":
        """The text with its `{places}` filled, each language with its own words.

        `{count} {count:row|rows}` is "1 row" and "2 rows".
        """
        pairs = {name: v if isinstance(v, Text) else Text(v, v) for name, v in values.items()}
        return Text(
            self.en.format(**{name: _Put(v.en) for name, v in pairs.items()}),
            self.fr.format(**{name: _FrenchPut(v.fr) for name, v in pairs.items()}),
        )

    def sentence(self) -> "Text":
        """The text with its first letters in upper case, the rest as it is."""
        return Text(sentence(self.en), sentence(self.fr))

    def within(self) -> "Text":
        """The text as it stands within a sentence, its first letters in lower case."""
        return Text(self.en[:1].lower() + self.en[1:], self.fr[:1].lower() + self.fr[1:])

    @classmethod
    def same(cls, text: str) -> "Text":
        """A name, or another's words, that are the same in both languages."""
        return cls(text, text)

    @classmethod
    def figures(cls, written: str) -> "Text":
        """A number as English writes it (12,345.6), and as French does."""
        return cls(written, written.translate(_FRENCH_FIGURES))


EMPTY = Text("", "")


def joined(parts: "Sequence[Text]", between: str = ", ") -> Text:
    """The parts that say something, one after another."""
    french = between.replace(";", f"{NBSP};").replace(":", f"{NBSP}:")
    return Text(
        between.join(part.en for part in parts if part.en), french.join(part.fr for part in parts if part.fr)
    )


def sentence(text: str) -> str:
    """The text with its first letter in upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def tag(name: str, text: Text, **attributes: str) -> str:
    """An element that holds nothing but the text; `_` in an attribute's name stands for `-`."""
    french = "" if text.fr == text.en else f' data-fr="{escape(text.fr)}"'
    rest = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(v)}"' for key, v in attributes.items())
    return f"<{name}{rest}{french}>{escape(text.en)}</{name}>"


def attribute(name: str, text: Text) -> str:
    """An attribute in both languages, for the inside of a tag."""
    french = "" if text.fr == text.en else f' data-fr-{name}="{escape(text.fr)}"'
    return f'{name}="{escape(text.en)}"{french}'


def sheet(heading: Text, content: str, style: str = "") -> str:
    """A card of the page under its heading."""
    return f'<section class="sheet{f" {style}" if style else ""}">{tag("h2", heading)}{content}</section>'


def scroll(name: Text, content: str) -> str:
    """Something wide that scrolls by itself, also by keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" {attribute("aria-label", name)}>{content}</div>'


def table(name: Text, heads: "Sequence[Text]", rows: str = "") -> str:
    """A table that scrolls by itself; `rows` are `<tr>` elements."""
    columns = "".join(tag("th", words, scope="col") for words in heads)
    return scroll(name, f"<table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>")
