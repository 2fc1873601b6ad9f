"""`POST /decisions/{id}/override`: what a person decided after the model, written down by a program."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from server.api.body import JSON, check_json, read_body
from server.errors import FieldError, NoLog, NotFound, NotOffered, UnacceptableRow, Unavailable
from server.log.lookup import FoundLine, find_answer
from server.log.reviews import MOST_CHARACTERS, Reviews, check_decision, printable, review_of
from server.model.bundle import Bundle
from server.model.logged_rows import is_batch, logged_rows
from server.model.schema import parse_object, pointer
from server.scoring.deadline import Deadline
from server.scoring.request_identity import CALLER
from server.scoring.service import Service

#: Of a body: a decision, and what is said of it.
MAX_BYTES = 16_384
#: A line is written within 100 ms of its response; who asks at once waits for it, once.
_PATIENCE_SECONDS = 0.3
_ID = re.compile(r"[0-9a-f]{12}-[0-9]{1,18}(?:\.[0-9]{1,9})?(?:/[0-9]{1,9})?")
_MEMBERS = ("decision", "reason", "note", "user")
_REQUIRED = ("decision", "reason")


class Overriding:
    """Takes the decisions of people; a worker searches the log in a thread, for one request at a time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        self._folder = settings.log_dir
        self._reviews = Reviews(settings.log_dir, f"api-{settings.port}")
        self._turn = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        """Write one down; it is on the disk before the response."""
        check_json(request)
        deadline = Deadline.of(request)
        given = read_override(await read_body(request, MAX_BYTES))
        if self._service.log is None:
            raise NoLog
        id_ = request.path_params["id"]
        found = await self._find(id_, deadline)
        bundle = self._bundle_of(found.record)
        caller = request.scope.get(CALLER, "")
        review = _review(id_, found, bundle, given, caller)
        deadline.check()
        try:
            await asyncio.to_thread(self._reviews.add, review)
        except OSError as error:
            raise Unavailable(f"expected to write {self._reviews.path.name}, got: {error.strerror}") from None
        return Response(orjson.dumps(review), media_type=JSON)

    async def _find(self, id_: str, deadline: Deadline) -> FoundLine:
        """The line of an answer; raises `NotFound`."""
        for seconds in (0.0, _PATIENCE_SECONDS) if _ID.fullmatch(id_) else ():
            await asyncio.sleep(seconds)
            if (found := await self._searched(id_, deadline)) is not None:
                return found
        raise NotFound("expected the id of an answer in this server's log, got another")

    async def _searched(self, id_: str, deadline: Deadline) -> FoundLine | None:
        async with self._turn:
            deadline.check()
            return await asyncio.to_thread(find_answer, self._folder, id_)

    def _bundle_of(self, record: Mapping[str, Any]) -> Bundle:
        label = record["model"]
        for bundle in self._service.bundles:
            if bundle.label == label:
                return bundle
        raise NotFound(f"expected an answer of a model that is served here, got one of {label}")


def read_override(body: bytes) -> dict[str, str]:
    """The members of a body, as they are written down; raises `UnacceptableRow` with every bad one."""
    given = parse_object(body, len(_MEMBERS))
    errors = [
        FieldError(pointer(name), f"expected one of {', '.join(_MEMBERS)}, got another name")
        for name in given
        if name not in _MEMBERS
    ]
    found = {}
    for name in _MEMBERS:
        text, most = printable(given.get(name)), MOST_CHARACTERS.get(name, 200)
        if name in given and not isinstance(given[name], str):
            errors.append(FieldError(pointer(name), "expected a text, got something else"))
        elif name in _REQUIRED and not text:
            errors.append(FieldError(pointer(name), f"expected a {name}, got none"))
        elif len(text) > most:
            errors.append(FieldError(pointer(name), f"expected at most {most} characters, got {len(text)}"))
        found[name] = text
    if errors:
        detail = f"{errors[0].pointer}: {errors[0].detail}" if len(errors) == 1 else f"{len(errors)} problems"
        raise UnacceptableRow(detail, errors=errors)
    return found


def _review(
    id_: str, found: FoundLine, bundle: Bundle, given: Mapping[str, str], caller: str
) -> dict[str, Any]:
    record = found.record
    if is_batch(record) and "/" not in id_:
        raise UnacceptableRow(f"expected the name of one row of the batch, like {id_}/0, got that of all")
    by_model = list(logged_rows(record))[found.rows[0]].outcome
    if by_model is None:
        raise NotOffered(f"expected an answer that decides, got a value of {bundle.label}")
    check_decision(given["decision"], bundle.outcomes)
    said = {name: given[name] for name in ("decision", "reason", "note")}
    who = {"user": given["user"] or caller} | ({"caller": caller} if caller else {})
    return review_of(id_, by_model, **said, **who)
