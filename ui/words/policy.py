"""What the policy of a bundle says beside the score, as sentences for a person."""

from collections.abc import Iterable, Mapping
from typing import Any

from server.model.bundle import Bundle
from server.model.policy import NEEDED, UNUSUAL, Check
from ui.words.labels import Labels
from ui.words.text import EMPTY, NBSP, Text, joined
from ui.words.wording import known_names

_NEEDED = Text(
    "Too little is known to decide. Needed: {needed}.",
    f"Trop peu d'informations pour décider. Il faut{NBSP}: {{needed}}.",
)
_AT_LEAST = Text(
    "at least {count} of {all} {all:input|inputs}", "au moins {count} {count:donnée|données} sur {all}"
)
_UNUSUAL = Text("Some of the values are out of the ordinary.", "Certaines valeurs sortent de l'ordinaire.")
_MISFIT = Text("“{label}” does not fit the other values.", "« {label} » ne va pas avec les autres valeurs.")


class Because:
    """What the reasons of a bundle's policy say: `words` by their names, whatever the case."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._labels = bundle, Labels.of(bundle)
        self._needed = bundle.policy.needed if bundle.policy is not None else None
        self.words = self._words()

    def said(self, names: Iterable[str], given: Mapping[str, Any]) -> list[Text]:
        """The reasons of these names for a case: of what is needed, that which the case does not say."""
        return [self._lacking(given) if name == NEEDED else self.words[name] for name in names]

    def _words(self) -> dict[str, Text]:
        policy = self._bundle.policy
        if policy is None:
            return {}
        said = {check.reason: _check(check, self._bundle, self._labels) for check in policy.checks}
        said |= {NEEDED: self._lacking({}), UNUSUAL: _UNUSUAL}
        return {name: said[name] for name in policy.reasons()}

    def _lacking(self, given: Mapping[str, Any]) -> Text:
        """The inputs that have to be known by their names, and how many in all."""
        if self._needed is None:
            return EMPTY
        schema = self._bundle.schema
        known = known_names(schema, given)
        wanted = [self._labels.label(schema[name]) for name in self._needed.always if name not in known]
        if self._needed.known_at_least > len(known):
            wanted.append(_AT_LEAST.put(count=str(self._needed.known_at_least), all=str(len(schema))))
        return _NEEDED.put(needed=joined(wanted))


def _check(check: Check, bundle: Bundle, labels: Labels) -> Text:
    given = check.text if isinstance(check.text, dict) else {"en": check.text}
    english = given.get("en", "")
    if not english:
        return _MISFIT.put(label=labels.label(bundle.schema[check.feature]))
    return Text(_ended(english), _ended(given.get("fr", english)))


def _ended(text: str) -> str:
    """A bundle's text, behind which another sentence may stand."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
