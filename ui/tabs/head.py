"""The head of the page and its tabs: one tablist, one panel open at a time."""

from ui.words.text import Text, attribute, tag

#: The panels by name, in the order of the tablist.
TABS = {
    "decide": Text("Decide", "Décider"),
    "why": Text("Why", "Pourquoi"),
    "what-if": Text("What if", "Et si"),
    "many": Text("Many", "En nombre"),
    "look-up": Text("Look up", "Retrouver"),
    "operations": Text("Operations", "Exploitation"),
    "model": Text("Model", "Modèle"),
}
_TABLIST = Text("Parts of the page", "Parties de la page")
_MODEL = Text("Model {model}, served by Hotrow", "Modèle {model}, servi par Hotrow")
_LANGUAGE = Text("Language", "Langue")
_CUT = Text(
    "The server cannot be reached. What is shown is from before; try again when the connection is back.",
    "Le serveur est injoignable. Ce qui est affiché date d'avant ; réessayez une fois la connexion rétablie.",
)


def head_html(title: Text, model: str, models: str = "") -> str:
    """Title, links to other `models`, language and tablist (WAI-ARIA, tabs with automatic activation)."""
    tabs = "".join(
        tag(
            "button",
            words,
            type="button",
            role="tab",
            id=f"tab-{name}",
            aria_controls=f"panel-{name}",
            data_panel=name,
        )
        for name, words in TABS.items()
    )
    languages = "".join(
        f'<button type="button" lang="{code}" data-language="{code}" aria-pressed="false" title="{name}">'
        f"{code.upper()}</button>"
        for code, name in (("en", "English"), ("fr", "Français"))
    )
    return (
        f'<header class="top"><div class="titles">{tag("h1", title)}'
        f"{tag('p', _MODEL.put(model=model))}{models}</div>"
        f'<div class="languages" role="group" {attribute("aria-label", _LANGUAGE)}>{languages}</div></header>'
        f'<div class="tabs" role="tablist" {attribute("aria-label", _TABLIST)}>{tabs}</div>'
        f'<p id="spoken" role="status"></p>'
        f'<div role="alert"><p id="cut" hidden data-fr="{_CUT.fr}">{_CUT.en}</p></div>'
    )
