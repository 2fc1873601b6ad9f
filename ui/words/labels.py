"""What the page says of a feature and its values, in plain words of both languages."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from server.errors import Problem
from server.model.bundle import Bundle
from server.model.schema import MAX_CATEGORIES, Feature, Schema, name_in
from server.tables.cells import ONES_AND_TWOS
from ui.words.text import EMPTY, NBSP, Text, joined, sentence
from ui.words.values import format_number
from ui.words.wording import french_of

#: How many values of a row its summary tells.
_SUMMARISED = 3

#: What French counts with "de": a million of something.
_COUNTED = ("million", "millions", "milliard", "milliards")

_NUMBER, _WHOLE = Text("a number", "un nombre"), Text("a whole number", "un nombre entier")
YES, NO = Text("Yes", "Oui"), Text("No", "Non")
UNKNOWN_WORD = Text("Unknown", "Inconnu")


class Complaint(NamedTuple):
    """One rejected field: its feature, its label and the server's words."""

    feature: str
    label: Text
    detail: Text


class Labels:
    """The words of a bundle's features: its own, and their French where the bundle has it."""

    def __init__(self, french: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._french = french or {}

    @classmethod
    def of(cls, bundle: Bundle) -> "Labels":
        """The words of one bundle."""
        return cls(french_of(bundle).get("features"))

    def _text(self, feature: Feature, member: str, own: str) -> Text:
        return Text(own, self._french.get(feature.name, {}).get(member, own))

    def label(self, feature: Feature) -> Text:
        """What a person calls the feature."""
        return self._text(feature, "label", feature.label or sentence(feature.name.replace("_", " ")))

    def group(self, feature: Feature) -> Text:
        """The heading the feature stands under."""
        return self._text(feature, "group", feature.group)

    def unit(self, feature: Feature) -> Text:
        """The unit of a number."""
        return self._text(feature, "unit", feature.unit)

    def hint(self, feature: Feature) -> Text:
        """Range and unit in one line, for example "18 to 120 years"."""
        words, unit = _range_words(feature), self.unit(feature)
        if words.en and words.en in unit.en:  # a unit such as "score from 0 to 1"
            words = EMPTY
        if words.fr.endswith(_COUNTED) and unit.fr:
            unit = Text(unit.en, ("d'" if unit.fr[0].lower() in "aeéèiou" else "de ") + unit.fr)
        return joined([words, unit], " ")

    def help(self, feature: Feature) -> Text:
        """Where to find the value, and a typical one where the bundle knows it."""
        typical = self.typical(feature)
        said = Text("Typical: {value}.", f"Valeur courante{NBSP}: {{value}}.").put(value=typical)
        return joined([self._text(feature, "help", feature.help), said if typical.en else EMPTY], " ")

    def typical(self, feature: Feature) -> Text:
        """A typical value in words, or nothing."""
        return EMPTY if feature.default is None else self.value(feature, feature.default)

    def choices(self, feature: Feature) -> dict[str, Text]:
        """The categories in words, by what a client sends."""
        own = feature.category_labels or feature.categories
        french = self._french.get(feature.name, {}).get("category_labels", own)
        return {name: Text(*pair) for name, *pair in zip(feature.categories, own, french, strict=True)}

    def value(self, feature: Feature, value: Any) -> Text:
        """A value as a client sends it, as people read it."""
        if value is None:
            return UNKNOWN_WORD
        if feature.kind == "category":
            return self.choices(feature).get(value, Text.same(str(value)))
        if feature.form_kind == "flag" and value in (0, 1):
            return YES if value else NO
        return Text.figures(format_number(round(value, 2 if abs(value) >= 1 else 3)))

    def measured(self, feature: Feature, value: Any) -> Text:
        """A value with its unit, but for units that say a range."""
        unit = self.unit(feature)
        if (
            value is None
            or feature.form_kind in ("category", "flag")
            or unit.en.startswith(("score", "from "))
        ):
            return self.value(feature, value)
        return joined([self.value(feature, value), unit], NBSP)

    def complaints(self, fields: Iterable[Feature], problem: Problem) -> list[Complaint]:
        """The rejected fields of a request, in words."""
        named = {feature.name: feature for feature in fields}
        features = [(named[name_in(error.pointer)], error.detail) for error in problem.errors]
        return [Complaint(f.name, self.label(f), self.refusal(f, detail)) for f, detail in features]

    def refusal(self, feature: Feature, detail: str) -> Text:
        """What to do about one value, behind the field's name: "must be a number, like 144,000".

        `detail` are the server's words; those that are not the schema's stay as they are.
        """
        if detail == ONES_AND_TWOS:
            return _ONES_AND_TWOS
        got = detail.removeprefix(f"expected {feature.expected}, got ")
        if got == detail:
            return Text.same(detail)
        if got in ("null", "nothing"):
            said = Text("is needed", "manque")
        elif feature.form_kind == "flag":
            return Text("must be yes or no", "doit être oui ou non")
        else:
            said = joined([Text("must be", "doit être"), _wanted(feature, got)], " ")
        typical = self.typical(feature)
        if not typical.en or (feature.kind == "category" and got not in ("null", "nothing")):
            return said
        return joined([said, Text("like {value}", "par exemple {value}").put(value=typical)])

    def units(self, feature: Feature) -> list[str]:
        """What may stand behind a number in the form, the longest first."""
        return sorted({word for word in self.unit(feature) if word}, key=len, reverse=True)

    def summary(self, schema: Schema, row: Mapping[str, Any]) -> Text:
        """A row in a few words: its first values, those of required features before others."""
        told = [f for f in sorted(schema.features, key=lambda f: f.nullable) if row.get(f.name) is not None]
        return joined([joined([self.label(f), self.value(f, row[f.name])], " ") for f in told[:_SUMMARISED]])


_ONES_AND_TWOS = Text(
    "must be yes or no: its column holds 1 and 2, of which either could be yes",
    f"doit être oui ou non{NBSP}: sa colonne contient 1 et 2, et l'un comme l'autre peut dire oui",
)


def expected(feature: Feature) -> Text:
    """The accepted values, as `Feature.expected` says them."""
    if feature.kind == "category":
        names = feature.categories[:MAX_CATEGORIES]
        words = "l'une de " + ", ".join(f"«{NBSP}{name}{NBSP}»" for name in names)
        more = len(feature.categories) - len(names)
        words += f" et {more} autres" if more else ""
    elif feature.kind == "flag":
        words = "0, 1, true ou false"
    else:
        low, high = feature.range
        words = "un nombre entier" if feature.kind == "integer" else "un nombre"
        bounds = [Text.figures(format_number(bound)).fr for bound in (low, high) if math.isfinite(bound)]
        if len(bounds) == 2:
            words += f" entre {bounds[0]} et {bounds[1]}"
        elif bounds:
            words += f" d'au {'moins' if math.isfinite(low) else 'plus'} {bounds[0]}"
        words += ", true ou false" if feature.form_kind == "flag" else ""
    return Text(feature.expected, words + (" ou rien" if feature.nullable else ""))


def accepted(feature: Feature) -> Text:
    """The accepted values for a person who reads of the model: short bounds, and unknown where it may be."""
    words = expected(feature)
    said = Text(words.en.removesuffix(" or null"), words.fr.removesuffix(" ou rien"))
    if feature.form_kind in ("number", "integer"):
        number = _WHOLE if feature.form_kind == "integer" else _NUMBER
        said = joined([number, _bounds(feature)], " ")
    return joined([said, Text("or unknown", "ou inconnu") if feature.nullable else EMPTY], " ")


def _wanted(feature: Feature, got: str) -> Text:
    """What a value must be, in as few words as the case needs."""
    words = expected(feature)
    if feature.kind == "category":
        return Text(words.en.removesuffix(" or null"), words.fr.removesuffix(" ou rien"))
    whole = feature.form_kind == "integer"
    if got != "a number outside of it":
        return _WHOLE if whole else _NUMBER
    bounds = _bounds(feature)
    return bounds if bounds.en else words


def _bounds(feature: Feature) -> Text:
    """The range of a number in words, nothing without any."""
    low, high = (bound if math.isfinite(bound) else None for bound in feature.range)
    if low is not None and high is not None:
        return Text("from {low} to {high}", "de {low} à {high}").put(low=_short(low), high=_short(high))
    if low is not None:
        return Text("at least {bound}", "au moins {bound}").put(bound=_short(low))
    return Text("at most {bound}", "au plus {bound}").put(bound=_short(high)) if high is not None else EMPTY


def _range_words(feature: Feature) -> Text:
    low, high = feature.form_range
    bounded = [bound for bound in (low, high) if bound is not None and math.isfinite(bound)]
    if not bounded:
        return EMPTY
    shown = [_short(bound) for bound in bounded]
    if len(bounded) == 2:
        return Text("{low} to {high}", "{low} à {high}").put(low=shown[0], high=shown[1])
    least = Text("at least {bound}", "au moins {bound}") if bounded[0] == low else None
    return (least or Text("at most {bound}", "au plus {bound}")).put(bound=shown[0])


def _short(bound: float) -> Text:
    for size, word in ((1e9, Text("billion", "milliard")), (1e6, Text("million", "million"))):
        if abs(bound) >= size and (bound / size * 10).is_integer():
            plural = Text(word.en, word.fr + ("s" if bound >= 2 * size else ""))
            return joined([Text.figures(f"{bound / size:,g}"), plural], NBSP)
    # A range that was read off the data has sixteen digits; a hint needs not.
    return Text.figures(format_number(bound if float(bound).is_integer() else float(f"{bound:.4g}")))
