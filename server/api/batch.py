"""`POST /predict/batch`: many rows in one request, all answered or none."""

import csv
import io
import time
from collections.abc import Iterator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from server.api.batch_bodies import CSV, JSON, MEDIA_TYPES, NDJSON, decode_rows, text_rows
from server.api.body import media_type, read_body
from server.errors import UnacceptableRow, number_of
from server.model.judge import BETWEEN
from server.scoring.deadline import Deadline
from server.scoring.many_rows import RowsScorer
from server.scoring.request_identity import identity_of_request
from server.scoring.row_id import MEMBER, ids_of, takes_id
from server.scoring.row_limit import MAX_REASONS, row_limit
from server.scoring.scored import ScoredRows
from server.scoring.service import Service
from server.tables.arrow_stream import STREAM
from server.tables.arrow_writer import arrow_stream


async def predict_batch(request: Request) -> Response:
    """Score the rows of a JSON, NDJSON, CSV or Arrow body."""
    service: Service = request.app.state.service
    kind = media_type(request, MEDIA_TYPES)
    deadline = Deadline.of(request)
    identity = identity_of_request(request.scope).members
    body = await read_body(request, service.settings.max_batch_bytes)
    started_ns = time.perf_counter_ns()
    async with service.in_flight.turn(len(body)):
        deadline.check()
        model = service.asked(request.path_params)
        asked, scorer = model.reason_texts.asked(request.query_params), model.rows
        schema = scorer.bundle.schema
        settings = service.settings
        limit = row_limit(scorer.bundle, settings)
        batch = await text_rows(kind, body, schema, limit, settings.max_body_bytes, settings.max_batch_bytes)
        if asked is not None and len(batch.texts) * asked.most > MAX_REASONS:
            rows = number_of(len(batch.texts), "row")
            raise UnacceptableRow(
                f"expected at most {MAX_REASONS:,} reasons in a response, got {rows} of up to {asked.most}: "
                "send fewer rows, or ask for fewer reasons"
            )
        ids = await ids_of(batch.texts) if takes_id(schema) else []
        decode = scorer.scorer.decode_with_id if ids else scorer.scorer.decode
        matrix = await decode_rows(batch, schema, decode)
        scored = (await scorer.score(matrix, deadline))._replace(row_ids=ids, identity=identity)
        if asked is not None:
            scored = scored._replace(reasons=await model.reasons_of_rows(matrix, scored, asked))
        with scorer.numbered(scored) as scored:
            content, content_type = _answer(scorer, scored, request.headers.get("accept", ""))
    await scorer.record(batch.texts, matrix, scored, started_ns)
    return Response(content, media_type=content_type)


def _answer(scorer: RowsScorer, scored: ScoredRows, accept: str) -> tuple[bytes, str]:
    """The response in the media type that is asked for by name, or else as one JSON object."""
    asked = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if CSV in asked:
        return _csv(scorer, scored), CSV
    if STREAM in asked:
        return _arrow(scorer, scored), STREAM
    lines = asked.intersection(NDJSON)
    if lines:
        rows = map(orjson.dumps, _rows(scorer, scored))
        return b"".join(b"%b\n" % row for row in rows), min(lines)
    return b"".join((b'{"id":"', scored.id.encode(), b'",', scorer.members(scored), b"}")), JSON


def _rows(scorer: RowsScorer, scored: ScoredRows) -> list[dict[str, Any]]:
    """What `/predict` says of each row, without model, and with the client's id for ours."""
    names = [scorer.bundle.outcomes[outcome] for outcome in scored.outcomes.tolist()]
    pairs = zip(scored.outputs, names, strict=True)
    rows: list[dict[str, Any]]
    if scorer.judge is not None and scored.verdicts is not None:
        members = map(scorer.judge.members, scored.verdicts.tolist())
        rows = [{"probability": output} | said for output, said in zip(scored.outputs, members, strict=True)]
    elif scorer.bundle.task == "binary":
        rows = [{"probability": output, "decision": name} for output, name in pairs]
    elif scorer.bundle.task == "multiclass":
        rows = [{"probabilities": output, "prediction": name} for output, name in pairs]
    else:
        rows = [{"prediction": output} for output, _ in pairs]
    for row, reasons in zip(rows, scored.reasons, strict=False):
        if reasons != b"[]":
            row["reasons"] = orjson.Fragment(reasons)
    if not scored.row_ids:
        return rows
    return [{MEMBER: orjson.Fragment(id_)} | row for id_, row in zip(scored.row_ids, rows, strict=True)]


def _csv(scorer: RowsScorer, scored: ScoredRows) -> bytes:
    """A header and a line a row."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for position, row in enumerate(_cells(scorer, scored)):
        if not position:
            writer.writerow(row)
        writer.writerow(row.values())  # floats as `repr` has them: the shortest that parse back
    return text.getvalue().encode()


def _arrow(scorer: RowsScorer, scored: ScoredRows) -> bytes:
    """A stream with the columns of CSV; what JSON says once belongs to its schema."""
    rows = list(_cells(scorer, scored))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return arrow_stream(columns, {"id": scored.id, "model": scorer.bundle.label})


def _cells(scorer: RowsScorer, scored: ScoredRows) -> Iterator[dict[str, Any]]:
    """The cells of each row by column; of several classes one column of probabilities each."""
    names = [f"probability_{name}" for name in scorer.bundle.classes]
    for position, row in enumerate(_rows(scorer, scored)):
        probabilities = zip(names, row.pop("probabilities", []), strict=False)
        row.pop("reasons", None)  # some rows have none: the columns come in one order
        if scored.verdicts is not None:
            assert scorer.judge is not None
            row |= zip(
                ("because", "by_score"), scorer.judge.cells(int(scored.verdicts[position])), strict=True
            )
        if scored.reasons:
            codes = [reason["code"] for reason in orjson.loads(scored.reasons[position])]
            row["reasons"] = BETWEEN.join(codes)
        ids = {MEMBER: orjson.loads(scored.row_ids[position])} if row.pop(MEMBER, None) else {}
        yield {**ids, **dict(probabilities), **row}
