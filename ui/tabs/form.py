"""From a schema to the form: native controls, a label, a hint and help for each feature.

The markup is one HTML component of Gradio with `form.js` behind it. Native
controls bring their own keyboard, names for screen readers and lists on a phone,
and the page weighs the same for 3 features or 600.
"""

import json
from collections.abc import Iterable, Sequence
from html import escape

from server.model.schema import Feature, Schema
from ui.cases.examples import Example
from ui.words.labels import NO, UNKNOWN_WORD, YES, Labels
from ui.words.text import EMPTY, NBSP, Text, attribute, tag
from ui.words.values import UNKNOWN, texts_of

#: Above so many features the form can be searched, and shows at first as many of the
#: most important; required ones are always shown.
WIDE = 30

_DECIDE, _CLEAR = Text("Decide", "Décider"), Text("Clear", "Effacer")
_UNDO = Text("Undo", "Annuler")
_KEEP = Text("Keep what I type if the page is loaded again", "Garder ma saisie si la page est rechargée")
_CONTEXT = Text("Not scored", "Hors du calcul")
_NUMBER = Text("Case number", "Numéro de dossier")
_NUMBER_HINT = Text("yours, to find the decision again", "le vôtre, pour retrouver la décision")
_GUIDE = Text("Enter decides from any field.", "Entrée décide depuis tout champ.")
_START = Text("Start from an example {case}", "Partir d'un exemple")
_REQUIRED = Text("required", "obligatoire")
_CHOOSE = Text("Choose", "Choisir")
_FOR_EXAMPLE = Text("for example {value}", "par exemple {value}")
_SET_UNKNOWN = Text("Set to unknown: {label}", f"Mettre à inconnu{NBSP}: {{label}}")
_SEARCH = Text("Search {count} fields", "Chercher parmi {count} champs")
_SHOWN = Text("The {shown} that matter most are shown.", "Les {shown} plus importants sont affichés.")
_ALL = Text("Show all fields", "Afficher tous les champs")
_NONE = Text("No field is called so.", "Aucun champ ne s'appelle ainsi.")


def form_html(
    schema: Schema,
    examples: Sequence[Example],
    case: Text,
    labels: Labels,
    order: Sequence[str] = (),
    context: Sequence[Feature] = (),
) -> str:
    """The whole form: examples, groups of fields, and the bar with the buttons.

    `case` is what one row describes, such as "applicant". Of a wide schema `order`,
    the names of all features, says which come first. `context` is asked for and never scored.
    """
    identity = {feature.name: f"field-{i}" for i, feature in enumerate((*schema.features, *context))}
    wide = len(schema) > WIDE
    groups = _by_importance(schema, order) if wide else grouped(schema.features)
    sections = "".join(_group(labels, features, identity, WIDE * wide) for _, features in groups)
    search = _search(len(schema)) if wide else ""
    return (
        f'<form novalidate autocomplete="off">{_examples(schema, examples, case, labels)}'
        f"{search}{sections}{_context(context, identity, labels)}{_bar()}</form>"
    )


def grouped(features: Iterable[Feature]) -> list[tuple[str, list[Feature]]]:
    """The features by group; required ones first in their group, groups with one first."""
    groups: dict[str, list[Feature]] = {}
    for feature in sorted(features, key=lambda feature: feature.nullable):
        groups.setdefault(feature.group, []).append(feature)
    return list(groups.items())


def _by_importance(schema: Schema, order: Sequence[str]) -> list[tuple[str, list[Feature]]]:
    """All fields in one group: of hundreds no one reads headings."""
    features = [schema[name] for name in order] or list(schema.features)
    return [("", sorted(features, key=lambda feature: feature.nullable))]


def _examples(schema: Schema, examples: Sequence[Example], case: Text, labels: Labels) -> str:
    buttons = "".join(
        f'<button type="button" class="example" data-name="{escape(example.name)}" '
        f'data-texts="{escape(json.dumps(texts_of(schema, example.row)))}" aria-pressed="false">'
        f"{tag('strong', example.heading)}{tag('span', labels.summary(schema, example.row))}</button>"
        for example in examples
    )
    return _section("examples", _START.put(case=case), buttons)


def _search(count: int) -> str:
    words = _SEARCH.put(count=str(count))
    return (
        f'<div class="search"><input type="search" {attribute("aria-label", words)} '
        f"{attribute('placeholder', words)}>"
        f'<label class="all"><input type="checkbox"> {tag("span", _ALL)}</label>'
        f"{tag('p', _SHOWN.put(shown=str(WIDE)), class_='shown')}"
        f"{tag('p', _NONE, class_='none', role='status', hidden='')}</div>"
    )


def _group(labels: Labels, features: Sequence[Feature], identity: dict[str, str], first: int) -> str:
    fields = "".join(
        field(feature, identity[feature.name], labels, minor=bool(first) and i >= first and feature.nullable)
        for i, feature in enumerate(features)
    )
    return _section("group", labels.group(features[0]) if not first else EMPTY, fields)


def _context(context: Sequence[Feature], identity: dict[str, str], labels: Labels) -> str:
    """What is not scored: the number that the case has elsewhere, and what is watched beside decisions."""
    number = (
        f'<div class="number"><div class="name">{tag("label", _NUMBER, for_="case-number")}</div>'
        f'<div class="box"><input id="case-number" type="text" maxlength="60" spellcheck="false" '
        f'aria-describedby="case-number-hint"></div>'
        f"{tag('p', _NUMBER_HINT, class_='hint', id='case-number-hint')}</div>"
    )
    fields = "".join(field(feature, identity[feature.name], labels) for feature in context)
    return _section("group context", _CONTEXT, number + fields)


def _section(style: str, heading: Text, content: str) -> str:
    named = f" {attribute('aria-label', heading)}" if heading.en else ""
    shown = tag("h2", heading) if heading.en else ""
    return f'<section class="{style}"{named}>{shown}<div class="grid">{content}</div></section>'


def _bar() -> str:
    return (
        f'<div class="bar">{tag("button", _DECIDE, type="submit", class_="decide")}'
        f"{tag('button', _CLEAR, type='reset', class_='clear')}"
        f"{tag('button', _UNDO, type='button', class_='undo', hidden='')}"
        f"{tag('p', _GUIDE, class_='guide', aria_hidden='true')}"
        f'<p class="failure" role="alert"></p></div>'
        f'<label class="keep"><input type="checkbox"> {tag("span", _KEEP)}</label>'
    )


def field(feature: Feature, identity: str, labels: Labels, *, minor: bool = False) -> str:
    """One field: name, control, and what is said of it; a `minor` one is not shown at first."""
    control = {"flag": _flag, "category": _list}.get(feature.form_kind, _number)
    label = labels.label(feature)
    # A label names one control; a group of radio buttons is named by its id.
    named = (
        tag("span", label, id=f"{identity}-label")
        if feature.form_kind == "flag"
        else tag("label", label, for_=identity)
    )
    required = "" if feature.nullable else tag("span", _REQUIRED, class_="required")
    return (
        f'<div class="field{" minor" * minor}" data-feature="{escape(feature.name)}" '
        f'data-kind="{feature.form_kind}"{written(feature, labels)}>'
        f'<div class="name">{named}{required}</div>{control(feature, identity, labels)}'
        f'<p class="error" id="{identity}-error"></p>'
        f"{tag('p', labels.hint(feature), class_='hint', id=f'{identity}-hint')}"
        f"{tag('p', labels.help(feature), class_='help', id=f'{identity}-help')}</div>"
    )


def written(feature: Feature, labels: Labels) -> str:
    """How a number may be written beside its figures: its units, and what a percentage means (`base.js`)."""
    if feature.form_kind not in ("number", "integer"):
        return ""
    units = labels.units(feature)
    attributes = f' data-units="{escape(json.dumps(units, ensure_ascii=False))}"' if units else ""
    low, high = feature.form_range
    if any("%" in unit or "percent" in unit.lower() for unit in units):
        return attributes + ' data-percent="0"'
    is_share = low is not None and high is not None and low >= -1 and 0 < high <= 1
    return attributes + ' data-percent="-2"' * is_share


def _described(feature: Feature, identity: str) -> str:
    required = "" if feature.nullable else ' aria-required="true"'
    return f'aria-describedby="{identity}-error {identity}-hint {identity}-help"{required}'


def _number(feature: Feature, identity: str, labels: Labels) -> str:
    mode = "numeric" if feature.form_kind == "integer" else "decimal"
    typical = labels.typical(feature)
    example = _FOR_EXAMPLE.put(value=typical) if typical.en else Text.same(" ")
    placeholder = attribute("placeholder", UNKNOWN_WORD if feature.nullable else example)
    return (
        f'<div class="box"><input id="{identity}" type="text" inputmode="{mode}" maxlength="40" '
        f'spellcheck="false" {placeholder} {_described(feature, identity)}>'
        f"{_unknown_button(feature, labels)}</div>"
    )


def _unknown_button(feature: Feature, labels: Labels) -> str:
    if not feature.nullable:
        return ""
    # Out of the tab order: the keyboard's way is to empty the field.
    words = attribute("aria-label", _SET_UNKNOWN.put(label=labels.label(feature)))
    french = escape(UNKNOWN_WORD.fr)
    return (
        f'<button type="button" class="unknown" tabindex="-1" {words} data-fr="{french}">'
        f"{UNKNOWN_WORD.en}</button>"
    )


def _list(feature: Feature, identity: str, labels: Labels) -> str:
    empty = UNKNOWN_WORD if feature.nullable else _CHOOSE
    choices = ((UNKNOWN, empty), *((str(i), w) for i, w in enumerate(labels.choices(feature).values())))
    options = "".join(tag("option", words, value=value) for value, words in choices)
    return (
        f'<div class="box"><select id="{identity}" {_described(feature, identity)}>{options}</select></div>'
    )


def _flag(feature: Feature, identity: str, labels: Labels) -> str:
    del labels  # yes and no are the page's words
    choices = (("1", YES), ("0", NO), *([(UNKNOWN, UNKNOWN_WORD)] if feature.nullable else []))
    radios = "".join(
        f'<label><input type="radio" name="{identity}" value="{value}"{" checked" * (value == UNKNOWN)}>'
        f"{tag('span', words)}</label>"
        for value, words in choices
    )
    return (
        f'<div class="choices" role="radiogroup" aria-labelledby="{identity}-label" '
        f"{_described(feature, identity)}>{radios}</div>"
    )
