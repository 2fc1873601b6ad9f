"""`POST /recourse`: what the applicant could change to be decided otherwise."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from server.api.body import JSON, check_json, read_body
from server.explain.recourse import recourse_response
from server.scoring.deadline import Deadline
from server.scoring.row_context import flat_row
from server.scoring.row_id import id_of, takes_id
from server.scoring.service import Service


async def recourse(request: Request) -> Response:
    """Answer one row with what leads to the good decision; as nothing is decided, nothing is logged."""
    service: Service = request.app.state.service
    check_json(request)
    deadline = Deadline.of(request)
    body = await read_body(request, service.settings.max_body_bytes)
    model = service.asked(request.path_params)
    language = model.reason_texts.language(request.query_params)
    model.recourse.check_offered()
    body = flat_row(body, model.bundle.schema)
    row_id = id_of(body) if takes_id(model.bundle.schema) else b""
    row = (model.scorer.decode_with_id if row_id else model.scorer.decode)(body)
    found = await model.rows.apart(model.recourse.find, row)
    deadline.check()
    content = recourse_response(found, row, model.bundle, model.reason_texts, language)
    return Response(orjson.dumps(content), media_type=JSON)
