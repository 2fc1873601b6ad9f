"""What the model is: its proof, its evaluation, its inputs, what drift is measured against, its card."""

import asyncio
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from server.model.bundle import CARD_FILE, PARITY_FILE, Bundle
from server.model.predictor import Predictor
from ui.cases.grids import Grids
from ui.drawing.evaluation import evaluation_html
from ui.tabs.dependence import dependence_html
from ui.tabs.reference import LISTED, ReferencePlots
from ui.words.bands import bands_of
from ui.words.card import card_html
from ui.words.labels import Labels, accepted
from ui.words.proof import kinds_of, parity_sentence
from ui.words.text import Text, sheet, table, tag
from ui.words.wording import Wording, french_of

_PARITY_REPORT = Text("Parity report", "Rapport de parité")
_EQUAL = Text("Equal to the trained model, to the bit", "Égal au modèle entraîné, au bit près")
_CLOSE = Text("As near to the trained model as tested", "Aussi proche du modèle entraîné que testé")
_KINDS = (
    Text("kind of rows", "genre de lignes"),
    Text("compared", "comparées"),
    Text("different", "différentes"),
)
_EVALUATION = Text("How good it is", "Sa qualité")
_NO_EVALUATION = Text(
    "This bundle holds no evaluation: `python -m train` writes one.",
    "Ce modèle ne contient pas d'évaluation : `python -m train` en écrit une.",
)
_DEPENDENCE = Text("What moves the score", "Ce qui fait bouger le score")
#: The place of the limit studio (studio.py); a model that decides nothing has none.
_STUDIO = '<section class="sheet studio" hidden></section>'
_SCHEMA = Text("What it takes", "Ce qu'il prend")
_SCHEMA_HEADS = (Text("input", "donnée"), Text("accepted", "accepté"), Text("unit", "unité"))
_MORE = Text("{count} inputs, the most important first.", "{count} données, les plus importantes d'abord.")
_REFERENCE = Text("What drift is measured against", "Ce à quoi la dérive est mesurée")
_CARD = Text("Model card", "Carte du modèle")
_NO_CARD = Text("This bundle has no card.", "Ce modèle n'a pas de carte.")


class ModelTab:
    """The tab of one model, drawn when it is first opened: thousands of cases are scored for it."""

    def __init__(self, predictor: Predictor, shares: Mapping[str, float], grids: Grids) -> None:
        self._of, self._html = (predictor, shares, grids), ""

    async def html(self) -> str:
        if not self._html:
            self._html = await asyncio.to_thread(model_html, *self._of)
        return self._html


def model_html(predictor: Predictor, shares: Mapping[str, float], grids: Grids) -> str:
    """The tab; `shares` are the features' in what moves the score, the most important first."""
    bundle, order = predictor.bundle, list(shares)
    labels = Labels.of(bundle)
    sections = (
        sheet(_PARITY_REPORT, _parity_report(bundle.read_json(PARITY_FILE), bundle.task)),
        sheet(_EVALUATION, _evaluation(bundle)),
        sheet(_DEPENDENCE, dependence_html(predictor, shares, grids)),
        _STUDIO if bundle.task == "binary" else "",
        sheet(_SCHEMA, _schema(bundle, labels, order)),
        sheet(_REFERENCE, f'<div id="reference">{ReferencePlots(bundle, order).html({})}</div>'),
        sheet(_CARD, _card(bundle)),
    )
    return f'<div class="model">{"".join(sections)}</div>'


def _parity_report(report: Mapping[str, Any], task: str) -> str:
    rows = "".join(
        f"<tr>{tag('th', words, scope='row')}{tag('td', Text.figures(f'{count:,}'))}"
        f"{tag('td', Text.figures(f'{differ:,}'))}</tr>"
        for words, count, differ in kinds_of(report)
    )
    said = tag("p", _EQUAL if report["exact"] else _CLOSE, class_="seal")
    return f"{said}{tag('p', parity_sentence(report, task))}{table(_PARITY_REPORT, _KINDS, rows)}"


def _evaluation(bundle: Bundle) -> str:
    figures = bundle.manifest.get("evaluation", {}).get("held_out")
    if not figures:
        return tag("p", _NO_EVALUATION)
    french = french_of(bundle).get("groups") or {}
    return evaluation_html(figures, bands_of(bundle), french, Wording.of(bundle))


def _schema(bundle: Bundle, labels: Labels, order: Sequence[str]) -> str:
    names = order[:LISTED] if len(order) > LISTED else bundle.schema.names
    rows = []
    for name in names:
        feature = bundle.schema[name]
        label = f"{tag('span', labels.label(feature))}<code>{escape(name)}</code>"
        cells = tag("td", accepted(feature)) + tag("td", labels.unit(feature))
        rows.append(f'<tr><th scope="row">{label}</th>{cells}</tr>')
    count = tag("p", _MORE.put(count=str(len(order))), class_="note") if len(order) > LISTED else ""
    return count + table(_SCHEMA, _SCHEMA_HEADS, "".join(rows))


def _card(bundle: Bundle) -> str:
    if CARD_FILE not in bundle.manifest["files"]:
        return tag("p", _NO_CARD)
    text = bundle.read(CARD_FILE).decode()
    return f'<div class="card" lang="en">{card_html(text)}</div>'
