"""What one cell of a file means: a missing value, a number as people write it, a category or its label."""

import math
import re
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from server.model.schema import Feature
from server.model.wrong_value import MISSING

#: Blanks and apostrophes part thousands wherever they stand so: nothing else is written like it.
_BLANKS = " \u00a0\u2009\u202f'’"
#: The exact decimal text of a float64 has at most 1,076 characters, sign and point included.
MAX_NUMBER_LENGTH = 1100

_NUMBER = re.compile(r"[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+")
_GROUPED = re.compile(
    rf"[+-]?+[1-9][0-9]{{0,2}}(?:([{_BLANKS}.,])[0-9]{{3}})(?:\1[0-9]{{3}})*+(?:[.,][0-9]*+)?+"
)
#: What Postgres reads as a boolean, R's T and F among it, and what Excel writes for TRUE and FALSE in other
#: languages, in any case.
_TRUE = ("true", "t", "yes", "y", "on", "wahr", "vrai", "verdadero", "vero", "waar", "verdadeiro")
_FALSE = ("false", "f", "no", "n", "off", "falsch", "faux", "falso", "onwaar")
_FLAGS = {"0": 0, "1": 1} | dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)

#: Of a flag's column for which `in_ones_and_twos` holds: its ones must not be scored as true.
ONES_AND_TWOS = (
    "expected 0 and 1, or true and false, got a column of 1 and 2, of which either could be true: "
    "write it in one of these"
)

Read = Callable[[str], Any]


def in_ones_and_twos(values: Collection[Any]) -> bool:
    """Whether a flag's column is written in 1 and 2, as surveys are: which of them is true nobody says."""
    return 1 in values and 2 in values and 0 not in values


class CellRules(NamedTuple):
    """How a file writes values: its decimal sign, what parts thousands ("" if nothing), words for missing.

    `thousands` is a comma or a point; blanks and apostrophes are understood anyway.
    """

    decimal: str = "."
    thousands: str = ""
    missing: tuple[str, ...] = MISSING


PLAIN = CellRules()


def cell_reader(feature: Feature, rules: CellRules = PLAIN) -> Read:
    """A function from a cell to the JSON value it means, None for a missing one.

    A text that is no value of the feature comes back as it is, for `Feature.encode` to refuse.
    """
    parse = _parser(feature, rules)
    missing = frozenset(rules.missing).difference(feature.categories) | {""}

    def read(cell: str) -> Any:
        text = cell.strip()
        return None if text in missing else parse(text)

    return read


def _parser(feature: Feature, rules: CellRules) -> Read:
    if feature.kind == "category":
        words = category_words(feature)
        return lambda text: words.get(text, text)
    if feature.form_kind == "flag":
        return lambda text: _FLAGS[word] if (word := text.lower()) in _FLAGS else number(text, rules)
    return lambda text: number(text, rules, whole=feature.kind == "integer")


def category_words(feature: Feature) -> dict[str, str]:
    """The category that each text stands for: itself, or the one whose label it is."""
    labels = dict(zip(feature.category_labels, feature.categories, strict=False))
    doubled = {label for label in labels if feature.category_labels.count(label) > 1}
    return {label: name for label, name in labels.items() if label not in doubled} | {
        name: name for name in feature.categories
    }


def number(text: str, rules: CellRules = PLAIN, *, whole: bool = False) -> float | int | str:
    """The number a text without blanks around it holds, or the text itself.

    `whole` numbers are read to the last digit, so that one beyond 2^53 can be refused.
    """
    if len(text) > MAX_NUMBER_LENGTH:
        return text
    plain = _plain(text, rules)
    if not _NUMBER.fullmatch(plain):
        return text
    if whole and len(plain) < 20 and plain.lstrip("+-").isdigit():
        return int(plain)
    value = float(plain)
    return value if math.isfinite(value) else text


def _plain(text: str, rules: CellRules) -> str:
    """The text with a decimal point and without what parts thousands."""
    if text.isdigit():
        return text
    by = parted_by(text)
    if by and (by in _BLANKS or by == rules.thousands):
        text = text.replace(by, "")
    if rules.decimal == ".":
        return text
    # Of a number with a point in a file of decimal commas nobody knows what it means.
    return "" if "." in text else text.replace(rules.decimal, ".")


def parted_by(text: str) -> str:
    """What parts the thousands of a number, "" if nothing does or it is no number."""
    grouped = _GROUPED.fullmatch(text) if len(text) <= MAX_NUMBER_LENGTH else None
    return grouped[1] if grouped else ""
