"""The Open Inference Protocol under `/v2`: its routes, as Triton and KServe answer them.

Source: `specification/protocol/open_inference_rest.yaml` of
kserve/open-inference-protocol, and Triton's extensions `binary_tensor_data`,
`statistics`, `model_repository` (its index) and `model_configuration`.
"""

import time
from typing import Any

import orjson
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.api.body import JSON, media_type, read_body
from server.errors import MalformedBody, NotOffered, Problem
from server.model.schema import Matrix, parse_object
from server.scoring.deadline import Deadline
from server.scoring.many_rows import RowsScorer, row_texts
from server.scoring.model_tensors import PLATFORM, ModelTensors
from server.scoring.request_identity import identity_of_request
from server.scoring.row_context import context_of_parameters
from server.scoring.row_id import MEMBER, id_text
from server.scoring.row_limit import row_limit
from server.scoring.scored import ScoredRows
from server.scoring.service import Service
from server.scoring.tensors import (
    OutputParameters,
    RequestHead,
    RequestParameters,
    Tensor,
    read_head,
    read_tensors,
    write_response,
)
from server.version import VERSION

NAME = "hotrow"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")
OCTETS = "application/octet-stream"
HEAD_LENGTH = "Inference-Header-Content-Length"
#: The protocol names no media type for JSON; its clients send none, or one of these.
MEDIA_TYPES = (JSON, OCTETS, "")


def open_inference_routes() -> list[Route]:
    """Every route under `/v2`."""
    routes = [
        Route("/v2", server_metadata),
        Route("/v2/", server_metadata),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/models/stats", statistics),
        Route("/v2/repository/index", repository_index, methods=["POST"]),
        Route("/v2/repository/models/{name}/{action:str}", repository_change, methods=["POST"]),
    ]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes += [
            Route(path, model_metadata),
            Route(path + "/ready", model_ready),
            Route(path + "/stats", statistics),
            Route(path + "/config", configuration),
            Route(path + "/infer", infer, methods=["POST"]),
        ]
    return routes


async def server_metadata(_: Request) -> Response:
    """`GET /v2`."""
    return _json({"name": NAME, "version": VERSION, "extensions": EXTENSIONS})


async def live(_: Request) -> Response:
    """`GET /v2/health/live`."""
    return _json({"live": True})


async def ready(request: Request) -> Response:
    """`GET /v2/health/ready`; the body satisfies the specification's text and KServe alike."""
    request.app.state.service.check_ready()
    return _json({"live": True, "ready": True})


async def model_ready(request: Request) -> Response:
    """`GET /v2/models/{name}/ready`."""
    service, model = _model(request)
    service.check_ready()
    return _json({"name": model.bundle.name, "ready": True})


async def model_metadata(request: Request) -> Response:
    """`GET /v2/models/{name}`."""
    service, model = _model(request)
    versions = [version.bundle.version for version in service.versions(model.bundle.name)]
    return _json(model.tensors.metadata(versions))


async def configuration(request: Request) -> Response:
    """`GET /v2/models/{name}/config`: what Triton's tools ask before they send load."""
    service, model = _model(request)
    metadata = model.tensors.metadata([])
    return _json(
        {
            "name": model.bundle.name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "max_batch_size": row_limit(model.bundle, service.settings),
            "input": [_configured(tensor) for tensor in metadata["inputs"]],
            "output": [_configured(tensor) for tensor in metadata["outputs"]],
        }
    )


async def repository_index(request: Request) -> Response:
    """`POST /v2/repository/index`."""
    service: Service = request.app.state.service
    media_type(request, MEDIA_TYPES)
    body = await read_body(request, service.settings.max_body_bytes)
    wanted = parse_object(body) if body else {}
    if type(wanted.get("ready", False)) is not bool:
        raise MalformedBody("expected ready as true or false, got something else")
    if wanted.get("ready") and not service.ready:
        return _json([])
    state = "READY" if service.ready else "UNAVAILABLE"
    return _json(
        [
            {"name": bundle.name, "version": bundle.version, "state": state, "reason": ""}
            for bundle in service.bundles
        ]
    )


async def repository_change(_: Request) -> Response:
    """Loading and unloading over HTTP, which this server does not do."""
    raise NotOffered("expected the models of --model: this server neither loads nor unloads over HTTP")


async def statistics(request: Request) -> Response:
    """`GET /v2/models/stats` or of one model: what `infer` has done, in all workers."""
    service: Service = request.app.state.service
    models = [_model(request)[1]] if "name" in request.path_params else service.rows
    return _json({"model_stats": [_statistics(service, model) for model in models]})


async def infer(request: Request) -> Response:
    """`POST /v2/models/{name}/infer`."""
    service, model = _model(request)
    started_ns = time.perf_counter_ns()
    try:
        return await _infer(request, service, model, started_ns)
    except Problem:
        model.add_statistics(fail=1, fail_ns=time.perf_counter_ns() - started_ns)
        raise


async def _infer(request: Request, service: Service, model: RowsScorer, started_ns: int) -> Response:
    kind = media_type(request, MEDIA_TYPES)
    head_length = _head_length(request)
    deadline = Deadline.of(request)
    body = await read_body(request, service.settings.max_batch_bytes)
    received_ns = time.perf_counter_ns()
    async with service.in_flight.turn(len(body)):
        turn_ns = time.perf_counter_ns()
        deadline.check()
        limit = row_limit(model.bundle, service.settings)
        # What calls itself JSON is held to it; Triton's client, which writes NaN, calls itself nothing.
        head, matrix, ids = _read(model.tensors, body, head_length, limit, nan=kind != JSON)
        deadline = deadline.or_parameter(request, head.parameters)
        wanted = _wanted(model.tensors, head, ids)
        context = context_of_parameters(body[:head_length], model.bundle.schema)
        request_id = b"" if head.id in (None, "") else id_text(head.id)
        row_ids = [id_text(value) for value in ids.values.tolist()] if ids is not None else []
        input_ns = time.perf_counter_ns() - turn_ns
        scored = await model.score(matrix, deadline)
        identity = identity_of_request(request.scope).with_request_id(request_id)
        scored = scored._replace(row_ids=row_ids, identity=identity.members)
        scored_ns = time.perf_counter_ns()
        with model.numbered(scored) as scored:
            content, json_length = _write(model, head, wanted, scored, ids)
        ended_ns = time.perf_counter_ns()

    model.add_statistics(
        rows=len(matrix),
        calls=1,
        success=1,
        success_ns=ended_ns - started_ns,
        queue_ns=turn_ns - received_ns,
        input_ns=input_ns,
        infer_ns=scored.infer_ns,
        output_ns=ended_ns - scored_ns,
    )
    texts = row_texts(model.bundle.schema, matrix)
    if context:
        texts = (b"%b%b}" % (text[:-1], context) for text in texts)
    await model.record(texts, matrix, scored, received_ns)
    if json_length is not None:
        return Response(content, headers={HEAD_LENGTH: str(json_length)}, media_type=OCTETS)
    return Response(content, media_type=JSON)


def _head_length(request: Request) -> int | None:
    """The length of the JSON before binary tensors, None if the whole body is JSON."""
    text = request.headers.get(HEAD_LENGTH)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise MalformedBody(f"expected {HEAD_LENGTH} as a number of bytes, got something else")
    return int(text)


def _read(
    tensors: ModelTensors, body: bytes, head_length: int | None, max_rows: int, *, nan: bool
) -> tuple[RequestHead, Matrix, Tensor | None]:
    if head_length == 0:
        head = RequestHead([], parameters=RequestParameters(binary_data_output=True))
        return head, tensors.raw_row(body), None
    if head_length is not None and head_length > len(body):
        raise MalformedBody(
            f"expected {HEAD_LENGTH} of at most the body's {len(body)} bytes, got {head_length}"
        )
    head = read_head(body[:head_length], len(tensors.bundle.schema), nan=nan)
    tensors.check(head.inputs, max_rows)
    inputs = read_tensors(head.inputs, memoryview(body)[head_length or len(body) :])
    return head, tensors.rows(inputs), tensors.ids(inputs)


def _wanted(tensors: ModelTensors, head: RequestHead, ids: Tensor | None) -> list[tuple[str, bool]]:
    """The outputs to answer, and whether in binary each."""
    offered = [*tensors.outputs, *([MEMBER] if ids is not None else [])]
    default = head.parameters is not None and head.parameters.binary_data_output is True
    if not head.outputs:
        return [(name, default) for name in offered]
    names = [output.name for output in head.outputs]
    if len(set(names)) != len(names) or any(name not in offered for name in names):
        raise MalformedBody(f"expected outputs among {', '.join(offered)}, each once, got others")
    return [(output.name, _in_binary(output.parameters, default)) for output in head.outputs]


def _in_binary(parameters: OutputParameters | None, default: bool) -> bool:
    if parameters is None:
        return default
    if parameters.classification is not UNSET or parameters.shared_memory_region is not UNSET:
        raise MalformedBody("expected no classification or shared memory for an output, got one")
    return default if parameters.binary_data is None else parameters.binary_data


def _write(
    model: RowsScorer,
    head: RequestHead,
    wanted: list[tuple[str, bool]],
    scored: ScoredRows,
    ids: Tensor | None,
) -> tuple[bytes, int | None]:
    response = {
        "model_name": model.bundle.name,
        "model_version": model.bundle.version,
        "id": scored.id if head.id in (None, "") else head.id,
    }
    given = {MEMBER: ids} if ids is not None else {}
    outputs = [given.get(name) or model.tensors.tensor(name, scored) for name, _ in wanted]
    return write_response(response, outputs, [binary for _, binary in wanted])


def _model(request: Request) -> tuple[Service, RowsScorer]:
    """The model that the path names; raises `NotFound`."""
    service: Service = request.app.state.service
    parameters = request.path_params
    return service, service.find(parameters["name"], parameters.get("version")).rows


def _configured(tensor: dict[str, Any]) -> dict[str, Any]:
    kind = "STRING" if tensor["datatype"] == "BYTES" else tensor["datatype"]
    return {"name": tensor["name"], "data_type": f"TYPE_{kind}", "dims": tensor["shape"][1:]}


def _statistics(service: Service, model: RowsScorer) -> dict[str, Any]:
    counts = service.metrics.shared.statistics(model.bundle.label)
    calls = counts["calls"]
    return {
        "name": model.bundle.name,
        "version": model.bundle.version,
        "last_inference": counts["last_ms"],
        "inference_count": counts["rows"],
        "execution_count": calls,
        "inference_stats": {
            "success": {"count": counts["success"], "ns": counts["success_ns"]},
            "fail": {"count": counts["fail"], "ns": counts["fail_ns"]},
            "queue": {"count": calls, "ns": counts["queue_ns"]},
            "compute_input": {"count": calls, "ns": counts["input_ns"]},
            "compute_infer": {"count": calls, "ns": counts["infer_ns"]},
            "compute_output": {"count": calls, "ns": counts["output_ns"]},
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
        },
        "batch_stats": [],
    }


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type=JSON)
