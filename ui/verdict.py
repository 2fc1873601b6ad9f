"""The server's answer in words: a decision on its gauge, or the prediction of another task."""

from collections.abc import Mapping
from html import escape
from typing import Any, Protocol

from server.bundle import Bundle
from ui.gauge import gauge
from ui.panel import head, origin, panel
from ui.values import format_number
from ui.wording import NBSP, Wording, percent, percents

#: Of a model with many classes, the likeliest are listed.
_LISTED_CLASSES = 6


class Verdict(Protocol):
    """How the answers of one bundle look; `document` is the body of `POST /predict`'s 200."""

    def idle(self) -> str:
        """Before anything was asked."""

    def answered(self, document: Mapping[str, Any], seconds: float) -> str:
        """One answer, and the seconds it took."""


def verdict_of(bundle: Bundle) -> Verdict:
    """The verdict for the bundle's task."""
    return Decided(bundle) if bundle.task == "binary" else Predicted(bundle)


class Decided:
    """The verdict of a binary classifier: what was decided, and by how much."""

    def __init__(self, bundle: Bundle) -> None:
        self._words = Wording.of(bundle)
        self._decision = bundle.decision
        # Only a refusal is bad news; other decisions are no one's praise or blame.
        self._tone = "judged" if self._words.refuses else "plain"

    def idle(self) -> str:
        """The limit alone."""
        said = head("none", "No decision yet", "Fill in the form and decide, or start from an example.")
        return panel(f"idle {self._tone}", said, self._gauge(None), self._weighing())

    def answered(self, document: Mapping[str, Any], seconds: float) -> str:
        """The decision in words and on the gauge."""
        probability, below = document["probability"], document["decision"] == self._decision.below
        judged = self._words.refuses
        if below:
            said = head("check" if judged else "down", self._words.below, self._comparison(probability))
        else:
            said = head("cross" if judged else "up", self._words.otherwise, self._comparison(probability))
        kind = f"{'below' if below else 'otherwise'} {self._tone}"
        return panel(kind, said, self._gauge(probability), self._weighing(), origin(document, seconds))

    def _comparison(self, probability: float) -> str:
        risk, limit = percents(probability, self._decision.threshold)
        below = probability < self._decision.threshold
        relation = "below" if below else "at" if risk == limit else "above"
        return f"The {self._words.probability} is {risk}, {relation} the limit of {limit}."

    def _gauge(self, probability: float | None) -> str:
        threshold, words = self._decision.threshold, self._words
        risk, limit = ("–", percent(threshold)) if probability is None else percents(probability, threshold)
        ends = (words.below, words.otherwise)
        return gauge(probability, threshold, risk=risk, limit=limit, name=words.probability, ends=ends)

    def _weighing(self) -> str:
        """What the two mistakes cost beside each other; nothing where the bundle does not name them."""
        words, decision = self._words, self._decision
        if not (words.missed and words.false_alarm and decision.cost_false_positive > 0):
            return ""
        ratio = decision.cost_false_negative / decision.cost_false_positive
        weight = "as heavily" if ratio == 1 else f"{ratio:g}{NBSP}times as heavily"
        said = f"The limit weighs {words.missed} {weight} as {words.false_alarm}."
        return f'<p class="weighing">{escape(said)}</p>'


class Predicted:
    """The verdict of any other task: the value or the likeliest class."""

    def __init__(self, bundle: Bundle) -> None:
        self._classes = bundle.classes

    def idle(self) -> str:
        """An invitation."""
        said = head("none", "No answer yet", "Fill in the form and decide, or start from an example.")
        return panel("idle plain", said)

    def answered(self, document: Mapping[str, Any], seconds: float) -> str:
        """The prediction, and of classes the likeliest with their shares."""
        prediction, shares = document["prediction"], document.get("probabilities")
        if shares is None:
            said = head("none", format_number(float(f"{prediction:.6g}")), "The value the model predicts.")
            return panel("below plain", said, origin(document, seconds))
        said = head("none", str(prediction), f"The likeliest of {len(shares)} classes.")
        return panel("below plain", said, self._shares(shares), origin(document, seconds))

    def _shares(self, shares: list[float]) -> str:
        ranked = sorted(zip(shares, self._classes, strict=True), reverse=True)[:_LISTED_CLASSES]
        entries = "".join(
            f"<li><span>{escape(name)}</span><span>{percent(share)}</span>"
            f'<i style="width:{share:.1%}"></i></li>'
            for share, name in ranked
        )
        return f'<ul class="shares">{entries}</ul>'
