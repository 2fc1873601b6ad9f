"""The server's answer in words: a decision on its gauge, or the prediction of another task."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from server.model.bundle import Bundle
from server.model.reference import read_reference
from ui.drawing.gauge import figures_in_words, gauge
from ui.drawing.panel import Symbol, head, origin, panel, supposed
from ui.words.bands import band_at, bands_of
from ui.words.policy import Because
from ui.words.text import EMPTY, NBSP, Text, joined, tag
from ui.words.wording import Wording, decided, known_of, percent, value_words

#: Of a model with many classes, the likeliest are listed.
_LISTED_CLASSES = 6
#: A smaller share of the training cases is not told.
_LEAST_SHARE = 0.005

_IDLE = Text("No decision yet", "Pas encore de décision")
_INVITATION = Text(
    "Fill in the form and decide, or start from an example.",
    "Remplissez le formulaire et décidez, ou partez d'un exemple.",
)
_COMPARED = {
    "below": Text(
        "The {name} is {risk}, below the limit of {limit}.",
        f"{{name}}{NBSP}: {{risk}}, sous la limite de {{limit}}.",
    ),
    "at": Text(
        "The {name} is {risk}, at the limit of {limit}.",
        f"{{name}}{NBSP}: {{risk}}, à la limite de {{limit}}.",
    ),
    "above": Text(
        "The {name} is {risk}, above the limit of {limit}.",
        f"{{name}}{NBSP}: {{risk}}, au-dessus de la limite de {{limit}}.",
    ),
    "between": Text(
        "The {name} is {risk}, between the limits of {limit} and {next}.",
        f"{{name}}{NBSP}: {{risk}}, entre les limites de {{limit}} et {{next}}.",
    ),
}
#: Of the training cases, by which of the two sides some of them lie on for sure.
_BESIDE = {
    (True, True): Text(
        "Of {count} training cases at least {lower} had a lower and at least {higher} a higher {name}.",
        "Sur {count} cas d'entraînement, au moins {lower} étaient plus bas et au moins {higher} plus haut.",
    ),
    (True, False): Text(
        "Of {count} training cases at least {lower} had a lower {name}.",
        "Sur {count} cas d'entraînement, au moins {lower} étaient plus bas.",
    ),
    (False, True): Text(
        "Of {count} training cases at least {higher} had a higher {name}.",
        "Sur {count} cas d'entraînement, au moins {higher} étaient plus haut.",
    ),
}
_REASONS = Text("The principal reasons", "Les raisons principales")
_REASONS_OF_SCORE = Text("The principal reasons of the score", "Les raisons principales du score")
_COSTS = Text("Expected cost of each decision", "Coût attendu de chaque décision")
_WEIGHING = Text(
    "Counted: {missed} as {missed_cost}, {false_alarm} as {false_cost}.",
    f"Compté{NBSP}: {{missed}} pour {{missed_cost}}, {{false_alarm}} pour {{false_cost}}.",
)
_NEAR = Text(
    "So near the limit both cost about the same: the limit was chosen on clients, not on this sum.",
    "Si près de la limite, les deux coûtent presque autant : la limite a été choisie sur des clients, "
    "pas sur cette somme.",
)
_MISSED = Text("a missed positive", "un positif manqué")
_FALSE_ALARM = Text("a false alarm", "une fausse alerte")


#: How the answers of one bundle look; `document` is the body of the 200 of `POST /predict`.
Verdict: TypeAlias = "Decided | Predicted"


def verdict_of(bundle: Bundle) -> Verdict:
    """The verdict for the bundle's task."""
    return Decided(bundle) if bundle.task == "binary" else Predicted(bundle)


class Decided:
    """The verdict of a binary classifier: what was decided, and by how much."""

    def __init__(self, bundle: Bundle) -> None:
        self.words = Wording.of(bundle)
        self._schema, self._decision, self._bands = bundle.schema, bundle.decision, bands_of(bundle)
        reference = read_reference(bundle)
        self._scores = reference.score if reference is not None else None
        self._decided, self._because = decided(bundle, self.words), Because(bundle)
        # Only a refusal is bad news; other decisions are no one's praise or blame.
        self._tone = "judged" if self.words.refuses else "plain"

    def idle(self) -> str:
        """The limit alone."""
        return panel(f"idle {self._tone}", head("none", _IDLE, _INVITATION), self._gauge(None))

    def answered(
        self,
        document: Mapping[str, Any],
        seconds: float,
        given: Mapping[str, Any],
        reasons: Sequence[Text] = (),
    ) -> str:
        """The decision in words and on the gauge, why, and what each decision would cost.

        `seconds` is how long it took, `given` what the case says, `reasons` what counted against it. An
        answer without an id is a trial.
        `verdict.js` asks what could be changed, and shows it in the place that is left for it.
        """
        kind, *parts = self._drawn(document, given)
        known = known_of(self._schema, given)
        why = self._reasons(document, reasons)
        costs = self._costs(document["probability"])
        said = tag("p", joined([known, self._beside(document["probability"])], " "), class_="known")
        return panel(kind, *parts, said, why, '<div class="changes"></div>', origin(document, seconds), costs)

    def supposed(self, document: Mapping[str, Any], given: Mapping[str, Any]) -> str:
        """The decision in words and on the gauge."""
        return supposed(*self._drawn(document, given))

    def _drawn(self, document: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, str, str]:
        """The panel's kind, its head and the gauge."""
        probability, decision = document["probability"], document["decision"]
        judged = self.words.refuses
        kind: str = "open"
        symbol: Symbol = "attention"
        if decision == self._decision.below:
            kind, symbol = "below", "check" if judged else "down"
        elif decision == self._decision.otherwise:
            kind, symbol = "otherwise", "cross" if judged else "up"
        reasons = self._because.said(document.get("because", ()), given)
        explanation = joined([*reasons, self.comparison(probability)], " ")
        said = head(symbol, self._decided[decision], explanation)
        return f"{kind} {self._tone}", said, self._gauge(probability, decision)

    def comparison(self, probability: float) -> Text:
        """The probability beside the limit, or the limits it lies between, in one sentence."""
        risk, *limits = figures_in_words(probability, self._bands)
        i = self._bands.index(band_at(self._bands, probability))
        limit, after = limits[max(0, i - 1)], limits[min(i, len(limits) - 1)]
        relation = "at" if risk == limit else "below" if i == 0 else "above" if limit == after else "between"
        name = Text(self.words.probability.en, self.words.probability.sentence().fr)
        return _COMPARED[relation].put(name=name, risk=risk, limit=limit, next=after)

    def _beside(self, probability: float) -> Text:
        """How the cases of training lie about a probability, by the bins that are wholly on either side."""
        if self._scores is None:
            return EMPTY
        edges, shares = self._scores.edges, self._scores.shares
        lower = sum(share for edge, share in zip(edges, shares, strict=False) if edge < probability)
        higher = sum(share for edge, share in zip(edges, shares[1:], strict=True) if edge >= probability)
        words = _BESIDE.get((lower >= _LEAST_SHARE, higher >= _LEAST_SHARE), EMPTY)
        return words.put(
            count=Text.figures(f"{self._scores.n:,}"),
            lower=percent(lower, 0),
            higher=percent(higher, 0),
            name=self.words.probability,
        )

    @staticmethod
    def _reasons(document: Mapping[str, Any], reasons: Sequence[Text]) -> str:
        if not reasons:
            return ""
        heading = tag("h3", _REASONS_OF_SCORE if "by_score" in document else _REASONS)
        listed = "".join(tag("li", reason) for reason in reasons)
        return f'<div class="grounds">{heading}<ol>{listed}</ol></div>'

    def _gauge(self, probability: float | None, decision: str = "") -> str:
        return gauge(probability, self._bands, name=self.words.probability, decision=decision)

    def _costs(self, probability: float) -> str:
        """What each decision costs on average: the chance of its mistake times what that weighs."""
        decision, words = self._decision, self.words
        if not decision.cost_false_positive > 0:
            return ""
        costs = (
            probability * decision.cost_false_negative,
            (1.0 - probability) * decision.cost_false_positive,
        )
        rows = "".join(
            self._cost(name, cost, max(costs), cost == min(costs))
            for name, cost in zip((words.below, words.otherwise), costs, strict=True)
        )
        weighing = _WEIGHING.put(
            missed=words.missed if words.missed.en else _MISSED,
            false_alarm=words.false_alarm if words.false_alarm.en else _FALSE_ALARM,
            missed_cost=Text.figures(f"{decision.cost_false_negative:g}"),
            false_cost=Text.figures(f"{decision.cost_false_positive:g}"),
        )
        dearer = self._bands[-1 if costs[0] <= costs[1] else 0]
        if band_at(self._bands, probability) is dearer:
            weighing = joined([weighing, _NEAR], " ")
        return f'<div class="costs">{tag("h3", _COSTS)}<dl>{rows}</dl>{tag("p", weighing)}</div>'

    @staticmethod
    def _cost(name: Text, cost: float, largest: float, least: bool) -> str:
        width = 100 * cost / largest if largest else 0.0
        return (
            f'<div class="cost{" least" * least}" style="--share:{width:.1f}%">{tag("dt", name)}'
            f"{tag('dd', Text.figures(f'{cost:.2f}'))}</div>"
        )


class Predicted:
    """The verdict of any other task: the value or the likeliest class."""

    def __init__(self, bundle: Bundle) -> None:
        self.words = Wording.of(bundle)
        self._schema, self._classes = bundle.schema, bundle.classes

    def idle(self) -> str:
        """An invitation."""
        return panel("idle plain", head("none", Text("No answer yet", "Pas encore de réponse"), _INVITATION))

    def answered(
        self,
        document: Mapping[str, Any],
        seconds: float,
        given: Mapping[str, Any],
        reasons: Sequence[Text] = (),  # noqa: ARG002  # nothing speaks against a value or a class
    ) -> str:
        """The prediction, and of classes the likeliest with their shares."""
        said = tag("p", known_of(self._schema, given), class_="known")
        return panel("below plain", *self._drawn(document), said, origin(document, seconds))

    def supposed(
        self,
        document: Mapping[str, Any],
        given: Mapping[str, Any],  # noqa: ARG002  # no policy speaks of a value or a class
    ) -> str:
        """The prediction alone."""
        return supposed("below plain", *self._drawn(document))

    def _drawn(self, document: Mapping[str, Any]) -> tuple[str, ...]:
        prediction, shares = document["prediction"], document.get("probabilities")
        if shares is None:
            said = Text("The value the model predicts.", "La valeur que le modèle prédit.")
            return (head("none", value_words(prediction), said),)
        count = str(len(shares))
        said = Text("The likeliest of {count} classes.", "La plus probable de {count} classes.").put(
            count=count
        )
        return head("none", Text.same(str(prediction)), said), self._shares(shares)

    def _shares(self, shares: list[float]) -> str:
        ranked = sorted(zip(shares, self._classes, strict=True), reverse=True)[:_LISTED_CLASSES]
        entries = "".join(
            f"<li>{tag('span', Text.same(name))}{tag('span', percent(share))}"
            f'<i style="width:{share:.1%}"></i></li>'
            for share, name in ranked
        )
        return f'<ul class="shares">{entries}</ul>'
