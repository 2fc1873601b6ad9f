"""From a schema to the form: native controls, a label, a hint and help for each feature.

The markup is one HTML component of Gradio with `form.js` behind it. Native
controls bring their own keyboard, names for screen readers and lists on a phone,
and the page weighs the same for 3 features or 600.
"""

from collections.abc import Iterable, Sequence
from html import escape

from server.schema import Feature, Schema
from ui.examples import Example
from ui.labels import choices_of, help_of, hint_of, label_of, summary, typical_of
from ui.values import UNKNOWN

_BAR = (
    '<div class="bar"><button type="submit" class="decide">Decide</button>'
    '<button type="reset" class="clear">Clear</button>'
    '<p class="guide" aria-hidden="true">Enter decides from any field.</p></div>'
)


def form_html(schema: Schema, examples: Sequence[Example], case: str) -> str:
    """The whole form: examples, groups of fields, and the bar with the buttons.

    `case` is what one row describes, such as "applicant".
    """
    identity = {feature.name: f"field-{i}" for i, feature in enumerate(schema.features)}
    groups = "".join(_group(name, features, identity) for name, features in grouped(schema.features))
    return f'<form novalidate autocomplete="off">{_examples(schema, examples, case)}{groups}{_BAR}</form>'


def grouped(features: Iterable[Feature]) -> list[tuple[str, list[Feature]]]:
    """The features by group; required ones first in their group, groups with one first."""
    groups: dict[str, list[Feature]] = {}
    for feature in sorted(features, key=lambda feature: feature.nullable):
        groups.setdefault(feature.group, []).append(feature)
    return list(groups.items())


def _examples(schema: Schema, examples: Sequence[Example], case: str) -> str:
    buttons = "".join(
        f'<button type="button" class="example" data-example="{i}" data-name="{escape(example.name)}" '
        'aria-pressed="false">'
        f"<strong>{escape(example.heading)}</strong>"
        f"<span>{escape(summary(schema, example.row))}</span></button>"
        for i, example in enumerate(examples)
    )
    return _section("examples", f"Start from an example {case}", buttons)


def _group(name: str, features: Iterable[Feature], identity: dict[str, str]) -> str:
    return _section("group", name, "".join(_field(feature, identity[feature.name]) for feature in features))


def _section(style: str, heading: str, content: str) -> str:
    named = f' aria-label="{escape(heading)}"' if heading else ""
    shown = f"<h2>{escape(heading)}</h2>" if heading else ""
    return f'<section class="{style}"{named}>{shown}<div class="grid">{content}</div></section>'


def _field(feature: Feature, field: str) -> str:
    control = {"flag": _flag, "category": _list}.get(feature.kind, _number)
    label = escape(label_of(feature))
    # A label names one control; a group of radio buttons is named by its id.
    named = (
        f'<span id="{field}-label">{label}</span>'
        if feature.kind == "flag"
        else f'<label for="{field}">{label}</label>'
    )
    required = "" if feature.nullable else '<span class="required">required</span>'
    return (
        f'<div class="field" data-feature="{escape(feature.name)}" data-kind="{feature.kind}">'
        f'<div class="name">{named}{required}</div>{control(feature, field)}'
        f'<p class="error" id="{field}-error"></p>'
        f'<p class="hint" id="{field}-hint">{escape(hint_of(feature))}</p>'
        f'<p class="help" id="{field}-help">{escape(help_of(feature))}</p></div>'
    )


def _described(feature: Feature, field: str) -> str:
    required = "" if feature.nullable else ' aria-required="true"'
    return f'aria-describedby="{field}-error {field}-hint {field}-help"{required}'


def _number(feature: Feature, field: str) -> str:
    mode = "numeric" if feature.kind == "integer" else "decimal"
    typical = typical_of(feature)
    placeholder = "Unknown" if feature.nullable else f"for example {typical}" if typical else " "
    return (
        f'<div class="box"><input id="{field}" type="text" inputmode="{mode}" maxlength="40" '
        f'spellcheck="false" placeholder="{escape(placeholder)}" {_described(feature, field)}>'
        f"{_unknown_button(feature)}</div>"
    )


def _unknown_button(feature: Feature) -> str:
    if not feature.nullable:
        return ""
    # Out of the tab order: the keyboard's way is to empty the field.
    words = escape(f"Set to unknown: {label_of(feature)}")
    return f'<button type="button" class="unknown" tabindex="-1" aria-label="{words}">Unknown</button>'


def _list(feature: Feature, field: str) -> str:
    empty = "Unknown" if feature.nullable else "Choose"
    choices = ((UNKNOWN, empty), *((str(i), words) for i, words in enumerate(choices_of(feature).values())))
    options = "".join(f'<option value="{value}">{escape(words)}</option>' for value, words in choices)
    return f'<div class="box"><select id="{field}" {_described(feature, field)}>{options}</select></div>'


def _flag(feature: Feature, field: str) -> str:
    choices = (("1", "Yes"), ("0", "No"), *([(UNKNOWN, "Unknown")] if feature.nullable else []))
    radios = "".join(
        f'<label><input type="radio" name="{field}" value="{value}"{" checked" * (value == UNKNOWN)}>'
        f"<span>{words}</span></label>"
        for value, words in choices
    )
    return (
        f'<div class="choices" role="radiogroup" aria-labelledby="{field}-label" '
        f"{_described(feature, field)}>{radios}</div>"
    )
