"""What the model is: its proof, its evaluation, its inputs, what drift is measured against, its card."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from server.model.bundle import CARD_FILE, PARITY_FILE, Bundle
from server.model.distribution import Distribution
from server.model.reference import read_reference
from server.model.schema import Feature
from ui.drawing.evaluation import evaluation_html
from ui.tabs.studio import studio_html
from ui.words.bands import bands_of
from ui.words.card import card_html
from ui.words.labels import Labels, expected
from ui.words.proof import kinds_of, parity_sentence
from ui.words.text import NBSP, Text, attribute, sheet, table, tag
from ui.words.values import format_number
from ui.words.wording import Wording, french_of, percent

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
_SCHEMA = Text("What it takes", "Ce qu'il prend")
_SCHEMA_HEADS = (Text("input", "donnée"), Text("accepted", "accepté"), Text("unit", "unité"))
_MORE = Text("{count} inputs, the most important first.", "{count} données, les plus importantes d'abord.")
_REFERENCE = Text("What drift is measured against", "Ce à quoi la dérive est mesurée")
_REFERENCE_LEAD = Text(
    "How the {count} training rows were spread: shares of the rows in each bin.",
    "Répartition des {count} lignes d'entraînement : part des lignes dans chaque classe.",
)
_NO_REFERENCE = Text(
    "This bundle holds no reference: no drift is measured.",
    "Ce modèle n'a pas de référence : aucune dérive n'est mesurée.",
)
_SCORE = Text("score", "score")
_MISSING = Text("unknown {share}", "inconnu {share}")
_BINS = Text(
    "{name}: shares of {bins} {bins:bin|bins}", f"{{name}}{NBSP}: parts de {{bins}} {{bins:classe|classes}}"
)
_CARD = Text("Model card", "Carte du modèle")
_NO_CARD = Text("This bundle has no card.", "Ce modèle n'a pas de carte.")
_LISTED = 60


def model_html(bundle: Bundle, order: Sequence[str]) -> str:
    """The tab; `order` names the features, the most important first."""
    labels = Labels.of(bundle)
    sections = (
        sheet(_PARITY_REPORT, _parity_report(bundle.read_json(PARITY_FILE), bundle.task)),
        sheet(_EVALUATION, _evaluation(bundle)),
        studio_html(bundle),
        sheet(_SCHEMA, _schema(bundle, labels, order)),
        sheet(_REFERENCE, _reference(bundle, labels, order)),
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
    names = order[:_LISTED] if len(order) > _LISTED else bundle.schema.names
    rows = []
    for name in names:
        feature = bundle.schema[name]
        label = f"{tag('span', labels.label(feature))}<code>{escape(name)}</code>"
        accepted = tag("td", expected(feature))
        rows.append(f'<tr><th scope="row">{label}</th>{accepted}{tag("td", labels.unit(feature))}</tr>')
    count = tag("p", _MORE.put(count=str(len(order))), class_="note") if len(order) > _LISTED else ""
    return count + table(_SCHEMA, _SCHEMA_HEADS, "".join(rows))


def _reference(bundle: Bundle, labels: Labels, order: Sequence[str]) -> str:
    reference = read_reference(bundle)
    if reference is None:
        return tag("p", _NO_REFERENCE)
    lead = tag("p", _REFERENCE_LEAD.put(count=Text.figures(f"{reference.score.n:,}")))
    known = [name for name in order if name in reference.features][:_LISTED]
    drawn = _distribution(_SCORE, reference.score, is_number=bool(reference.score.edges)) + "".join(
        _distribution(labels.label(feature), found, is_number=_is_number(feature, found))
        for feature, found in ((bundle.schema[name], reference.features[name]) for name in known)
    )
    return f'{lead}<ul class="reference">{drawn}</ul>'


def _is_number(feature: Feature, found: Distribution) -> bool:
    return feature.form_kind in ("number", "integer") and bool(found.edges)


def _distribution(name: Text, found: Distribution, *, is_number: bool) -> str:
    """A histogram: of a number a bar is as wide as its bin, and as high as rows are dense in it."""
    widths = _widths(found) if is_number else [1.0] * len(found.shares)
    heights = [share / width for share, width in zip(found.shares, widths, strict=True)]
    most = max([*heights, 1e-300])
    bars = "".join(
        f'<i style="flex:{width / max(widths):.4f};height:{100 * height / most:.0f}%"></i>'
        for width, height in zip(widths, heights, strict=True)
    )
    said = _BINS.put(name=name, bins=str(len(found.shares)))
    missing = _MISSING.put(share=percent(found.missing_rate)) if found.missing_rate else Text("", "")
    axis = _ends(found) if is_number else ""
    return (
        f"<li>{tag('span', name.sentence())}"
        f'<span class="small-bars" role="img" {attribute("aria-label", said)}>{bars}</span>{axis}'
        f"{tag('small', missing)}</li>"
    )


def _ends(found: Distribution) -> str:
    """The outermost edges, of which a column of one value has none."""
    ends = [Text.figures(format_number(float(f"{edge:.3g}"))) for edge in (found.edges[0], found.edges[-1])]
    return f'<span class="ends">{"".join(tag("span", end) for end in ends)}</span>'


def _widths(found: Distribution) -> list[float]:
    """Of each bin; the outer ones are open, and drawn as wide as their neighbours."""
    inner = [b - a for a, b in pairwise(found.edges)] or [1.0]
    return [inner[0], *inner, inner[-1]] if len(found.edges) > 1 else [1.0] * len(found.shares)


def _card(bundle: Bundle) -> str:
    if CARD_FILE not in bundle.manifest["files"]:
        return tag("p", _NO_CARD)
    text = bundle.read(CARD_FILE).decode()
    return f'<div class="card" lang="en">{card_html(text)}</div>'
