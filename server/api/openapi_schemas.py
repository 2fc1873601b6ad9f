"""JSON Schemas (2020-12) of what the API takes and gives, from a bundle's schema."""

import csv
import io
import sys
from collections.abc import Iterable
from typing import Any

import orjson

from server.explain.reasons import ALL, ReasonTexts
from server.model.bundle import CONTRIBUTIONS_FILE, Bundle
from server.model.files import INPUT
from server.model.schema import MAX_CONTEXT, MAX_EXACT_INTEGER, Feature
from server.scoring.model_tensors import ModelTensors
from server.scoring.row_context import MEMBER as CONTEXT
from server.scoring.tensors import BYTES, DTYPES

JsonSchema = dict[str, Any]

STRING: JsonSchema = {"type": "string"}
#: By the format a generator takes a type that holds all bits; without it Go's would take float32.
DOUBLE, INT64 = "double", "int64"
NUMBER: JsonSchema = {"type": "number", "format": DOUBLE}
INTEGER: JsonSchema = {"type": "integer", "format": INT64}
PROBABILITY: JsonSchema = {
    **NUMBER,
    "minimum": 0,
    "maximum": 1,
    "description": "Of the positive class; parses back to the same 64 bits.",
}


def ref(name: str) -> JsonSchema:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: JsonSchema, **more: Any) -> JsonSchema:
    """An array of `items`."""
    return {"type": "array", "items": items, **more}


def choice(words: Iterable[str]) -> JsonSchema:
    """One of these texts."""
    return {"type": "string", "enum": list(words)}


def record(properties: dict[str, JsonSchema], **more: Any) -> JsonSchema:
    """An object with these members, all of them required unless `required` says otherwise."""
    return {"type": "object", "properties": properties, "required": list(properties), **more}


def row_schema(bundle: Bundle) -> JsonSchema:
    """A row as `/predict` takes it."""
    features = bundle.schema.features
    ignored: dict[str, JsonSchema] = {
        name: {"description": "Not used by the model."} for name in bundle.schema.ignored
    }
    kinds = ["string", "number", "boolean", "null"]
    one = {"type": kinds, "maxLength": MAX_CONTEXT, "description": "Logged, never scored."}
    context = dict.fromkeys(bundle.schema.context, one)
    if context:
        ignored |= context | {
            CONTEXT: record(
                context, required=[], additionalProperties=False, description="The same fields in one place."
            )
        }
    return record(
        {feature.name: feature_schema(feature) for feature in features} | ignored,
        required=[feature.name for feature in features if not feature.nullable],
        additionalProperties=False,
        description="One row. A feature that is absent or null is missing.",
        example=row_example(bundle),
    )


def row_example(bundle: Bundle) -> dict[str, Any]:
    """A row of every feature's example."""
    return {feature.name: feature.example for feature in bundle.schema.features}


def text_examples(bundle: Bundle) -> tuple[str, str]:
    """The example row twice, as NDJSON and as CSV."""
    row = row_example(bundle)
    line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE).decode()
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([row, *[row.values()] * 2])
    return line * 2, text.getvalue()


def feature_schema(feature: Feature) -> JsonSchema:
    """One feature with its meaning, unit, range and example."""
    described: JsonSchema = {"title": feature.label or feature.name, "example": feature.example}
    words = [feature.help, f"Unit: {feature.unit}." if feature.unit else ""]
    text = " ".join(filter(None, words))
    if text:
        described["description"] = text
    if feature.kind == "category" and feature.unknown:
        return described | {"type": ["string", "null"] if feature.nullable else "string"}
    if feature.kind == "category":
        return described | {"enum": [*feature.categories, *([None] if feature.nullable else [])]}
    if feature.kind == "flag":
        forms: list[JsonSchema] = [{"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": 1}]
        return described | {"anyOf": [*forms, *[{"type": "null"}] * feature.nullable]}
    types = [feature.kind, *["boolean"] * (feature.form_kind == "flag"), *["null"] * feature.nullable]
    format_ = INT64 if feature.kind == "integer" else DOUBLE
    return (
        described | {"type": types if len(types) > 1 else feature.kind, "format": format_} | _range(feature)
    )


def _range(feature: Feature) -> JsonSchema:
    low, high = feature.range
    largest = float(MAX_EXACT_INTEGER) if feature.kind == "integer" else sys.float_info.max
    return {"minimum": max(low, -largest), "maximum": min(high, largest)}


def response_members(bundle: Bundle) -> dict[str, JsonSchema]:
    """What a response says of one row."""
    if bundle.task == "binary":
        decision = choice(bundle.outcomes)
        return {"probability": PROBABILITY, "decision": decision}
    if bundle.task == "multiclass":
        classes = list(bundle.classes)
        order = f"In the order of the classes: {', '.join(classes)}."
        return {
            "probabilities": array(
                PROBABILITY, description=order, minItems=len(classes), maxItems=len(classes)
            ),
            "prediction": choice(classes),
        }
    return {"prediction": NUMBER}


def policy_members(bundle: Bundle) -> dict[str, JsonSchema]:
    """What a response says of a row beside, where the bundle's policy spoke."""
    if bundle.policy is None:
        return {}
    reasons = list(bundle.policy.reasons())
    because = array(choice(reasons), description="What spoke beside the score.")
    decided = "What the score alone decides, where the policy decided otherwise."
    return {"because": because, "by_score": {**choice(bundle.outcomes), "description": decided}}


def reason_parameters(bundle: Bundle) -> list[JsonSchema]:
    """How reasons are asked for: how many of them, and in which language."""
    most = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": len(bundle.schema)}, {"const": ALL}]}
    return [{"name": "reasons", "in": "query", "schema": most}, language_parameter(bundle)]


def language_parameter(bundle: Bundle) -> JsonSchema:
    """In which language texts are asked for."""
    return {"name": "language", "in": "query", "schema": {"enum": ReasonTexts(bundle).languages}}


def reason_members(bundle: Bundle) -> dict[str, JsonSchema]:
    """What a response says of its reasons, where they are asked for and due."""
    if CONTRIBUTIONS_FILE not in bundle.manifest["files"]:
        return {}
    reason = record(
        {
            "code": STRING,
            "feature": choice(bundle.schema.names),
            "contribution": {**NUMBER, "description": "In the unit of the margin (log-odds)."},
            "text": STRING,
        }
    )
    return {"reasons": array(reason, description="What raised the score, the largest first.")}


def response_schema(bundle: Bundle) -> JsonSchema:
    """The response of `/predict`."""
    identity = {"type": "string", "description": "Unique; the key of the prediction log."}
    members = {"id": identity, **response_members(bundle), "model": {"const": bundle.label}}
    return record(members | policy_members(bundle) | reason_members(bundle), required=list(members))


def batch_response_schema(bundle: Bundle) -> JsonSchema:
    """The response of `/predict/batch`: a list of each member, in the order of the rows."""
    plural = {"probability": "probabilities", "decision": "decisions", "prediction": "predictions"}
    members = response_members(bundle) | policy_members(bundle)
    lists = {plural.get(name, name): array(schema) for name, schema in members.items()}
    found = record({"id": STRING, "model": {"const": bundle.label}, **lists})
    found["properties"] |= {name: array(schema) for name, schema in reason_members(bundle).items()}
    return found


def explanation_schema(bundle: Bundle) -> JsonSchema:
    """The response of `/explain`."""
    reason = record(
        {
            "feature": choice(bundle.schema.names),
            "label": STRING,
            "value": {"description": "As in a row; null where it is missing."},
            "contribution": {**NUMBER, "description": "In the unit of the margin (log-odds)."},
            "principal": {"type": "boolean", "description": "At most four reasons are."},
            "words": STRING,
        }
    )
    response = response_schema(bundle)
    base = {
        **NUMBER,
        "description": "The margin of the average row; with the contributions, the margin.",
    }
    members = {"base": base, "reasons": array(reason)}
    return record(response["properties"] | members, required=[*response["required"], *members])


def recourse_schema(bundle: Bundle) -> JsonSchema:
    """The response of `/recourse`."""
    value: JsonSchema = {"description": "As in a row."}
    name: JsonSchema = choice(bundle.schema.names)
    change = record({"feature": name, "label": STRING, "from": value, "to": value, "text": STRING})
    decided = response_members(bundle)
    proposal = record({"changes": array(change, minItems=1, maxItems=2), **decided})
    members = {
        "model": {"const": bundle.label},
        **decided,
        "proposals": array(proposal, description="Each leads to the first decision; the smallest first."),
        "missing": array(name, description="What has to be known before anything can be decided."),
        "tried": {**INTEGER, "description": "Rows that were scored."},
        "text": STRING,
    }
    return record(members, required=list(members))


def problem_schema() -> JsonSchema:
    """An error response, as RFC 9457 writes it."""
    error = record({"pointer": STRING, "detail": STRING})
    members = {"type": STRING, "title": STRING, "status": {"type": "integer"}, "detail": STRING}
    return record(members | {"errors": array(error)}, required=list(members))


def input_tensor_schema(bundle: Bundle) -> JsonSchema:
    """An input tensor: all features of n rows, [n, F], or one feature's, [n] or [n, 1]."""
    value: list[JsonSchema] = [NUMBER, STRING, {"type": "boolean"}, {"type": "null"}]
    members: dict[str, JsonSchema] = {
        "name": choice([INPUT, *bundle.schema.names]),
        "shape": array({**INTEGER, "minimum": 1}, minItems=1, maxItems=2),
        "datatype": choice([*DTYPES, BYTES]),
        "data": array({"anyOf": [*value, array({"anyOf": value})]}, minItems=1),
    }
    # JSON Schema cannot say that `shape` fits the length of `data`.
    return record(members, description="`data` is row by row, flat or nested as `shape` says.")


def inference_request_schema(bundle: Bundle) -> JsonSchema:
    """A request of rows as tensors."""
    output = record({"name": choice(ModelTensors(bundle).outputs)})
    return record(
        {
            "id": {"type": ["string", "integer", "null"]},
            "inputs": array(ref("InputTensor"), minItems=1),
            "outputs": {"anyOf": [array(output), {"type": "null"}]},
        },
        required=["inputs"],
        example=inference_example(bundle),
    )


def inference_example(bundle: Bundle) -> JsonSchema:
    """The example row as a tensor; a category as its code, a missing value as null."""
    codes = [f.encode(f.example) if f.example is not None else None for f in bundle.schema.features]
    tensor = {"name": INPUT, "shape": [1, len(codes)], "datatype": "FP64", "data": codes}
    return {"id": "42", "inputs": [tensor]}


def tensor_schema() -> JsonSchema:
    """An output tensor; `data` is absent where it follows in binary."""
    members: dict[str, JsonSchema] = {
        "name": STRING,
        "datatype": STRING,
        "shape": array(INTEGER),
        "data": array({}),
        "parameters": {"type": "object"},
    }
    return record(members, required=["name", "datatype", "shape"])
