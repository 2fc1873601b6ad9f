"""`POST /explain`: the response of `/predict` and the reasons for it."""

import struct
import time

import orjson
from starlette.requests import Request
from starlette.responses import Response

from server.api.body import JSON, check_json, read_body
from server.explain.reasons import reasons
from server.scoring.deadline import Deadline
from server.scoring.one_row import Extras, Scorer
from server.scoring.request_identity import identity_of_request
from server.scoring.row_context import flat_row
from server.scoring.row_id import id_of, takes_id
from server.scoring.service import Service


async def explain(request: Request) -> Response:
    """Answer one row, and say what each feature added to its margin."""
    service: Service = request.app.state.service
    check_json(request)
    deadline = Deadline.of(request)
    body = await read_body(request, service.settings.max_body_bytes)
    started_ns = time.perf_counter_ns()
    model = service.asked(request.path_params)
    scorer = model.scorer
    body = flat_row(body, scorer.bundle.schema)
    row_id = id_of(body) if takes_id(scorer.bundle.schema) else b""
    row = (scorer.decode_with_id if row_id else scorer.decode)(body)
    terms = model.explainer.terms(row)
    deadline.check()
    schema = scorer.bundle.schema
    values = struct.unpack(f"{len(schema)}d", row)
    found = {"base": terms[-1], "reasons": reasons(schema, values, terms[:-1], _subject(scorer))}
    contents: list[bytes] = []
    identity = identity_of_request(request.scope).members
    scorer.respond(body, contents.append, started_ns, Extras(row_id), identity)
    return Response(b"%b,%b" % (contents[0][:-1], orjson.dumps(found)[1:]), media_type=JSON)


def _subject(scorer: Scorer) -> str:
    if scorer.bundle.task == "binary":
        positive = scorer.bundle.decision.otherwise
        return "the risk" if positive == "decline" else f"the probability of {positive}"
    return "the prediction" if not scorer.bundle.classes else "the likelihood of this class"
