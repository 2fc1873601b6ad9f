"""The parity report of a bundle in words: what was compared with the trained model, and what was found."""

from collections.abc import Mapping
from typing import Any

from ui.words.text import NBSP, Text, joined

_EXACT = Text(
    "{rows} {rows:row|rows} compared with the trained model, {differ} {differ:bit|bits} different",
    "{rows} {rows:ligne comparée|lignes comparées} au modèle entraîné, {differ} {differ:bit différent|bits "
    "différents}",
)
_BOUNDED = Text(
    "{rows} {rows:row|rows} compared with the trained model: the largest difference of a score is {largest}, "
    "of scores above 1 in parts of them",
    f"{{rows}} {{rows:ligne comparée|lignes comparées}} au modèle entraîné{NBSP}: la plus grande différence "
    "d'un score est {largest}, en parts de ceux au-dessus de 1",
)
_FLIPPED = Text(
    "{flipped} {flipped:decision|decisions} changed",
    "{flipped} {flipped:décision changée|décisions changées}",
)
_END = Text.same(".")
#: The kinds of rows of `parity.json`.
KINDS = {
    "ordinary": Text("ordinary rows", "lignes ordinaires"),
    "boundary": Text(
        "on and one step beside every split of a tree", "sur chaque seuil d'un arbre et un pas à côté"
    ),
    "missing": Text("with missing values", "avec des valeurs manquantes"),
    "extreme": Text("with extreme values", "avec des valeurs extrêmes"),
    "categories": Text("with every category, and unseen ones", "avec chaque catégorie, et d'inconnues"),
    "golden": Text("golden rows, checked again at every start", "lignes témoins, revérifiées au démarrage"),
}


def parity_sentence(report: Mapping[str, Any], task: str) -> Text:
    """The whole parity report of a bundle's task in one sentence; who predicts values decides nothing."""
    total = report["total"]
    counts = {
        "rows": Text.figures(f"{total['rows']:,}"),
        "differ": Text.figures(f"{total['margin_bits_differ']:,}"),
        "largest": Text.figures(f"{total['max_margin_difference']:.3g}"),
    }
    said = (_EXACT if report["exact"] else _BOUNDED).put(**counts)
    if task != "regression":
        flipped = _FLIPPED.put(flipped=Text.figures(f"{total['decisions_flipped']:,}"))
        said = joined([said, flipped], ", ")
    return joined([said, _END], "")


def kinds_of(report: Mapping[str, Any]) -> list[tuple[Text, int, int]]:
    """Of each kind of rows its words, how many were compared, and how many came out otherwise."""
    return [
        (KINDS.get(kind, Text.same(kind)), entry["rows"], entry["margin_bits_differ"])
        for kind, entry in report["kinds"].items()
    ]
