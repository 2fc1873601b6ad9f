"""The words of the page, from the bundle where it gives them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from server.model.bundle import Bundle
from server.model.schema import Schema
from ui.words.text import EMPTY, NBSP, Text
from ui.words.values import format_number

#: What was decided, for decisions named by a verb.
_GRANTS = {
    "accept": Text("Accepted", "Accepté"),
    "approve": Text("Approved", "Approuvé"),
    "grant": Text("Granted", "Accordé"),
}
_REFUSALS = {
    "refuse": Text("Refused", "Refusé"),
    "reject": Text("Rejected", "Rejeté"),
    "decline": Text("Declined", "Décliné"),
    "deny": Text("Denied", "Refusé"),
}
#: What a policy decides beside the score.
_OTHERS = {
    "refer": Text("For a person", "À examiner"),
    "incomplete": Text("Incomplete", "Incomplet"),
}
_KNOWN = Text(
    "{known} of {all} {all:input|inputs} known.",
    "{known} {known:donnée connue|données connues} sur {all}.",
)
_PROBABILITY, _CASE = Text("probability", "probabilité"), Text("case", "cas")


@dataclass(frozen=True)
class Wording:
    """What the page calls things.

    A bundle may give any of these under `wording` in its manifest, and in French
    under `translations`; what it does not give is said in general terms, or not at
    all. `missed` and `false_alarm` name the two mistakes ("a missed default", "a
    good applicant refused"). Where the decision at or above the threshold
    `refuses`, it is shown as bad news. `sender` stands at the head of a letter, `bureau` in it:
    whose report was used, and where it can be asked for.
    """

    title: Text
    below: Text
    otherwise: Text
    probability: Text = _PROBABILITY
    case: Text = _CASE
    missed: Text = EMPTY
    false_alarm: Text = EMPTY
    sender: Text = EMPTY
    bureau: Text = EMPTY
    refuses: bool = False

    @classmethod
    def of(cls, bundle: Bundle) -> "Wording":
        """The wording of one bundle."""
        given: Mapping[str, Any] = bundle.manifest.get("wording", {})
        french: Mapping[str, Any] = french_of(bundle).get("wording") or {}
        decision = bundle.decision
        words: dict[str, Any] = {
            "title": Text.same(bundle.name.replace("-", " ").replace("_", " ")).sentence(),
            "below": _done(decision.below),
            "otherwise": _done(decision.otherwise),
            "refuses": decision.otherwise.lower() in _REFUSALS,
        }
        for name in {field.name for field in fields(cls)} & set(given) - {"refuses"}:
            words[name] = Text(given[name], french.get(name, given[name]))
        for name in {"below", "otherwise"} & set(french) - set(given):
            words[name] = Text(words[name].en, french[name])
        return cls(**words | {"refuses": given.get("refuses", words["refuses"])})


def decided(bundle: Bundle, words: Wording) -> dict[str, Text]:
    """What each decision of a binary bundle is called."""
    named = {name: _OTHERS.get(name, _done(name)) for name in bundle.outcomes}
    return named | {bundle.decision.below: words.below, bundle.decision.otherwise: words.otherwise}


def french_of(bundle: Bundle) -> Mapping[str, Any]:
    """The bundle's own French: `translations.fr` of its manifest."""
    translations: Mapping[str, Any] = bundle.manifest.get("translations", {})
    found: Mapping[str, Any] = translations.get("fr") or {}
    return found


def second_language(languages: Collection[str]) -> str:
    """The language of reasons beside English: French, or English again of a bundle without."""
    return "fr" if "fr" in languages else "en"


def _done(decision: str) -> Text:
    return (_GRANTS | _REFUSALS).get(decision.lower(), Text.same(decision).sentence())


def known_of(schema: Schema, given: Mapping[str, Any]) -> Text:
    """How many of the model's inputs a case says something of."""
    return _KNOWN.put(known=str(len(known_names(schema, given))), all=str(len(schema)))


def known_names(schema: Schema, given: Mapping[str, Any]) -> set[str]:
    """The inputs that a case, in values or in the texts of the form, says something of."""
    return {name for name in schema.names if given.get(name) not in (None, "")}


def value_words(value: float) -> Text:
    """A predicted value, with the same digits wherever it is told."""
    return Text.figures(format_number(float(f"{value:.6g}")))


def percent(probability: float, decimals: int = 1) -> Text:
    """A probability in percent, never rounded to a certainty it is not."""
    least = 10**-decimals
    share = probability * 100
    if 0 < share < least:
        return Text("under {figure}", "moins de {figure}").put(figure=Text.figures(f"{least:g}{NBSP}%"))
    if 100 - least < share < 100:
        return Text("over {figure}", "plus de {figure}").put(figure=Text.figures(f"{100 - least:g}{NBSP}%"))
    return Text.figures(f"{share:.{decimals}f}{NBSP}%")


def percents(*shares: float) -> tuple[Text, ...]:
    """All in percent, with as many decimals as it takes to tell them apart."""
    for decimals in range(1, 6):
        words = tuple(percent(share, decimals) for share in shares)
        if len(set(words)) == len(set(shares)):
            break
    return words


def points(share: float) -> Text:
    """A difference of probabilities in points of percent, with its sign."""
    figure = Text.figures(f"{abs(share) * 100:.1f}")
    sign = "" if figure.en == "0.0" else "+" if share > 0 else "\N{MINUS SIGN}"
    return Text("{sign}{figure}{nbsp}points", "{sign}{figure}{nbsp}points").put(
        sign=sign, figure=figure, nbsp=NBSP
    )
