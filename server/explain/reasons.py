"""The reasons of a response, in words: contributions with the texts, labels and units of the bundle."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from server.errors import UnacceptableRow
from server.model.bundle import Bundle
from server.model.schema import Feature, Schema

#: "Up to four" is the practice that comment 9(b)(2)-1 to Regulation B describes.
MAX_PRINCIPAL = 4
ENGLISH, FRENCH, ALL = "en", "fr", "all"
MISSING = "not given"
_FLAG_WORDS = {ENGLISH: ("no", "yes"), FRENCH: ("non", "oui")}
_MISSING = {ENGLISH: MISSING, FRENCH: "pas de valeur"}
#: Of a label and its value; in French with a blank that does not break.
_COLON = {FRENCH: "\xa0: "}
#: Between thousands, and before decimals.
_FRENCH_FIGURES = str.maketrans({",": "\u202f", ".": ","})


def reasons(
    schema: Schema, row: Sequence[float], terms: Sequence[float], subject: str
) -> list[dict[str, Any]]:
    """One reason a feature, those that raise `subject` first and the largest first among them.

    `row` are F encoded values, `terms` their F contributions in the unit of the
    margin. At most four that raise it are principal reasons: of a credit decision
    those that speak against the applicant.
    """
    principal = set(largest(terms, MAX_PRINCIPAL))
    order = sorted(range(len(terms)), key=lambda i: -terms[i])
    return [_reason(schema.features[i], row[i], terms[i], subject, principal=i in principal) for i in order]


def largest(terms: Sequence[float], most: int) -> list[int]:
    """The features that raise the margin, the largest contribution first, at most so many.

    The one order of reasons: of `/predict`, batches, files, the log and the page.
    """
    raising = [i for i, term in enumerate(terms) if term > 0.0]
    return sorted(raising, key=lambda i: -terms[i])[:most]


class AskedReasons(NamedTuple):
    """What a client asks for: at most so many reasons, in a language; `always` of a favourable one too."""

    most: int
    language: str = ENGLISH
    always: bool = False


class ReasonTexts:
    """What a bundle says of a feature that counts, by language: a code and a sentence.

    A description gives them for a value that raises (`up`) and one that is `missing`; of a
    feature without, the label and the value are said.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._schema = bundle.schema
        said: Mapping[str, Any] = bundle.manifest.get("reasons", {})
        translations = bundle.manifest.get("translations", {})
        self._translated = {language: words.get("features") or {} for language, words in translations.items()}
        wordings = {ENGLISH: bundle.manifest} | translations
        self._first = {
            language: (words.get("wording") or {}).get("below") or bundle.decision.below
            for language, words in wordings.items()
        }
        texts = [one["text"] for ways in said.values() for one in ways.values()]
        self.languages = sorted({ENGLISH, *translations, *(name for text in texts for name in text)})
        #: Of each feature its code, and its sentence in each language, of a value and of a missing one.
        self._said = [
            [_said((said.get(feature.name) or {}).get(way) or {}, feature.name) for way in ("up", "missing")]
            for feature in bundle.schema.features
        ]

    def asked(self, query: Mapping[str, str]) -> AskedReasons | None:
        """What the parameters `reasons` and `language` of a request say; raises `UnacceptableRow`."""
        language = self.language(query)
        if "reasons" not in query:
            return None
        most, width = query["reasons"], len(self._schema)
        if not (
            most == ALL or (most.isascii() and most.isdigit() and len(most) < 6 and 0 < int(most) <= width)
        ):
            raise UnacceptableRow(f"expected reasons to be a number from 1 to {width}, or {ALL}, got another")
        return AskedReasons(width if most == ALL else int(most), language, most == ALL)

    def language(self, query: Mapping[str, str]) -> str:
        """What the parameter `language` of a request says; raises `UnacceptableRow`."""
        language = query.get("language", ENGLISH)
        if language not in self.languages:
            raise UnacceptableRow(f"expected language to be one of {', '.join(self.languages)}, got another")
        return language

    def code(self, i: int, value: float) -> str:
        """The code of a feature that raises the margin at this encoded value, its name without one."""
        return self._said[i][math.isnan(value)][0]

    def text(self, i: int, value: float, language: str = ENGLISH) -> str:
        """The sentence of the same."""
        text = self._said[i][math.isnan(value)][1].get(language)
        return text if text is not None else self.labelled(i, self.value(i, value, language), language)

    def labelled(self, i: int, words: str, language: str) -> str:
        """Words of a value, or of how it changes, behind what its feature is called."""
        return f"{self.label(i, language)}{_COLON.get(language, ': ')}{words}"

    def value(self, i: int, code: float, language: str = ENGLISH) -> str:
        """An encoded value as people read it, with its unit."""
        feature = self._schema.features[i]
        own: Mapping[str, Any] = (self._translated.get(language) or {}).get(feature.name, {})
        return value_words(feature, code, language, own)

    def change(self, i: int, before: float, after: float, language: str = ENGLISH) -> str:
        """An encoded value and the one it becomes, behind what the feature is called; the unit once."""
        feature = self._schema.features[i]
        old, new = (self.value(i, code, language) for code in (before, after))
        if feature.kind != "category":
            old = old.partition(" ")[0]  # what parts thousands in French is no blank
        return self.labelled(i, f"{old} → {new}", language)

    def first_decision(self, language: str = ENGLISH) -> str:
        """What the decision is called that an applicant wishes for."""
        return self._first.get(language) or self._first[ENGLISH]

    def label(self, i: int, language: str = ENGLISH) -> str:
        feature = self._schema.features[i]
        label = (self._translated.get(language) or {}).get(feature.name, {}).get("label") or feature.label
        return label or feature.name

    def principal(
        self, values: Sequence[float], terms: Sequence[float], most: int, language: str = ENGLISH
    ) -> list[dict[str, Any]]:
        """At most so many reasons of a row of F encoded values and its F terms, as responses have them."""
        return [
            {
                "code": self.code(i, values[i]),
                "feature": self._schema.names[i],
                "contribution": terms[i],
                "text": self.text(i, values[i], language),
            }
            for i in largest(terms, most)
        ]


def _said(reason: Mapping[str, Any], name: str) -> tuple[str, Mapping[str, str]]:
    """The code of a reason, its feature's name without one, and its sentences by language."""
    return reason.get("code") or name, reason.get("text") or {}


def _reason(feature: Feature, code: float, term: float, subject: str, *, principal: bool) -> dict[str, Any]:
    effect = "raises" if term > 0.0 else "lowers" if term < 0.0 else "does not change"
    label = feature.label or feature.name
    return {
        "feature": feature.name,
        "label": label,
        "value": feature.decode(code),
        "contribution": term,
        "principal": principal,
        "words": f"{label}: {value_words(feature, code)} {effect} {subject}",
    }


def value_words(
    feature: Feature, code: float, language: str = ENGLISH, own: Mapping[str, Any] | None = None
) -> str:
    """An encoded value as people read it, with its unit; `own` is the feature in that language."""
    own = own or {}
    if math.isnan(code):
        return _MISSING.get(language, MISSING)
    if feature.kind == "category":
        words: Sequence[str] = own.get("category_labels") or feature.category_labels or feature.categories
        return words[int(code)]
    if feature.form_kind == "flag" and code in (0.0, 1.0):
        return _FLAG_WORDS.get(language, _FLAG_WORDS[ENGLISH])[int(code)]
    number = f"{code:,.0f}" if abs(code) >= 1000 or code == int(code) else f"{code:.3g}"
    number = number.translate(_FRENCH_FIGURES) if language == FRENCH else number
    unit = "" if feature.unit.startswith(("score", "from ")) else own.get("unit") or feature.unit
    return f"{number} {unit}".rstrip()
