"""The words of the page, from the bundle where it gives them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.bundle import Bundle

NBSP = "\N{NO-BREAK SPACE}"

#: What was decided, for decisions named by a verb.
_GRANTS = {"accept": "Accepted", "approve": "Approved", "grant": "Granted"}
_REFUSALS = {"refuse": "Refused", "reject": "Rejected", "decline": "Declined", "deny": "Denied"}


@dataclass(frozen=True)
class Wording:
    """What the page calls things.

    A bundle may give any of these under `wording` in its manifest; what it does
    not give is said in general terms, or not at all. `missed` and `false_alarm`
    name the two mistakes ("a missed default", "a good applicant refused"). Where
    the decision at or above the threshold `refuses`, it is shown as bad news.
    """

    title: str
    below: str
    otherwise: str
    probability: str = "probability"
    case: str = "case"
    missed: str = ""
    false_alarm: str = ""
    refuses: bool = False

    @classmethod
    def of(cls, bundle: Bundle) -> "Wording":
        """The wording of one bundle."""
        given: Mapping[str, Any] = bundle.manifest.get("wording") or {}
        words: dict[str, Any] = {
            "title": sentence(bundle.name.replace("-", " ").replace("_", " ")),
            "below": _done(bundle.decision.below),
            "otherwise": _done(bundle.decision.otherwise),
            "refuses": bundle.decision.otherwise.lower() in _REFUSALS,
        }
        known = cls.__dataclass_fields__
        return cls(**words | {name: text for name, text in given.items() if name in known})


def _done(decision: str) -> str:
    return (_GRANTS | _REFUSALS).get(decision.lower(), sentence(decision))


def sentence(text: str) -> str:
    """The text with its first letter in upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def percent(probability: float, decimals: int = 1) -> str:
    """A probability in percent, never rounded to a certainty it is not."""
    least = 10**-decimals
    share = probability * 100
    if 0 < share < least:
        return f"under {least:g}{NBSP}%"
    if 100 - least < share < 100:
        return f"over {100 - least:g}{NBSP}%"
    return f"{share:.{decimals}f}{NBSP}%"


def percents(probability: float, threshold: float) -> tuple[str, str]:
    """Both in percent, with as many decimals as it takes to tell them apart."""
    for decimals in range(1, 6):
        pair = percent(probability, decimals), percent(threshold, decimals)
        if pair[0] != pair[1] or probability == threshold:
            break
    return pair
