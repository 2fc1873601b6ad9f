"""`POST /outcomes`: what became of decisions, written down beside the log."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from server.api.batch_bodies import CSV, JSON, NDJSON, SLICE_ROWS, array_rows, line_rows
from server.api.body import media_type, read_body
from server.errors import (
    MAX_LISTED_ERRORS,
    FieldError,
    MalformedBody,
    NoLog,
    NotOffered,
    UnacceptableRow,
    Unavailable,
    not_acceptable,
)
from server.model.schema import Feature, Schema, parse_object
from server.outcomes.moments import EXPECTED, FUTURE, UnreadableMoment, read_moments
from server.outcomes.record import (
    AT,
    KEYS,
    OUTCOME,
    OutcomeRecord,
    key_column,
    known_name,
    line_of,
    read_record,
)
from server.outcomes.store import add_lines, outcome_path
from server.outcomes.values import ReadValue, reader_of_any
from server.scoring.deadline import Deadline
from server.scoring.request_identity import CALLER
from server.scoring.row_limit import check_rows
from server.scoring.service import Service
from server.tables.columns import FeatureNames
from server.tables.csv_dialect import Options
from server.tables.csv_table import csv_blocks, csv_text

MEDIA_TYPES = (JSON, CSV, *NDJSON)
_COLUMNS = FeatureNames(Schema([Feature(name) for name in (*KEYS, OUTCOME, AT)]))


class TakenOutcomes:
    """Takes outcomes; a thread writes them, those that come meanwhile all at once after it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        self._path = outcome_path(settings.log_dir, f"api-{settings.port}")
        self._turn = asyncio.Lock()
        self._waiting: list[bytes] = []
        self._next: asyncio.Future[None] | None = None

    async def answer(self, request: Request) -> Response:
        """Write them down, all or none; they are on the disk before the response."""
        settings = self._service.settings
        if not settings.outcomes:
            raise NotOffered("expected a server that takes outcomes, got one without HOTROW_OUTCOMES=on")
        if self._service.log is None:
            raise NoLog
        kind = media_type(request, MEDIA_TYPES)
        deadline = Deadline.of(request)
        body = await read_body(request, settings.max_batch_bytes)
        async with self._service.in_flight.turn(len(body)):
            deadline.check()
            limit = settings.max_batch_rows
            read = reader_of_any(self._service.bundles)
            taken = _csv_records(body, limit, read) if kind == CSV else _records(kind, body, limit, read)
            records = await taken
            # All times of a column are read together: a thread lets others be answered meanwhile.
            lines = await asyncio.to_thread(_lines, records, request.scope.get(CALLER, ""))
        deadline.check()
        try:
            await self._write(lines)
        except OSError as error:
            raise Unavailable(f"expected to write {self._path.name}, got: {error.strerror}") from None
        return Response(orjson.dumps({"outcomes": len(records)}), media_type=JSON)

    async def _write(self, lines: bytes) -> None:
        """Have them on the disk, or raise `OSError`, together with all that wait for the same turn."""
        self._waiting.append(lines)
        if self._next is None:
            self._next = asyncio.ensure_future(self._written())
        await asyncio.shield(self._next)  # a client that goes takes no other's outcomes with it

    async def _written(self) -> None:
        async with self._turn:
            together, self._waiting, self._next = self._waiting, [], None
            await asyncio.to_thread(add_lines, self._path, b"".join(together))


async def _records(kind: str, body: bytes, limit: int, read: ReadValue) -> list[OutcomeRecord]:
    """Those of JSON, one object or an array, or of an object a line."""
    if kind != JSON:
        rows = line_rows(body, limit)
        texts, places = rows.texts, list(rows.places)
    else:
        is_array = body.lstrip().startswith(b"[")
        texts = await array_rows(body, limit) if is_array else [body]
        places = [""] * len(texts)
    check_rows(len(texts), limit)
    records: list[OutcomeRecord] = []
    errors: list[FieldError] = []
    for row, text in enumerate(texts):
        if row % SLICE_ROWS == SLICE_ROWS - 1:
            await asyncio.sleep(0)
        try:
            records.append(read_record(parse_object(text), read))
        except MalformedBody as problem:
            raise MalformedBody(f"outcome {row}: {places[row]}{problem.detail}") from None
        except UnacceptableRow as problem:
            errors.append(FieldError(f"/{row}", places[row] + problem.detail))
        except FieldError as error:
            errors.append(error.at(f"/{row}{error.pointer}", places[row]))
        if len(errors) >= MAX_LISTED_ERRORS:
            break
    if errors:
        raise _refused(errors)
    return records


async def _csv_records(body: bytes, limit: int, read: ReadValue) -> list[OutcomeRecord]:
    """Those of CSV as spreadsheets write it: columns in any order, others beside them."""
    table = csv_text(body, _COLUMNS, Options(), "the body")
    names = [known_name(name) for name in table.head.names]
    key = key_column(names)
    if key not in KEYS or len(set(names)) != len(names):
        wanted = f"{OUTCOME}, perhaps {AT}, and one of {', '.join(KEYS)}"
        raise UnacceptableRow(f"expected the columns {wanted}, each once, got others")
    wanted_columns = [(i, name) for i, name in enumerate(names) if name in (key, OUTCOME, AT)]
    records: list[OutcomeRecord] = []
    errors: list[FieldError] = []
    for block in csv_blocks(table, limit):
        await asyncio.sleep(0)
        for row, (line, cells) in enumerate(block):
            if row % SLICE_ROWS == SLICE_ROWS - 1:
                await asyncio.sleep(0)
            if len(cells) != len(names):
                raise UnacceptableRow(f"expected {len(names)} cells in line {line}, got {len(cells)}")
            members: dict[str, Any] = {name: cells[i].strip() or None for i, name in wanted_columns}
            try:
                records.append(read_record(members, read))
            except FieldError as error:
                errors.append(error.at(f"/{len(records) + len(errors)}{error.pointer}", f"line {line}: "))
            if len(errors) >= MAX_LISTED_ERRORS:
                raise _refused(errors)
    if errors:
        raise _refused(errors)
    check_rows(len(records), limit)
    return records


def _refused(errors: Sequence[FieldError]) -> UnacceptableRow:
    return UnacceptableRow(
        f"{not_acceptable(len(errors), 'outcome')}, and none was written; the first: {errors[0].detail}",
        errors=errors,
    )


def _lines(records: Sequence[OutcomeRecord], caller: str) -> bytes:
    """What is written down; of equal keys the last alone, for one moment tells them apart no more."""
    now = datetime.now(UTC).replace(tzinfo=None)
    try:
        moments = read_moments([record.at for record in records])
    except UnreadableMoment as error:
        detail = f"expected {EXPECTED}, got another" + (f", of which {error.why}" if error.why else "")
        raise _refused([FieldError(f"/{error.row}/{AT}", detail)]) from None
    errors = [
        FieldError(f"/{row}/{AT}", "expected a time that is over, got one in the future")
        for row, moment in enumerate(moments)
        if moment is not None and moment > now + FUTURE
    ]
    if errors:
        raise _refused(errors)
    last = {
        (record.kind, record.key, moment): line_of(record, moment, now, caller)
        for record, moment in zip(records, moments, strict=True)
    }
    return b"".join(last.values())
