"""The parity report of a bundle in words: what was compared with the trained model, and what was found."""

from collections.abc import Mapping
from typing import Any

from ui.words.text import NBSP, Text

_EXACT = Text(
    "{rows} {rows:row|rows} compared with the trained model, {differ} {differ:bit|bits} different, {flipped} "
    "{flipped:decision|decisions} changed.",
    "{rows} {rows:ligne comparée|lignes comparées} au modèle entraîné, {differ} {differ:bit différent|bits "
    "différents}, {flipped} {flipped:décision changée|décisions changées}.",
)
_BOUNDED = Text(
    "{rows} {rows:row|rows} compared with the trained model: the largest difference of a score is {largest}, "
    "{flipped} {flipped:decision|decisions} changed.",
    f"{{rows}} {{rows:ligne comparée|lignes comparées}} au modèle entraîné{NBSP}: la plus grande différence "
    "d'un score est {largest}, {flipped} {flipped:décision changée|décisions changées}.",
)
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


def parity_sentence(report: Mapping[str, Any]) -> Text:
    """The whole parity report in one sentence."""
    total = report["total"]
    counts = {
        "rows": Text.figures(f"{total['rows']:,}"),
        "differ": Text.figures(f"{total['margin_bits_differ']:,}"),
        "flipped": Text.figures(f"{total['decisions_flipped']:,}"),
    }
    if report["exact"]:
        return _EXACT.put(**counts)
    return _BOUNDED.put(largest=Text.figures(f"{total['max_margin_difference']:.3g}"), **counts)


def kinds_of(report: Mapping[str, Any]) -> list[tuple[Text, int, int]]:
    """Of each kind of rows its words, how many were compared, and how many came out otherwise."""
    return [
        (KINDS.get(kind, Text.same(kind)), entry["rows"], entry["margin_bits_differ"])
        for kind, entry in report["kinds"].items()
    ]
