"""The description file: everything a person may say of a model, in one YAML or JSON document.

Read, it is checked member by member; written, it is complete and commented. What
somebody wrote binds requests; what was read off the model or its data stands under
`inferred`, so that exporting with the file gives the same bundle each time.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from export.errors import ExportRefused
from export.reading.describe import MEMBERS, check_members, is_number, is_text
from server.errors import UnacceptableRow
from server.model.bundle import Decision
from server.model.schema import Feature, Schema

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WORDING = ("title", "probability", "case", "missed", "false_alarm", "below", "otherwise")
_COSTS = ("false_negative", "false_positive")
_EXAMPLE = ("name", "title", "row")


def _is_words(value: Any) -> bool:
    return isinstance(value, dict) and all(
        (key in _WORDING and is_text(v)) or (key == "refuses" and type(v) is bool) for key, v in value.items()
    )


def _is_costs(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != set(_COSTS):
        return False
    return all(is_number(cost) and cost > 0 for cost in value.values())


def _is_name(value: Any) -> bool:
    return is_text(value) and _NAME.fullmatch(value) is not None


def _is_examples(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(e, dict) and set(e) == set(_EXAMPLE) and is_text(e["name"]) and is_text(e["title"])
        and isinstance(e["row"], dict)
        for e in value
    )  # fmt: skip


def _is_names(count: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        names = isinstance(value, list) and all(is_text(item) and item for item in value)
        return names and len(value) >= count and len(set(value)) == len(value)

    return check


#: The members of the document: what each wants, in words, and whether a value is that.
DOCUMENT: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("letters, digits, '.', '_' and '-': what answers, log and metrics call the model", _is_name),
    "version": ('the same, in quotes, such as "2"', _is_name),
    "classes": ("two or more different texts, in the order of the model's classes", _is_names(2)),
    "decisions": (
        "two different texts: below the threshold, and from it on",
        lambda v: _is_names(2)(v) and len(v) == 2,
    ),
    "threshold": ("a probability between 0 and 1", lambda v: is_number(v) and 0 <= v <= 1),
    "costs": ("positive numbers as false_negative and false_positive, instead of a threshold", _is_costs),
    "wording": (f"texts as {', '.join(_WORDING)}, and true or false as refuses", _is_words),
    "translations": ("an object of words by language, as docs/page.md has it", lambda v: isinstance(v, dict)),
    "examples": ("a list of objects of name, title and row", _is_examples),
    "features": ("a list of the features described", lambda v: isinstance(v, list)),
}
#: What of the document goes into the bundle's manifest as it is.
CARRIED = ("wording", "translations", "examples")


def check_document(document: Mapping[str, Any]) -> None:
    """Raise `ExportRefused` for a member of the document that is unknown or of another type."""
    check_members(document, DOCUMENT, "the description")
    for key, value in document.items():
        wanted, fits = DOCUMENT[key]
        if value is not None and not fits(value):
            raise ExportRefused(f"expected {wanted} as {key} of the description, got {repr(value)[:60]}")
    if document.get("threshold") is not None and document.get("costs") is not None:
        raise ExportRefused(
            "expected a threshold or costs in the description, got both: one implies the other"
        )


def check_examples(document: Mapping[str, Any], schema: Schema) -> None:
    """Raise `ExportRefused` for an example that its own schema refuses."""
    for example in document.get("examples") or ():
        try:
            schema.encode(example["row"])
        except UnacceptableRow as refusal:
            words = "; ".join(f"{error.pointer}: {error.detail}" for error in refusal.errors)
            raise ExportRefused(
                f"expected the example {example['name']} to be a row of the schema, got {words}"
            ) from None


def weighed(decision: Decision, threshold: float | None, costs: Mapping[str, float] | None) -> Decision:
    """The decision with a threshold and costs that agree: each implies the other where one is given.

    An expected cost is lowest at threshold = cost of a false positive / sum of both
    (Elkan, The foundations of cost-sensitive learning, 2001, equation 2), so a
    threshold t alone weighs a missed positive as (1 - t) / t false alarms.
    """
    missed, alarm = decision.cost_false_negative, decision.cost_false_positive
    if costs is not None:
        missed, alarm = float(costs["false_negative"]), float(costs["false_positive"])
    elif threshold is not None and 0.0 < threshold < 1.0:
        missed, alarm = (1.0 - threshold) / threshold, 1.0
    if threshold is None:
        threshold = decision.threshold if costs is None else alarm / (missed + alarm)
    return Decision(threshold, decision.below, decision.otherwise, missed, alarm)


def written(
    name: str,
    version: str,
    decision: Decision | None,
    classes: Sequence[str],
    features: Sequence[Feature],
    more: Mapping[str, Any],
) -> str:
    """The complete description of a bundle in YAML, what is not said standing as a comment."""
    said: dict[str, Any] = {"name": name, "version": version}
    if decision is not None:
        said |= {"decisions": [decision.below, decision.otherwise], "threshold": decision.threshold}
    if classes:
        said["classes"] = list(classes)
    said |= {key: more[key] for key in CARRIED if more.get(key)}
    lines = [
        "# Edit, then: python -m export MODEL --describe FILE --out DIR. Misspelt members are refused.",
        "",
    ]
    for key, (wanted, _) in DOCUMENT.items():
        if key != "features":
            lines.append(f"# {key}: {wanted}")
            lines += [f"{key}: {json.dumps(said[key], ensure_ascii=False)}"] if key in said else []
    lines += [
        "",
        "# What is written of a feature binds requests; what stands under `inferred` guides forms alone.",
    ]
    lines += [f"#   {key}: {wanted}" for key, (wanted, _) in MEMBERS.items()]
    lines.append("features:")
    for feature in features:
        entry = feature.to_dict() | {"default": feature.default, "inferred": feature.inferred.to_dict()}
        pairs = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
        lines += [f"- {pairs[0]}", *(f"  {pair}" for pair in pairs[1:])]
    return "\n".join(lines) + "\n"
