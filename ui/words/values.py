"""Between what a person types and what a client would send as JSON."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from server.model.schema import MAX_EXACT_INTEGER, Feature, Schema

#: What a field holds, by feature name: the text of a number, "1" or "0" of a flag,
#: the position of a category. The empty text is unknown.
Texts = Mapping[str, str]

UNKNOWN = ""

# 600000, 600,000, 600 000 and 600'000; the separator is the same throughout.
_GROUPED = re.compile(r"([+-]?[1-9][0-9]{0,2}([,'’\s])[0-9]{3}(?:\2[0-9]{3})*)((?:[.][0-9]+)?)")
_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


def parse_number(text: str) -> int | float | None:
    """The number a person wrote, or None if it is none.

    Thousands may be set apart with commas, spaces or apostrophes, and a lone
    comma that is not followed by exactly three digits is a decimal comma.
    `base.js` regroups by the same grammar when a field is left, so that what
    was understood is seen.
    """
    text = text.strip().replace("\N{MINUS SIGN}", "-")
    if grouped := _GROUPED.fullmatch(text):
        literal = re.sub(r"[,'’\s]", "", grouped[1]) + grouped[3]
    elif _PLAIN.fullmatch(text):
        literal = text.replace(",", ".")
    else:
        return None
    value = float(literal)
    if value.is_integer() and abs(value) <= MAX_EXACT_INTEGER:
        return int(value)
    # 1e999 is no number of JSON either.
    return value if abs(value) != float("inf") else None


def format_number(value: float) -> str:
    """A number with its thousands set apart; `parse_number` gives the same number back."""
    if float(value).is_integer() and abs(value) <= MAX_EXACT_INTEGER:
        return f"{int(value):,}"
    return f"{value:,}"


def row_of(features: Iterable[Feature], texts: Texts) -> dict[str, Any]:
    """The row that the texts of a form stand for, unknown values left out.

    A text that is no number goes into the row as it is, so that the schema
    refuses it in its own words.
    """
    values = ((feature, texts.get(feature.name, UNKNOWN).strip()) for feature in features)
    return {f.name: _value(f, text) for f, text in values if text.casefold() not in (UNKNOWN, "unknown")}


def _value(feature: Feature, text: str) -> Any:
    number = parse_number(text)
    if number is None:
        return text
    if feature.kind == "category":
        known = type(number) is int and 0 <= number < len(feature.categories)
        return feature.categories[int(number)] if known else text
    return number


def texts_of(schema: Schema, row: Mapping[str, Any]) -> dict[str, str]:
    """The texts with which a form shows a row: the inverse of `row_of`.

    A text that is no value of its feature stays as it is, for the schema to refuse.
    """
    return {f.name: _text(f, row[f.name]) for f in schema.features if row.get(f.name) is not None}


def _text(feature: Feature, value: Any) -> str:
    if feature.kind == "category" and value in feature.categories:
        return str(feature.categories.index(value))
    if isinstance(value, str):
        return value
    if feature.form_kind == "flag" and value in (0, 1):
        return str(int(value))
    return format_number(value)


def body_of(row: Mapping[str, Any]) -> bytes:
    """The row as the body of `POST /predict`.

    `json` and not `orjson`: it also writes text that is no Unicode, which a
    hostile page could send, and leaves its refusal to the server.
    """
    return json.dumps(row, separators=(",", ":")).encode()
