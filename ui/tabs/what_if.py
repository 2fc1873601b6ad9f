"""What if the case were another: sliders, two cases side by side, and the change that would turn it."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from server.errors import Problem
from server.model.bundle import Bundle
from server.model.schema import Feature, Row
from server.scoring.one_row import Scorer
from ui.cases.examples import examples_of
from ui.cases.flip import Flip, Flips
from ui.cases.grids import Grids
from ui.cases.suppose import suppose
from ui.drawing.panel import refused
from ui.drawing.verdict import verdict_of
from ui.tabs.form import WIDE, written
from ui.words.labels import NO, UNKNOWN_WORD, YES, Labels
from ui.words.text import NBSP, Text, attribute, tag
from ui.words.values import body_of, row_of, texts_of
from ui.words.wording import Wording, decided, percent

_LEFT, _RIGHT = Text("This case", "Ce cas"), Text("What if", "Et si")
_COMPARE_WITH = Text("Compare with", "Comparer avec")
_AS_DECIDED = Text("The case as decided", "Le cas tel que décidé")
_KEEP = Text("Keep as a case to compare with", "Garder comme cas de comparaison")
_RESET = Text("Back to the case compared with", "Revenir au cas comparé")
_TO_FORM = Text("Decide this one", "Décider de celui-ci")
_SLIDERS = Text("Change the case", "Changer le cas")
_FLIP = Text(
    "How near the decision is: the smallest single change",
    "À quelle distance est la décision : le plus petit changement seul",
)
_CHANGE = Text("{label}: {before} → {after}", f"{{label}}{NBSP}: {{before}} → {{after}}")
_THEN = Text("then {name} {risk}: {decision}", f"alors {{name}}{NBSP}: {{risk}}. {{decision}}")
_TRY = Text("Try it", "Essayer")
_ALSO = Text("Others, larger", "D'autres, plus grands")
_NO_FLIP = Text(
    "No change of a single input turns this decision.", "Aucun changement d'une seule donnée ne la change."
)
_FLIP_NOTE = Text(
    "Small is what few people lie between; {count} {count:case was|cases were} scored in one call. "
    "A change that turns the model is no advice: some of it nobody can change.",
    "Petit : peu de personnes se trouvent entre les deux ; {count} cas "
    "{count:a été calculé|ont été calculés} en un appel. "
    "Ce qui fait changer le modèle n'est pas un conseil : certaines données ne se changent pas.",
)
_REASONS = Text("Why, with these changes", "Pourquoi, avec ces changements")
_EMPTY = Text(
    "Choose an example, or decide a case first: the sliders start from it.",
    "Choisissez un exemple ou décidez d'abord d'un cas : les curseurs partent de lui.",
)
_CURVES = Text(
    "Above each slider: the {name} over its values, all else as it is; dashed, the limit.",
    f"Au-dessus de chaque curseur{NBSP}: {{name}} selon sa valeur, le reste inchangé ; tirets{NBSP}: limite.",
)
_MOST = Text(
    "The {count} inputs that move the score most.", "Les {count} données qui font le plus bouger le score."
)
_TYPED = Text("{label}, as a figure", "{label}, en chiffres")
_NO_VALUE = Text("Unknown: {label}", f"Inconnu{NBSP}: {{label}}")
_LISTED = 4


class Supposed(NamedTuple):
    """What is shown of a supposition: the panel, the answer's words, and the row if it is one."""

    html: str
    said: str
    row: Row | None


class WhatIf:
    """Answers the tab's questions about one model."""

    def __init__(self, scorer: Scorer, order: Sequence[str], grids: Grids) -> None:
        bundle = scorer.bundle
        self._scorer, self._schema, self._labels = scorer, bundle.schema, Labels.of(bundle)
        self._verdict, self._words = verdict_of(bundle), Wording.of(bundle)
        self._decided = decided(bundle, self._words)
        self._binary = bundle.task == "binary"
        self._flips = Flips(scorer.predictor, grids, list(order))

    def suppose(self, texts: dict[str, str]) -> Supposed:
        """The answer to a case that nobody asked about: not counted, not logged."""
        try:
            row = self._scorer.decode(body_of(row_of(self._schema.features, texts)))
            document = suppose(self._scorer.predictor, row)
        except Problem as problem:
            return Supposed(
                refused(problem.detail, self._labels.complaints(self._schema.features, problem)), "", None
            )
        return Supposed(self._verdict.supposed(document, texts), self._said(document), row)

    async def flip(self, row: Row) -> tuple[str, dict[str, Any]]:
        """What would turn the decision on one encoded row, as HTML, and the risk over each number.

        Nothing for another task.
        """
        if not self._binary:
            return "", {}
        found, curves = await self._flips.find(row)
        numbers = {n: c for n, c in curves.items() if self._schema[n].form_kind in ("number", "integer")}
        return self._flip_html(found, row), {"curves": numbers, "limits": self._scorer.bundle.limits}

    def _flip_html(self, found: list[Flip], row: Row) -> str:
        heading = tag("h3", _FLIP)
        if not found:
            return heading + tag("p", _NO_FLIP)
        values = memoryview(row).cast("d")
        told = [self._change(change, values) for change in found[:_LISTED]]
        others = f"{tag('h4', _ALSO)}<ul>{''.join(told[1:])}</ul>" if told[1:] else ""
        note = tag("p", _FLIP_NOTE.put(count=Text.figures(f"{self._flips.cases:,}")), class_="note")
        return f'{heading}<ul class="smallest">{told[0]}</ul>{others}{note}'

    def _said(self, document: dict[str, Any]) -> str:
        """Decision and figure in a line."""
        if not self._binary:
            return tag("span", Text.same(str(document["prediction"])))
        figure = percent(document["probability"])
        return tag("strong", self._decided[document["decision"]]) + tag("span", figure)

    def _change(self, change: Flip, values: "memoryview[float]") -> str:
        feature = self._schema[change.feature]
        before = feature.decode(values[self._schema.names.index(feature.name)])
        after = feature.decode(change.value)
        words = _CHANGE.put(
            label=self._labels.label(feature),
            before=self._labels.value(feature, before),
            after=self._labels.measured(feature, after),
        )
        then = _THEN.put(
            name=self._words.probability,
            risk=percent(change.probability, 2),
            decision=self._decided[self._scorer.bundle.outcomes[change.outcome]],
        )
        text = texts_of(self._schema, {feature.name: after})[feature.name]
        return (
            f'<li>{tag("strong", words)} {tag("span", then)} <button type="button" class="try" '
            f'data-feature="{escape(feature.name)}" data-text="{escape(text)}" '
            f'data-fr="{escape(_TRY.fr)}">{_TRY.en}</button></li>'
        )


def what_if_html(bundle: Bundle) -> str:
    """The tab: two panels, and places for sliders, for the change that turns it and for the reasons."""
    is_binary = bundle.task == "binary"
    curved = (
        tag("p", _CURVES.put(name=Wording.of(bundle).probability), class_="note curves") if is_binary else ""
    )
    most = tag("p", _MOST.put(count=str(WIDE)), class_="note") if len(bundle.schema) > WIDE else ""
    return (
        f'<div class="what-if"><section class="cases">{_choice()}'
        f'<div class="pair"><div class="case left">{tag("h2", _LEFT)}'
        '<div class="answer" id="left"></div></div>'
        f'<div class="case right">{tag("h2", _RIGHT)}'
        f'<div class="answer" id="right"></div></div></div>'
        f'<div class="sheet flip" id="flip"></div>'
        f'<details class="sheet reasons" open>{tag("summary", _REASONS)}'
        f'<div id="what-if-why"></div></details>'
        f'</section><section class="sheet sliders" {attribute("aria-label", _SLIDERS)}>'
        f'<div class="sliders-head">{tag("h2", _SLIDERS)}{_buttons()}</div>'
        f'{tag("p", _EMPTY, class_="empty")}{curved}<div class="list"></div>{most}'
        f'</section><p class="now" aria-hidden="true"></p></div>'
    )


def _buttons() -> str:
    kinds = (("keep", _KEEP), ("reset", _RESET), ("to-form", _TO_FORM))
    return "".join(tag("button", words, type="button", class_=kind) for kind, words in kinds)


def _choice() -> str:
    """The cases to compare with, before the examples have come."""
    decided = tag("option", _AS_DECIDED, value="decided", disabled="")
    return (
        f'<p class="choice">{tag("label", _COMPARE_WITH, for_="compare-with")} '
        f'<select id="compare-with"><option value="" selected hidden>-</option>{decided}</select></p>'
    )


def sliders_html(bundle: Bundle, order: Sequence[str], grids: Grids) -> str:
    """A slider for each input, of a wide model for those that move the score most."""
    schema, labels = bundle.schema, Labels.of(bundle)
    names = order[:WIDE] if len(schema) > WIDE else schema.names
    return "".join(_slider(schema[name], f"what-{i}", labels, grids) for i, name in enumerate(names))


def cases_html(scorer: Scorer) -> str:
    """The examples among the cases to compare with, each with its texts."""
    schema = scorer.bundle.schema
    return "".join(
        f'<option value="example-{i}" data-texts="{escape(json.dumps(texts_of(schema, e.row)))}" '
        f'data-fr="{escape(e.heading.fr)}">{escape(e.heading.en)}</option>'
        for i, e in enumerate(examples_of(scorer.predictor))
    )


def _slider(feature: Feature, identity: str, labels: Labels, grids: Grids) -> str:
    label = labels.label(feature)
    unknown = typed = ""
    if feature.nullable:
        name = _NO_VALUE.put(label=label)
        unknown = (
            f'<label class="no-value"><input type="checkbox" class="is-unknown" '
            f"{attribute('aria-label', name)}>"
            f"{tag('span', UNKNOWN_WORD)}</label>"
        )
    if feature.form_kind in ("category", "flag"):
        words = list(labels.choices(feature).values()) if feature.form_kind == "category" else [NO, YES]
        options = "".join(tag("option", w, value=str(i)) for i, w in enumerate(words))
        control = f'<select id="{identity}">{options}</select>'
    else:
        stops = grids.values[feature.name]
        control = (
            '<span class="on-curve"><svg class="curve" viewBox="0 0 100 100" preserveAspectRatio="none" '
            'aria-hidden="true"></svg>'
            f'<input id="{identity}" type="range" min="0" max="{len(stops) - 1}" step="1" '
            f'data-stops="{escape(json.dumps(stops))}"></span>'
        )
        mode = "numeric" if feature.form_kind == "integer" else "decimal"
        typed = (
            f'<input class="typed" type="text" inputmode="{mode}" maxlength="40" spellcheck="false" '
            f"{attribute('aria-label', _TYPED.put(label=label))}>"
        )
    return (
        f'<div class="slider" data-feature="{escape(feature.name)}" data-kind="{feature.form_kind}"'
        f"{written(feature, labels)}>"
        f'<div class="name">{tag("label", label, for_=identity)}{typed}</div>'
        f'<div class="control">{control}{unknown}</div><p class="was"></p></div>'
    )
