"""The reasons of a response, in words: contributions with the labels and units of the schema."""

import math
from collections.abc import Sequence
from typing import Any

from server.model.schema import Feature, Schema

#: "Up to four" is the practice that comment 9(b)(2)-1 to Regulation B describes.
MAX_PRINCIPAL = 4
_FLAG_WORDS = ("no", "yes")
MISSING = "not given"


def reasons(
    schema: Schema, row: Sequence[float], terms: Sequence[float], subject: str
) -> list[dict[str, Any]]:
    """One reason a feature, those that raise `subject` first and the largest first among them.

    `row` are F encoded values, `terms` their F contributions in the unit of the
    margin. At most four that raise it are principal reasons: of a credit decision
    those that speak against the applicant.
    """
    found = [
        _reason(feature, code, term, subject)
        for feature, code, term in zip(schema.features, row, terms, strict=True)
    ]
    found.sort(key=lambda reason: -reason["contribution"])
    for reason in [r for r in found if r["contribution"] > 0.0][:MAX_PRINCIPAL]:
        reason["principal"] = True
    return found


def _reason(feature: Feature, code: float, term: float, subject: str) -> dict[str, Any]:
    effect = "raises" if term > 0.0 else "lowers" if term < 0.0 else "does not change"
    label = feature.label or feature.name
    return {
        "feature": feature.name,
        "label": label,
        "value": feature.decode(code),
        "contribution": term,
        "principal": False,
        "words": f"{label}: {value_words(feature, code)} {effect} {subject}",
    }


def value_words(feature: Feature, code: float) -> str:
    """An encoded value as people read it, with its unit."""
    if math.isnan(code):
        return MISSING
    if feature.kind == "category":
        words = feature.category_labels or feature.categories
        return words[int(code)]
    if feature.form_kind == "flag" and code in (0.0, 1.0):
        return _FLAG_WORDS[int(code)]
    number = f"{code:,.0f}" if abs(code) >= 1000 or code == int(code) else f"{code:.3g}"
    unit = "" if feature.unit.startswith(("score", "from ")) else feature.unit
    return f"{number} {unit}".rstrip()
