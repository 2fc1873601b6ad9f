"""The OpenAPI 3.1 document of the loaded bundle: `GET /openapi.json`, and `python -m server.api.openapi`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from server.access.scopes import OPEN_PATHS, SCOPES, scopes_for
from server.api import openapi_schemas as schemas
from server.api.batch_bodies import CSV, JSON, NDJSON
from server.api.code_samples import examples
from server.api.openapi_schemas import INTEGER, NUMBER, STRING, JsonSchema, array, record, ref
from server.api.problem_responses import is_open_inference
from server.cli import run
from server.errors import PROBLEM_JSON
from server.explain.recourse import ACTIONABLE
from server.log.history import DEFAULT_MINUTES, KEPT_MINUTES
from server.log.reviews import MOST_CHARACTERS
from server.model.bundle import CONTRIBUTIONS_FILE, Bundle
from server.scoring.deadline import HEADER, MAX_MILLISECONDS
from server.version import VERSION

_DESCRIPTION = (
    "Tabular models answered exactly: every probability equals that of the library that trained the model, "
    "to the bit. `/v2` speaks the Open Inference Protocol. Error responses are RFC 9457 problem documents, "
    'under `/v2` `{"error": …}`.'
)
_ERRORS = {
    400: "Not the JSON that was asked for",
    413: "The body is larger than the server's limit",
    415: "Another media type, or a compressed body",
    422: "Well-formed, but no row of this model: every bad field is named",
    503: "Overloaded or not ready; `Retry-After` says when to try again",
    504: "The row's turn came after the time that the request said it would wait",
}
_V2_ERRORS = {
    400: "Not a request of this model",
    404: "No such model or version",
    **_ERRORS,
}
_DEADLINE: JsonSchema = {
    "name": HEADER,
    "in": "header",
    "description": "Milliseconds after which the client no longer waits: the model is not run then.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_MILLISECONDS},
}
_INFER = (
    "Rows as one tensor `features`, [n, F], or as a tensor a feature, [n] or [n, 1] each. Binary tensors "
    "follow the JSON, whose length stands in the header `Inference-Header-Content-Length`; with 0 there, "
    "the body is one row of FP64 (or FP32) and nothing else."
)


def document(bundle: Bundle, *, has_keys: bool = False, root: str = "") -> bytes:
    """The document of a server, as indented JSON: its default model, whether it asks for keys, its prefix."""
    content: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"Hotrow: {bundle.manifest.get('title', bundle.name)}",
            "version": VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": root or "/"}],
        "paths": _paths(bundle),
        "components": {"schemas": _components(bundle)},
    }
    if has_keys:
        _add_keys(content)
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _add_keys(content: dict[str, Any]) -> None:
    """Say where a key goes, and of each operation for what it must be."""
    content["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in content["paths"].items():
        form = ("Error", JSON) if is_open_inference(path) else ("Problem", PROBLEM_JSON)
        for operation in operations.values():
            if path in OPEN_PATHS:
                continue
            scopes = " or ".join(scope for scope in SCOPES if scope in scopes_for(path))
            codes = {401: "No key of this server", 403: f"A key for something else than {scopes}"}
            operation["security"] = [{"bearer": []}, {"key": []}]
            operation["responses"] |= _errors(codes, *form)


def _paths(bundle: Bundle) -> dict[str, Any]:
    paths = _scoring(bundle) | _operations(bundle) | _open_inference(bundle)
    for prefix, suffix in (("/models/{name}", "ByName"), ("/models/{name}/versions/{version}", "OfVersion")):
        named = {prefix + path: operations for path, operations in _scoring(bundle, suffix).items()}
        named[prefix] = _get("model" + suffix, "The model of this name", {"type": "object"})
        for path, operations in named.items():
            for operation in operations.values():
                operation["responses"] |= _errors({404: _V2_ERRORS[404]}, "Problem", PROBLEM_JSON)
            _add_path_parameters(bundle, path, operations)
        paths |= named
    return paths


def _components(bundle: Bundle) -> dict[str, JsonSchema]:
    return {
        "Row": schemas.row_schema(bundle),
        "Answer": schemas.response_schema(bundle),
        "BatchAnswer": schemas.batch_response_schema(bundle),
        "Explanation": schemas.explanation_schema(bundle),
        "Recourse": schemas.recourse_schema(bundle),
        "Problem": schemas.problem_schema(),
        "Error": record({"error": STRING}),
        "Tensor": schemas.tensor_schema(),
        "InputTensor": schemas.input_tensor_schema(bundle),
        "InferenceRequest": schemas.inference_request_schema(bundle),
        "InferenceResponse": record(
            {
                "model_name": STRING,
                "model_version": STRING,
                "id": {"type": ["string", "integer"]},
                "outputs": array(ref("Tensor")),
            }
        ),
    }


def _scoring(bundle: Bundle, suffix: str = "") -> dict[str, Any]:
    batch = record({"rows": array(ref("Row"), minItems=1)}, additionalProperties=False)
    lines, cells = schemas.text_examples(bundle)
    bodies = {JSON: batch, NDJSON[0]: _example_text(lines), CSV: _example_text(cells)}
    paths = {
        "/predict": _post(
            "predict" + suffix, "Score one row", {JSON: ref("Row")}, ref("Answer"), samples=examples(bundle)
        ),
        "/predict/batch": _post(
            "predictBatch" + suffix,
            "Score many rows, all or none",
            bodies,
            ref("BatchAnswer"),
            description="NDJSON holds a row a line; CSV a header of feature names, an empty cell is missing. "
            "With `Accept: text/csv` or `application/x-ndjson` the response comes a line a row. "
            "Arrow IPC, `application/vnd.apache.arrow.stream`, is taken and given too.",
        ),
    }
    if CONTRIBUTIONS_FILE in bundle.manifest["files"]:
        paths["/explain"] = _post(
            "explain" + suffix, "Score one row and say why", {JSON: ref("Row")}, ref("Explanation")
        )
        for path in ("/predict", "/predict/batch"):
            paths[path]["post"]["parameters"] += schemas.reason_parameters(bundle)
    if bundle.task == "binary" and any(f.actionable in ACTIONABLE for f in bundle.schema.features):
        paths["/recourse"] = _post(
            "recourse" + suffix,
            "What could be changed to be decided otherwise",
            {JSON: ref("Row")},
            ref("Recourse"),
            description="Nothing is logged: nothing is decided.",
        )
        paths["/recourse"]["post"]["parameters"] += [schemas.language_parameter(bundle)]
    return paths


def _example_text(text: str) -> JsonSchema:
    """Text that JSON Schema cannot describe, by an example; generators send it as it is."""
    return {"type": "string", "format": "binary", "example": text}


def _operations(bundle: Bundle) -> dict[str, Any]:
    status = record({"status": STRING})
    return {
        "/model": _get(
            "model", "The model: schema, threshold, evaluation, parity report", {"type": "object"}
        ),
        "/models": _get("models", "Every model by name and version", {"type": "object"}),
        "/decisions/{id}/override": _override(bundle),
        "/livez": _get("livez", "The event loop turns", status),
        "/readyz": _get("readyz", "The model is verified and warm", status, errors={503: _ERRORS[503]}),
        "/metrics": _get("metrics", "Prometheus metrics", STRING, media_type="text/plain"),
        "/history": _history(),
        "/openapi.json": _get("openapi", "This document", {"type": "object"}),
        "/docs": _get("docs", "This document as a page", STRING, media_type="text/html"),
    }


def _override(bundle: Bundle) -> dict[str, Any]:
    """`POST /decisions/{id}/override`: the decision of a person."""
    said: JsonSchema = {name: STRING | {"maxLength": most} for name, most in MOST_CHARACTERS.items()}
    members = {"decision": {"enum": list(bundle.outcomes)}, **said}
    members["reason"] = members["reason"] | {"minLength": 1}
    body = record(members, required=["decision", "reason"], additionalProperties=False)
    written = dict.fromkeys(("ts", "of", "by_model", "decision", "reason", "note", "user"), STRING)
    path = _post(
        "override",
        "Write down what a person decided after the model",
        {JSON: body},
        record(written),
        description="`id` is that of an answer in the server's log, of a batch with `/` and a row's number.",
    )
    path["post"]["parameters"] += [{"name": "id", "in": "path", "required": True, "schema": STRING}]
    path["post"]["responses"] |= _errors(
        {404: "No such answer in the log", 409: "No log", 501: "No decisions, but values"},
        "Problem",
        PROBLEM_JSON,
    )
    return path


def _history() -> dict[str, Any]:
    """`GET /history`: minutes of all workers."""
    counts: JsonSchema = {"type": "object", "additionalProperties": INTEGER}
    minute = record(
        {
            "from": {"type": "string", "format": "date-time"},
            "seconds": NUMBER,
            "requests": {"type": "object", "additionalProperties": counts},
            "latency_us": {"type": "object"},
            "slow": INTEGER,
            "shed": INTEGER,
            "log": {"type": "object"},
            "models": {"type": "object"},
        }
    )
    response = record(
        {
            "log": {"enum": ["off", "async", "strict"]},
            "bins": {"type": "object"},
            "minutes": array(minute),
            "columns": array(record({"from": STRING, "models": {"type": "object"}})),
            "running": {"oneOf": [minute, {"type": "null"}]},
        }
    )
    words = "Not a number of minutes"
    path = _get("history", "What all workers did, minute by minute", response, errors={400: words})
    path["get"]["parameters"] = [
        {
            "name": "minutes",
            "in": "query",
            "description": "Of the last so many minutes.",
            "schema": {"type": "integer", "minimum": 1, "maximum": KEPT_MINUTES, "default": DEFAULT_MINUTES},
        }
    ]
    return path


def _open_inference(bundle: Bundle) -> dict[str, Any]:
    anything: JsonSchema = {"type": "object"}
    model = "/v2/models/{name}"
    paths = {
        "/v2": _v2("serverMetadata", "Server metadata", anything),
        "/v2/health/live": _v2("serverLive", "The server lives", anything),
        "/v2/health/ready": _v2("serverReady", "All models are ready", anything),
        "/v2/models/stats": _v2("statistics", "Statistics of all models", anything),
        "/v2/repository/index": _index(),
    }
    for prefix, suffix in ((model, ""), (model + "/versions/{version}", "OfVersion")):
        paths |= {
            prefix: _v2("modelMetadata" + suffix, "Model metadata", anything, bundle),
            prefix + "/ready": _v2("modelReady" + suffix, "The model is ready", anything, bundle),
            prefix + "/stats": _v2("modelStatistics" + suffix, "Statistics of the model", anything, bundle),
            prefix + "/config": _v2(
                "modelConfiguration" + suffix, "Triton's configuration", anything, bundle
            ),
            prefix + "/infer": _infer("infer" + suffix),
        }
    for path, operations in paths.items():
        _add_path_parameters(bundle, path, operations)
    return paths


def _add_path_parameters(bundle: Bundle, path: str, operations: dict[str, Any]) -> None:
    values = {"name": bundle.name, "version": bundle.version}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": [value]}}
        for name, value in values.items()
        if f"{{{name}}}" in path
    ]
    for operation in operations.values():
        if parameters:
            operation["parameters"] = [*operation.get("parameters", []), *parameters]


def _index() -> dict[str, Any]:
    entry = record({"name": STRING, "version": STRING, "state": STRING, "reason": STRING})
    body = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    operation = _operation(
        "repositoryIndex", "The models that are served", array(entry), JSON, "Inference protocol"
    )
    operation["requestBody"] = {"content": {JSON: {"schema": body}}}
    operation["responses"] |= _errors({code: _V2_ERRORS[code] for code in (400, 413, 415)}, "Error", JSON)
    return {"post": operation}


def _infer(name: str) -> dict[str, Any]:
    operation = _operation(
        name, "Score rows as tensors", ref("InferenceResponse"), JSON, "Inference protocol"
    )
    operation["description"] = _INFER
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": ref("InferenceRequest")}}}
    operation["parameters"] = [_DEADLINE]
    codes = (400, 404, 413, 415, 503, 504)
    operation["responses"] |= _errors({code: _V2_ERRORS[code] for code in codes}, "Error", JSON)
    return {"post": operation}


def _v2(name: str, summary: str, schema: JsonSchema, bundle: Bundle | None = None) -> dict[str, Any]:
    operation = _operation(name, summary, schema, JSON, "Inference protocol")
    codes = (404, 503) if bundle is not None else (503,)
    operation["responses"] |= _errors({code: _V2_ERRORS[code] for code in codes}, "Error", JSON)
    return {"get": operation}


def _post(
    name: str,
    summary: str,
    bodies: dict[str, JsonSchema],
    response: JsonSchema,
    *,
    description: str = "",
    samples: dict[str, str] | None = None,
) -> dict[str, Any]:
    operation = _operation(name, summary, response, JSON, "Scoring")
    content = {media_type: {"schema": schema} for media_type, schema in bodies.items()}
    operation["requestBody"] = {"required": True, "content": content}
    operation["responses"] |= _errors(_ERRORS, "Problem", PROBLEM_JSON)
    operation["parameters"] = [_DEADLINE]
    if description:
        operation["description"] = description
    if samples:
        operation["x-codeSamples"] = [{"lang": lang, "source": text} for lang, text in samples.items()]
    return {"post": operation}


def _get(
    name: str,
    summary: str,
    schema: JsonSchema,
    *,
    media_type: str = JSON,
    errors: dict[int, str] | None = None,
) -> dict[str, Any]:
    operation = _operation(name, summary, schema, media_type, "Operation")
    operation["responses"] |= _errors(errors or {}, "Problem", PROBLEM_JSON)
    return {"get": operation}


def _operation(name: str, summary: str, schema: JsonSchema, media_type: str, tag: str) -> dict[str, Any]:
    response = {"description": "The response", "content": {media_type: {"schema": schema}}}
    return {"operationId": name, "summary": summary, "tags": [tag], "responses": {"200": response}}


def _errors(codes: dict[int, str], schema: str, media_type: str) -> dict[str, Any]:
    return {
        str(code): {"description": words, "content": {media_type: {"schema": ref(schema)}}}
        for code, words in codes.items()
    }


def main(arguments: Sequence[str]) -> int:
    """Print the document of a bundle."""
    parser = argparse.ArgumentParser(prog="python -m server.api.openapi", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/credit"), metavar="DIR")
    sys.stdout.buffer.write(document(Bundle.load(parser.parse_args(arguments).model)))
    return 0


if __name__ == "__main__":
    run(main)
