"""The OpenAPI 3.1 document of the loaded bundle: `GET /openapi.json`, and `python -m server.api.openapi`."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from server.access.scopes import OPEN_PATHS, SCOPES, scopes_for
from server.api import openapi_schemas as schemas
from server.api.batch_bodies import CSV, JSON, NDJSON
from server.api.code_samples import examples
from server.api.openapi_schemas import INTEGER, NUMBER, STRING, JsonSchema, array, record, ref
from server.api.problem_responses import is_open_inference
from server.cli import CommandParser, run
from server.errors import PROBLEM_JSON
from server.explain.recourse import ACTIONABLE
from server.log.history import DEFAULT_MINUTES, KEPT_MINUTES
from server.log.reviews import MOST_CHARACTERS
from server.model.bundle import CONTRIBUTIONS_FILE, Bundle
from server.outcomes.record import AT, KEYS, OUTCOME
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
_PROTOCOL = "Inference protocol"
_V2_ERRORS = {404: "No such model or version", **_ERRORS}
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
        named[prefix] = _operation("model" + suffix, "The model of this name", {"type": "object"})
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
    score = partial(_operation, tag="Scoring", errors=_ERRORS)
    row = {JSON: ref("Row")}
    is_explained = CONTRIBUTIONS_FILE in bundle.manifest["files"]
    reasons = schemas.reason_parameters(bundle) if is_explained else []
    paths = {
        "/predict": score(
            "predict" + suffix, "Score one row", ref("Answer"), bodies=row, parameters=[_DEADLINE, *reasons]
        ),
        "/predict/batch": score(
            "predictBatch" + suffix,
            "Score many rows, all or none",
            ref("BatchAnswer"),
            bodies=bodies,
            parameters=[_DEADLINE, *reasons],
            description="NDJSON holds a row a line; CSV a header of feature names, an empty cell is missing. "
            "With `Accept: text/csv` or `application/x-ndjson` the response comes a line a row. "
            "Arrow IPC, `application/vnd.apache.arrow.stream`, is taken and given too.",
        ),
    }
    samples = [{"lang": language, "source": text} for language, text in examples(bundle).items()]
    paths["/predict"]["post"]["x-codeSamples"] = samples
    if reasons:
        paths["/explain"] = score(
            "explain" + suffix,
            "Score one row and say why",
            ref("Explanation"),
            bodies=row,
            parameters=[_DEADLINE],
        )
    if bundle.task == "binary" and any(f.actionable in ACTIONABLE for f in bundle.schema.features):
        paths["/recourse"] = score(
            "recourse" + suffix,
            "What could be changed to be decided otherwise",
            ref("Recourse"),
            bodies=row,
            parameters=[_DEADLINE, schemas.language_parameter(bundle)],
            description="Nothing is logged: nothing is decided.",
        )
    return paths


def _example_text(text: str) -> JsonSchema:
    """Text that JSON Schema cannot describe, by an example; generators send it as it is."""
    return {"type": "string", "format": "binary", "example": text}


def _operations(bundle: Bundle) -> dict[str, Any]:
    status = record({"status": STRING})
    return {
        "/model": _operation(
            "model", "The model: schema, threshold, evaluation, parity report", {"type": "object"}
        ),
        "/models": _operation("models", "Every model by name and version", {"type": "object"}),
        "/decisions/{id}/override": _override(bundle),
        "/outcomes": _outcomes(),
        "/livez": _operation("livez", "The event loop turns", status),
        "/readyz": _operation("readyz", "The model is verified and warm", status, errors={503: _ERRORS[503]}),
        "/metrics": _operation("metrics", "Prometheus metrics", STRING, media_type="text/plain"),
        "/history": _history(),
        "/openapi.json": _operation("openapi", "This document", {"type": "object"}),
        "/docs": _operation("docs", "This document as a page", STRING, media_type="text/html"),
    }


def _override(bundle: Bundle) -> dict[str, Any]:
    """`POST /decisions/{id}/override`: the decision of a person."""
    said: JsonSchema = {name: STRING | {"maxLength": most} for name, most in MOST_CHARACTERS.items()}
    members = {"decision": {"enum": list(bundle.outcomes)}, **said}
    members["reason"] = members["reason"] | {"minLength": 1}
    body = record(members, required=["decision", "reason"], additionalProperties=False)
    written = dict.fromkeys(("ts", "of", "by_model", "decision", "reason", "note", "user"), STRING)
    errors = {404: "No such answer in the log", 409: "No log", 501: "No decisions, but values"}
    return _operation(
        "override",
        "Write down what a person decided after the model",
        record(written),
        tag="Scoring",
        bodies={JSON: body},
        errors=_ERRORS | errors,
        parameters=[_DEADLINE, {"name": "id", "in": "path", "required": True, "schema": STRING}],
        description="`id` is that of an answer in the server's log, of a batch with `/` and a row's number.",
    )


def _outcomes() -> dict[str, Any]:
    """`POST /outcomes`: what became of decisions."""
    said: JsonSchema = {OUTCOME: {"type": ["integer", "number", "string", "null"]}, AT: STRING}
    one = record({**dict.fromkeys(KEYS, STRING), **said}, required=[OUTCOME], additionalProperties=False)
    example = {"id": "9f3c1ab20c44-42", OUTCOME: 1, AT: "2026-03-01T14:00Z"}
    bodies: dict[str, JsonSchema] = {
        JSON: {"oneOf": [one, array(one)], "example": example},
        NDJSON[0]: _example_text('{"id":"9f3c1ab20c44-42","outcome":1}\n{"row_id":"7","outcome":null}\n'),
        CSV: _example_text("row_id,outcome,at\n7,1,2026-03-01\n"),
    }
    return _operation(
        "outcomes",
        "Write down what became of decisions",
        record({"outcomes": INTEGER}),
        tag="Scoring",
        bodies=bodies,
        errors=_ERRORS | {409: "No log", 501: "Outcomes are not taken here (HOTROW_OUTCOMES)"},
        parameters=[_DEADLINE],
        description="Each has one of " + ", ".join(f"`{key}`" for key in KEYS) + ". All are written or none.",
    )


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
    minutes = {
        "name": "minutes",
        "in": "query",
        "description": "Of the last so many minutes.",
        "schema": {"type": "integer", "minimum": 1, "maximum": KEPT_MINUTES, "default": DEFAULT_MINUTES},
    }
    return _operation(
        "history",
        "What all workers did, minute by minute",
        response,
        errors={400: "Not a number of minutes"},
        parameters=[minutes],
    )


def _open_inference(bundle: Bundle) -> dict[str, Any]:
    anything: JsonSchema = {"type": "object"}
    entry = record({"name": STRING, "version": STRING, "state": STRING, "reason": STRING})
    asked = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    of_server = partial(_operation, tag=_PROTOCOL, errors=_v2_errors(503))
    of_model = partial(_operation, tag=_PROTOCOL, errors=_v2_errors(404, 503))
    paths = {
        "/v2": of_server("serverMetadata", "Server metadata", anything),
        "/v2/health/live": of_server("serverLive", "The server lives", anything),
        "/v2/health/ready": of_server("serverReady", "All models are ready", anything),
        "/v2/models/stats": of_server("statistics", "Statistics of all models", anything),
        "/v2/repository/index": _operation(
            "repositoryIndex",
            "The models that are served",
            array(entry),
            tag=_PROTOCOL,
            bodies={JSON: asked},
            needs_body=False,
            errors=_v2_errors(400, 413, 415),
        ),
    }
    for prefix, suffix in (("/v2/models/{name}", ""), ("/v2/models/{name}/versions/{version}", "OfVersion")):
        paths |= {
            prefix: of_model("modelMetadata" + suffix, "Model metadata", anything),
            prefix + "/ready": of_model("modelReady" + suffix, "The model is ready", anything),
            prefix + "/stats": of_model("modelStatistics" + suffix, "Statistics of the model", anything),
            prefix + "/config": of_model("modelConfiguration" + suffix, "Triton's configuration", anything),
            prefix + "/infer": _operation(
                "infer" + suffix,
                "Score rows as tensors",
                ref("InferenceResponse"),
                tag=_PROTOCOL,
                bodies={JSON: ref("InferenceRequest")},
                errors=_v2_errors(400, 404, 413, 415, 503, 504),
                parameters=[_DEADLINE],
                description=_INFER,
            ),
        }
    for path, operations in paths.items():
        _add_path_parameters(bundle, path, operations)
    return paths


def _v2_errors(*codes: int) -> dict[int, str]:
    return {code: _V2_ERRORS[code] for code in codes}


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


def _operation(
    name: str,
    summary: str,
    schema: JsonSchema,
    *,
    tag: str = "Operation",
    media_type: str = JSON,
    bodies: Mapping[str, JsonSchema] | None = None,
    needs_body: bool = True,
    errors: Mapping[int, str] | None = None,
    parameters: Sequence[JsonSchema] = (),
    description: str = "",
) -> dict[str, Any]:
    """One operation: a POST of one of these bodies, or a GET."""
    response = {"description": "The response", "content": {media_type: {"schema": schema}}}
    form = ("Error", JSON) if tag == _PROTOCOL else ("Problem", PROBLEM_JSON)
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "responses": {"200": response} | _errors(errors or {}, *form),
    }
    if bodies is not None:
        content = {kind: {"schema": of_body} for kind, of_body in bodies.items()}
        required = {"required": True} if needs_body else {}
        operation["requestBody"] = {**required, "content": content}
    operation |= {"parameters": list(parameters)} if parameters else {}
    operation |= {"description": description} if description else {}
    return {"post" if bodies is not None else "get": operation}


def _errors(codes: Mapping[int, str], schema: str, media_type: str) -> dict[str, Any]:
    return {
        str(code): {"description": words, "content": {media_type: {"schema": ref(schema)}}}
        for code, words in codes.items()
    }


def main(arguments: Sequence[str]) -> int:
    """Print the document of a bundle."""
    parser = CommandParser(prog="python -m server.api.openapi", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/credit"), metavar="DIR")
    sys.stdout.buffer.write(document(Bundle.load(parser.parse_args(arguments).model)))
    return 0


if __name__ == "__main__":
    run(main)
