"""The description file: everything a person may say of a model, in one YAML or JSON document.

Read, it is checked member by member; written, it is complete and commented. What
somebody wrote binds requests; what was read off the model or its data stands under
`inferred`, so that exporting with the file gives the same bundle each time.
"""

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from export.errors import ExportRefused
from export.reading.describe import MEMBERS, check_members, did_you_mean, finder
from export.reading.forms import TEXT, TEXTS, TRUTH, EntryMember, fits
from export.reading.label import LABEL
from server.cli import as_typed
from server.errors import UnacceptableRow, listed
from server.model.bundle import Decision
from server.model.policy import Policy
from server.model.schema import Feature, Schema

_WORDING = ("title", "probability", "case", "missed", "false_alarm", "below", "otherwise")
_COSTS = {key: {"type": "number", "exclusiveMinimum": 0} for key in ("false_negative", "false_positive")}
#: What may be said of a field that is asked for and never scored.
_CONTEXT = ("name", "kind", "label", "help", "unit", "categories", "category_labels", "personal")
_EXAMPLE = {"name": TEXT, "title": TEXT, "row": {"type": "object"}}
_LABEL = {"type": "string", "pattern": f"^{LABEL.pattern}$"}
_NAMES = {
    "type": "array",
    "items": {**TEXT, "minLength": 1},
    "minItems": 2,
    "uniqueItems": True,
}


def _object(properties: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    """An object of these members and no other."""
    form = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return {**form, "required": list(required)} if required else form


#: The members of the document.
DOCUMENT: dict[str, EntryMember] = {
    "name": EntryMember(
        "letters, digits, '.', '_' and '-': what answers, log and metrics call the model", _LABEL
    ),
    "version": EntryMember('the same, in quotes, such as "2"', _LABEL),
    "classes": EntryMember("two or more different texts, in the order of the model's classes", _NAMES),
    "decisions": EntryMember(
        "two different texts: below the threshold, and from it on", {**_NAMES, "maxItems": 2}
    ),
    "threshold": EntryMember("a probability between 0 and 1", {"type": "number", "minimum": 0, "maximum": 1}),
    "costs": EntryMember(
        "positive numbers as false_negative and false_positive, instead of a threshold",
        _object(_COSTS, list(_COSTS)),
    ),
    "policy": EntryMember(
        "an object of bands, needed, checks and unusual: what is decided beside the threshold",
        {"$ref": "#/$defs/Policy"},
    ),
    "wording": EntryMember(
        f"texts as {', '.join(_WORDING)}, and true or false as refuses",
        _object({**dict.fromkeys(_WORDING, TEXT), "refuses": TRUTH}),
    ),
    "translations": EntryMember("an object of words by language, as docs/page.md has it", {"type": "object"}),
    "examples": EntryMember(
        "a list of objects of name, title and row",
        {"type": "array", "items": _object(_EXAMPLE, list(_EXAMPLE))},
    ),
    "context": EntryMember(
        f"a list of objects of {', '.join(_CONTEXT)}: asked for, never scored",
        {"type": "array", "items": _object({key: MEMBERS[key].form for key in _CONTEXT}, ["name"])},
    ),
    "groups": EntryMember(
        "a list of the features or context fields whose groups are watched for fairness",
        {**TEXTS, "uniqueItems": True},
    ),
    "features": EntryMember(
        "a list of the features described",
        {"type": "array", "items": _object({key: member.form for key, member in MEMBERS.items()}, ["name"])},
    ),
}
#: What a policy may look like: of a member of many parts one sentence is too little to write it by hand.
_POLICY = """
#   bands: [{below: 0.06, decision: accept}, {below: 0.12, decision: refer}, {decision: refuse}]
#   needed: {known_at_least: 8, always: [FEATURE], then: incomplete}
#   checks: [{feature: FEATURE, at_most: 1000, then: refer, name: why, text: {en: "…"}}]
#   unusual: {limits: {FEATURE: [100, 9000]}, inputs: 1, then: refer}
#     or, for limits read off --data: {limits: [FEATURE], outside: [0.001, 0.999], inputs: 1, then: refer}
""".strip().splitlines()
#: What of the document goes into the bundle's manifest as it is.
CARRIED = ("policy", "wording", "translations", "examples", "context", "groups")


def json_schema() -> dict[str, Any]:
    """The description as a JSON Schema, for editors."""
    _, parts = msgspec.json.schema_components([Policy], ref_template="#/$defs/{name}")
    for part in parts.values():
        part["description"] = inspect.cleandoc(part["description"])  # as Python 3.13 has it by itself
    unusual = parts["Unusual"]
    limits = unusual["properties"]["limits"]
    unusual["properties"]["limits"] = {"anyOf": [limits, {"type": "array", "items": TEXT}]}
    unusual["required"] = []
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Description of a Hotrow bundle",
        "type": "object",
        "properties": {
            key: {"description": member.wanted, **member.form} for key, member in DOCUMENT.items()
        },
        "additionalProperties": False,
        "$defs": json.loads(json.dumps(parts)),
    }


def check_document(document: Mapping[str, Any]) -> None:
    """Raise `ExportRefused` for a member of the document that is unknown or of another type."""
    check_members(document, DOCUMENT, "the description")
    for key, value in document.items():
        # Features are judged one by one, each by its name.
        form = {"type": "array"} if key == "features" else DOCUMENT[key].form
        if value is not None and not fits(value, form):
            raise ExportRefused(
                f"expected {DOCUMENT[key].wanted} as {key} of the description, got {repr(value)[:60]}"
            )
    if document.get("threshold") is not None and document.get("costs") is not None:
        raise ExportRefused(
            "expected a threshold or costs in the description, got both: one implies the other"
        )


def check_names(document: Mapping[str, Any], schema: Schema) -> None:
    """Raise `ExportRefused` for a context field that is a feature, or a group that is neither."""
    context = [field["name"] for field in document.get("context") or ()]
    if len(set(context)) != len(context):
        raise ExportRefused("expected each context field once, got one twice: take the second out")
    if both := set(context) & set(schema.names):
        raise ExportRefused(
            f"expected context fields that are no features, got {min(both)}, which is one: ask for it as a "
            "feature alone"
        )
    for field in document.get("context") or ():
        if (field.get("kind") == "category") != bool(field.get("categories")):
            raise ExportRefused(
                f"expected categories of a context field of kind category alone, got others: {field['name']}"
            )
    for name in document.get("groups") or ():
        if name not in (known := [*schema.names, *context]):
            hint = did_you_mean(name, known) or f"they are {listed(known)}"
            raise ExportRefused(f"expected groups to be features or context fields, got {name}: {hint}")


def checked_policy(document: Mapping[str, Any], decision: Decision | None, schema: Schema) -> Decision | None:
    """The decision that the bands of a policy imply; raises `ExportRefused` for a policy of another form.

    The first band is decided below everything, the last one from the threshold on.
    """
    written = document.get("policy")
    if not written:
        return decision
    if decision is None:
        raise ExportRefused("expected a binary model for a policy, got another: take it out")
    try:
        policy = msgspec.convert(written, Policy)
    except msgspec.ValidationError as error:
        raise ExportRefused(
            f"expected a policy of bands, needed, checks and unusual in the description, got: {error}"
        ) from None
    limits = [band.below for band in policy.bands if band.below is not None]
    if limits:
        below, otherwise = policy.bands[0].decision, policy.bands[-1].decision
        decision = replace(decision, threshold=limits[-1], below=below, otherwise=otherwise)
    numbers = {feature.name for feature in schema.features if feature.kind != "category"}
    problem = policy.problem(
        set(schema.names), numbers, decision.threshold, decision.below, decision.otherwise
    )
    if problem:
        raise ExportRefused(f"expected a policy that fits the model, got: {problem}")
    return decision


def reasons_of(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The texts of reasons that the features of a description have, by the feature's own name."""
    features = [entry for entry in document.get("features") or () if isinstance(entry, dict)]
    said = {entry["name"]: entry["reason"] for entry in features if entry.get("reason")}
    find = finder(names)
    return {find(name) or name: reason for name, reason in said.items()}


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
    elif decision == Decision(below=decision.below, otherwise=decision.otherwise):
        missed, alarm = 0.0, 0.0  # nobody said what mistakes cost: a page shows none
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
        as_typed(
            "# Edit, then: python -m export MODEL --describe FILE --out DIR. Misspelt members are refused."
        ),
        "",
    ]
    for key, member in DOCUMENT.items():
        if key != "features":
            lines.append(f"# {key}: {member.wanted}")
            lines += _POLICY if key == "policy" else []
            lines += [f"{key}: {json.dumps(said[key], ensure_ascii=False)}"] if key in said else []
    lines += [
        "",
        "# What is written of a feature binds requests; what stands under `inferred` guides forms alone.",
    ]
    lines += [f"#   {key}: {member.wanted}" for key, member in MEMBERS.items()]
    lines.append("features:")
    for feature in features:
        entry = feature.to_dict() | {"default": feature.default, "inferred": feature.inferred.to_dict()}
        if feature.name in (reasons := more.get("reasons") or {}):
            entry["reason"] = reasons[feature.name]
        pairs = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
        lines += [f"- {pairs[0]}", *(f"  {pair}" for pair in pairs[1:])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
