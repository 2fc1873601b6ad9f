"""How the groups of the held-out cases fare at the limits that the studio moves."""

from collections.abc import Callable
from typing import Any

from server.model.bundle import Bundle
from ui.words.text import NBSP, Text, table, tag
from ui.words.wording import Wording, french_of

_HEADING = Text("Groups of the held-out cases", "Groupes des cas mis de côté")
_NONE = Text(
    "How groups would fare is not told: the bundle does not count its held-out cases by group and limit, as "
    "python -m train and python -m export --evaluate do for the groups they are given.",
    "Le sort des groupes n'est pas indiqué : le modèle ne compte pas ses cas mis de côté par groupe et par "
    "limite, comme le font python -m train et python -m export --evaluate pour les groupes donnés.",
)
_HEADS = (
    Text("cases", "cas"),
    Text("{below}", "{below}"),
    Text("ratio to the highest", "rapport au plus élevé"),
    Text("{otherwise}, of those without the outcome", "{otherwise}, parmi les cas sans l'événement"),
    Text("{below}, of those with the outcome", "{below}, parmi les cas avec l'événement"),
)
_NOTE = Text(
    "In brackets: at the model's own limits. A ratio below four fifths is marked; groups of fewer than 100 "
    "cases have none.",
    f"Entre parenthèses{NBSP}: aux limites du modèle. Un rapport sous quatre cinquièmes est signalé ; les "
    "groupes de moins de 100 cas n'en ont pas.",
)


def groups_html(bundle: Bundle) -> str:
    """A table for each group, whose rows `studio.js` fills; a sentence where the bundle holds no counts."""
    words = Wording.of(bundle)
    heads = [head.put(below=words.below, otherwise=words.otherwise) for head in _HEADS]
    tables = "".join(table(name, [name, *heads]) for name in map(_named(bundle), _counted(bundle)))
    told = f'<p class="counted"></p>{tables}{tag("p", _NOTE, class_="note")}' if tables else tag("p", _NONE)
    return f'<div class="by-group">{tag("h3", _HEADING)}{told}</div>'


def groups_told(bundle: Bundle) -> dict[str, Any]:
    """The limits that were counted at, and of each table its rows: names and counts."""
    named = _named(bundle)
    return {
        "counted": _by_limit(bundle).get("limits", []),
        "groups": [
            [{**part, "name": [*named(label)], "known": label != "missing"} for label, part in parts.items()]
            for parts in _counted(bundle).values()
        ],
    }


def _by_limit(bundle: Bundle) -> dict[str, Any]:
    held: dict[str, Any] = bundle.manifest.get("evaluation", {}).get("held_out") or {}
    return held.get("groups_by_limit") or {}


def _counted(bundle: Bundle) -> dict[str, Any]:
    return {name: parts for name, parts in _by_limit(bundle).get("groups", {}).items() if parts}


def _named(bundle: Bundle) -> Callable[[str], Text]:
    french: dict[str, str] = french_of(bundle).get("groups") or {}
    return lambda name: Text(name, french.get(name, name))
