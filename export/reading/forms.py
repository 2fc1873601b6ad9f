"""What a member of a description may be: its JSON Schema, by which editors and the command judge alike."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

#: A JSON Schema of the keywords that `fits` knows.
Form: TypeAlias = Mapping[str, Any]

TEXT, TRUTH, NUMBER = {"type": "string"}, {"type": "boolean"}, {"type": "number"}
TEXTS = {"type": "array", "items": TEXT}


class EntryMember(NamedTuple):
    """What a member wants, in words, and as JSON Schema."""

    wanted: str
    form: Form


def choice(*words: str) -> dict[str, Any]:
    """One of these words."""
    return {"enum": list(words)}


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no boolean."""
    return type(value) in (int, float) and math.isfinite(value)


def fits(value: Any, form: Form) -> bool:
    """Whether a value is what a form says; what a `$ref` names is looked at by whoever reads it."""
    if "$ref" in form:
        return isinstance(value, dict)
    if "enum" in form:
        return value in form["enum"]
    kinds = form["type"]
    if not any(_is_kind(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    if isinstance(value, str):
        return len(value) >= form.get("minLength", 0) and (
            "pattern" not in form or re.fullmatch(form["pattern"], value) is not None
        )
    if isinstance(value, list):
        return _list_fits(value, form)
    if isinstance(value, dict):
        return _object_fits(value, form)
    least, above, most = (form.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    return (
        (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
    )


def _is_kind(value: Any, kind: str) -> bool:
    if kind == "number":
        return is_number(value)
    return isinstance(value, {"string": str, "boolean": bool, "array": list, "object": dict}[kind])


def _list_fits(value: list[Any], form: Form) -> bool:
    if "items" in form and not all(fits(item, form["items"]) for item in value):
        return False
    is_unique = not form.get("uniqueItems") or len(set(value)) == len(value)
    return is_unique and form.get("minItems", 0) <= len(value) <= form.get("maxItems", math.inf)


def _object_fits(value: dict[Any, Any], form: Form) -> bool:
    known, others = form.get("properties", {}), form.get("additionalProperties", True)
    return (
        len(value) >= form.get("minProperties", 0)
        and set(form.get("required", ())) <= set(value)
        and all(fits(key, form["propertyNames"]) for key in value if "propertyNames" in form)
        and all(
            fits(item, known[key]) if key in known else others is True or (others and fits(item, others))
            for key, item in value.items()
        )
    )
