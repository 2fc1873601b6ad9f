"""What the page says of a feature and its values, in plain words."""

import math
from collections.abc import Mapping
from typing import Any

from server.schema import Feature, Schema
from ui.values import format_number
from ui.wording import NBSP, sentence

#: How many values of a row its summary tells.
_SUMMARISED = 3


def label_of(feature: Feature) -> str:
    """What a person calls the feature."""
    return feature.label or sentence(feature.name.replace("_", " "))


def hint_of(feature: Feature) -> str:
    """Range and unit in one line, for example "18 to 120 years"."""
    words = _range_words(feature)
    if words and words in feature.unit:  # a unit such as "score from 0 to 1"
        words = ""
    return " ".join(filter(None, (words, feature.unit)))


def help_of(feature: Feature) -> str:
    """Where to find the value, and a typical one where the bundle knows it."""
    typical = typical_of(feature)
    return " ".join(filter(None, (feature.help, f"Typical: {typical}." if typical else "")))


def typical_of(feature: Feature) -> str:
    """A typical value in words, or nothing."""
    return "" if feature.default is None else _value_words(feature, feature.default)


def choices_of(feature: Feature) -> dict[str, str]:
    """The categories in words, by what a client sends."""
    return dict(zip(feature.categories, feature.category_labels or feature.categories, strict=True))


def summary(schema: Schema, row: Mapping[str, Any]) -> str:
    """A row in a few words: its first values, those of required features before others."""
    told = [f for f in sorted(schema.features, key=lambda f: f.nullable) if row.get(f.name) is not None]
    return ", ".join(f"{label_of(f)} {_value_words(f, row[f.name])}" for f in told[:_SUMMARISED])


def _value_words(feature: Feature, value: Any) -> str:
    if feature.kind == "category":
        return choices_of(feature).get(value, str(value))
    if feature.kind == "flag":
        return "Yes" if value else "No"
    return format_number(round(value, 2))


def _range_words(feature: Feature) -> str:
    low, high = feature.minimum, feature.maximum
    bounded = [bound for bound in (low, high) if bound is not None and math.isfinite(bound)]
    if not bounded:
        return ""
    if len(bounded) == 2:
        return f"{_short(bounded[0])} to {_short(bounded[1])}"
    return f"{'at least' if bounded[0] == low else 'at most'} {_short(bounded[0])}"


def _short(bound: float) -> str:
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if abs(bound) >= size and (bound / size * 10).is_integer():
            return f"{bound / size:,g}{NBSP}{word}"
    return format_number(bound)
