"""What the policy of a bundle says beside the score, as sentences for a person."""

from server.model.bundle import Bundle
from server.model.policy import NEEDED, UNUSUAL, Check, Needed
from ui.words.labels import Labels
from ui.words.text import NBSP, Text, joined

_NEEDED = Text(
    "Too little is known to decide. Needed: {needed}.",
    f"Trop peu d'informations pour décider. Il faut{NBSP}: {{needed}}.",
)
_AT_LEAST = Text(
    "at least {count} of {all} {all:input|inputs}", "au moins {count} {count:donnée|données} sur {all}"
)
_UNUSUAL = Text("Some of the values are out of the ordinary.", "Certaines valeurs sortent de l'ordinaire.")
_MISFIT = Text("“{label}” does not fit the other values.", "« {label} » ne va pas avec les autres valeurs.")


def because(bundle: Bundle) -> dict[str, Text]:
    """What each reason of the bundle's policy says, by its name."""
    policy = bundle.policy
    if policy is None:
        return {}
    labels = Labels.of(bundle)
    said = {check.reason: _check(check, bundle, labels) for check in policy.checks}
    if policy.needed is not None:
        said[NEEDED] = _needed(policy.needed, bundle, labels)
    if policy.unusual is not None:
        said[UNUSUAL] = _UNUSUAL
    return {name: said[name] for name in policy.reasons()}


def _check(check: Check, bundle: Bundle, labels: Labels) -> Text:
    given = check.text if isinstance(check.text, dict) else {"en": check.text}
    english = given.get("en", "")
    if not english:
        return _MISFIT.put(label=labels.label(bundle.schema[check.feature]))
    return Text(_ended(english), _ended(given.get("fr", english)))


def _needed(needed: Needed, bundle: Bundle, labels: Labels) -> Text:
    """The inputs that have to be known by their names, and how many in all."""
    wanted = [labels.label(bundle.schema[name]) for name in needed.always]
    if needed.known_at_least:
        wanted.append(_AT_LEAST.put(count=str(needed.known_at_least), all=str(len(bundle.schema))))
    return _NEEDED.put(needed=joined(wanted))


def _ended(text: str) -> str:
    """A bundle's text, behind which another sentence may stand."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
