"""The reasons of a decision: a waterfall in words, and a sentence for the applicant."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from server.errors import ModelFailure, NotOffered, Problem
from server.model.schema import Row
from server.scoring.served_model import ServedModel
from ui.cases.principal import principal
from ui.cases.suppose import is_adverse, suppose
from ui.drawing.waterfall import Step, causes, steps
from ui.words.labels import Labels
from ui.words.policy import Because
from ui.words.text import NBSP, Text, joined, tag
from ui.words.wording import Wording, decided, percent, points, value_words

_IDLE = Text(
    "Decide a case first: its reasons stand here.", "Décidez d'abord d'un cas : ses raisons seront ici."
)
_WHY_DECISION = Text("Why this decision", "Pourquoi cette décision")
_WHY_ANSWER = Text("Why this answer", "Pourquoi cette réponse")
_START = Text("Where every case starts", "Point de départ de tout cas")
_END_OF_DECISION = Text("{name} of this case", "{name} de ce cas")
_END_OF_VALUE = Text("Prediction for this case", "Prédiction pour ce cas")
#: Of a class no probability is explained: it hangs on the scores of the others too.
_END_OF_CLASS = Text("Raw score of {answer} for this case", "Score brut de {answer} pour ce cas")
_PRINCIPAL = Text("principal reason", "raison principale")
_SENTENCE_FOR_CASE = Text("A sentence for the {case}", "Une phrase à transmettre")
_SENTENCE = Text("In a sentence", "En une phrase")
#: What the score says: where it decided, and where the policy did.
_AGAINST = Text("The principal reasons: {reasons}.", f"Raisons principales{NBSP}: {{reasons}}.")
_AGAINST_IN_SCORE = Text(
    "The principal reasons of the score: {reasons}.", f"Raisons principales du score{NBSP}: {{reasons}}."
)
_AGAINST_BARE = Text("No single reason stands out.", "Aucune raison ne ressort.")
_FOR = Text("What counted most for it: {reasons}.", f"Ce qui a le plus compté pour elle{NBSP}: {{reasons}}.")
_FOR_IN_SCORE = Text(
    "In the score this spoke for it most: {reasons}.",
    f"Ce qui, dans le score, a le plus parlé pour elle{NBSP}: {{reasons}}.",
)
_ANSWERED = Text(
    "The answer is: {answer}. What counted most: {reasons}.",
    f"La réponse est{NBSP}: {{answer}}. Ce qui a le plus compté{NBSP}: {{reasons}}.",
)
_UNIT_OF_DECISION = Text(
    "Bars are points of probability, in this order, the largest cause first; the model adds them up "
    "as log-odds. Together they lead from the start to the answer exactly.",
    "Les barres sont des points de probabilité, dans cet ordre, la plus grande cause d'abord ; le modèle "
    "les additionne en logits. Ensemble, elles mènent exactement du départ à la réponse.",
)
_UNIT_OF_MARGIN = Text(
    "Bars are in the unit of the model's raw score, in this order, the largest cause first.",
    "Les barres sont dans l'unité du score brut du modèle, dans cet ordre, la plus grande cause d'abord.",
)
_ABSENT = Text("No reasons: {detail}.", f"Pas de raisons{NBSP}: {{detail}}.")
_MOST = 3


def why_html() -> str:
    """The tab before a decision; `why.js` fills it."""
    return f'<section class="sheet why-sheet"><div id="why">{tag("p", _IDLE, class_="empty")}</div></section>'


class Why:
    """Words the reasons of one model's answers."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        bundle = model.bundle
        self._bundle, self._words, self._labels = bundle, Wording.of(bundle), Labels.of(bundle)
        self._binary = bundle.task == "binary"
        # Where nothing is refused, what raises the answer is no bad news.
        self._judges = self._binary and self._words.refuses
        self._decided, self._because = decided(bundle, self._words), Because(bundle)

    def reasons(self, row: Row) -> str:
        """The reasons for one encoded row as HTML; what cannot be explained is said, never raised."""
        try:
            terms = self._model.explainer.terms(row)
            document = suppose(self._model.scorer.predictor, row)
        except (NotOffered, ModelFailure) as problem:
            return absent(problem)
        found = causes(self._bundle.schema, self._labels, row, terms[:-1])
        answer = self._explained(row, terms, document)
        shown = steps(found, terms[-1], self._answer())
        if shown:  # terms that are added again may end a bit beside what decided
            shown[-1] = shown[-1]._replace(after=answer.value)
        return self._drawn(shown, self._answer()(terms[-1]), answer)

    def _explained(self, row: Row, terms: list[float], document: dict[str, Any]) -> "_Answer":
        """The scorer's own answer: nothing that is drawn decides anew."""
        if self._binary:
            told: list[Text] = []
            adverse = is_adverse(self._bundle, document)
            values = memoryview(row).cast("d").tolist()
            if adverse:
                told = principal(self._model.reason_texts, values, terms[:-1])
            reasons = self._because.said(document.get("because", ()), self._bundle.schema.fields(values))
            decision = self._decided[document["decision"]]
            by_score = "by_score" not in document
            return _Answer(document["probability"], decision, adverse, told, reasons, by_score)
        if self._bundle.classes:
            return _Answer(sum(terms), Text.same(str(document["prediction"])))
        return _Answer(document["prediction"], value_words(document["prediction"]))

    def _answer(self) -> Callable[[float], float]:
        """From a sum of terms to what is shown: a probability, a value, or the sum itself of a class."""
        if self._bundle.classes:
            return float
        link, divisor = self._model.scorer.predictor.link, self._bundle.link.get("divisor", 1)
        return lambda margin: link(margin * divisor)

    def _drawn(self, shown: list[Step], start: float, answer: "_Answer") -> str:
        scale = _Scale([start, *(step.after for step in shown), answer.value], self._bundle.limits)
        rows = [
            self._total("start", _START, start, scale),
            *(self._step(step, scale, told=answer.adverse) for step in shown),
            self._total("end", self._end(answer), answer.value, scale),
        ]
        return (
            f"{tag('h2', _WHY_DECISION if self._binary else _WHY_ANSWER)}{self._sentence(shown, answer)}"
            f'<ol class="waterfall{" plain" * (not self._judges)}">{"".join(rows)}</ol>'
            f"{tag('p', _UNIT_OF_DECISION if self._binary else _UNIT_OF_MARGIN, class_='note')}"
        )

    def _end(self, answer: "_Answer") -> Text:
        if self._bundle.classes:
            return _END_OF_CLASS.put(answer=answer.said)
        end = _END_OF_DECISION if self._binary else _END_OF_VALUE
        return end.put(name=self._words.probability.sentence())

    def _step(self, step: Step, scale: "_Scale", *, told: bool) -> str:
        """One step; its badge stands where the applicant is told of it, in a refusal."""
        low, high = sorted((step.before, step.after))
        kind = "raises" if step.change > 0 else "lowers"
        badge = tag("span", _PRINCIPAL, class_="badge") if step.principal and told else ""
        return (
            f'<li class="{kind}" data-features="{len(step.features)}"><span class="words">'
            f"{tag('span', step.words)} {badge}</span>{scale.bar(low, high)}"
            f"{tag('span', self._change(step.change), class_='figure')}</li>"
        )

    def _total(self, kind: str, words: Text, value: float, scale: "_Scale") -> str:
        figure = percent(value) if self._binary else value_words(value)
        return (
            f'<li class="total {kind}">{tag("span", words, class_="words")}{scale.bar(scale.low, value)}'
            f"{tag('span', figure, class_='figure')}</li>"
        )

    def _change(self, change: float) -> Text:
        if self._binary:
            return points(change)
        sign = "+" if change > 0 else "\N{MINUS SIGN}"
        return joined([Text.same(sign), value_words(abs(change))], "")

    def _sentence(self, shown: list[Step], answer: "_Answer") -> str:
        """What may be told of the answer: at most four reasons against, or what counted for it."""
        is_named = self._words.case.en != Wording.case.en
        words = _SENTENCE_FOR_CASE if is_named else _SENTENCE
        heading = tag("h3", words.put(case=self._words.case))
        return f'<div class="for-applicant">{heading}{tag("p", self._said(shown, answer))}</div>'

    def _said(self, shown: list[Step], answer: "_Answer") -> Text:
        told = [step for step in shown if len(step.features) < len(self._bundle.schema)]
        if answer.adverse:
            against = _AGAINST if answer.by_score else _AGAINST_IN_SCORE
            said = (against if answer.principal else _AGAINST_BARE).put(
                reasons=joined(answer.principal, "; ")
            )
        elif self._binary and (most := [step.words for step in told if step.term < 0.0][:_MOST]):
            said = (_FOR if answer.by_score else _FOR_IN_SCORE).put(reasons=joined(most, "; "))
        else:
            reasons = [step.words for step in sorted(told, key=lambda s: -abs(s.term))[:_MOST]]
            return _ANSWERED.put(answer=answer.said, reasons=joined(reasons, "; "))
        # What decided stands first: the policy, where it said something.
        return joined([joined([answer.said, Text.same(".")], ""), *answer.because, said], " ")


class _Answer(NamedTuple):
    """What is explained: a probability, a value or a class's margin, and what it is called.

    Of a decision `adverse` tells whether the score speaks against the case, `principal` the reasons,
    `because` what the policy says, and `by_score` whether it was the score that decided.
    """

    value: float
    said: Text
    adverse: bool = False
    principal: Sequence[Text] = ()
    because: Sequence[Text] = ()
    by_score: bool = True


class _Scale:
    """Where a value stands on the waterfall, in percent of its width."""

    def __init__(self, values: list[float], limits: list[float]) -> None:
        known = [*values, *limits]
        self.low = min(0.0, *known)
        self._span = (max(known) - self.low) * 1.04 or 1.0
        self._limits = "".join(f'<b style="left:{self._place(limit):.2f}%"></b>' for limit in limits)

    def bar(self, low: float, high: float) -> str:
        """A bar between two values, and a mark at each limit."""
        left, right = sorted((self._place(low), self._place(high)))
        bar = f'<i style="left:{left:.2f}%;width:{max(right - left, 0.3):.2f}%"></i>'
        return f'<span class="track">{bar}{self._limits}</span>'

    def _place(self, value: float) -> float:
        return 100 * (value - self.low) / self._span


def absent(problem: Problem) -> str:
    """Why there are no reasons."""
    return tag("p", _ABSENT.put(detail=problem.detail), class_="empty")
