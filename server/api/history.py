"""`GET /history`: what all workers did in the last minutes, up to 24 hours."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from server.api.body import JSON
from server.errors import MalformedRequest
from server.log.history import DEFAULT_MINUTES, KEPT_MINUTES
from server.scoring.service import Service

#: Entries after which the event loop turns: some 0.2 ms.
_ENTRIES_AT_ONCE = 8
#: An entry begins with its moment.
_FROM_BYTES = len('{"from":"2026-11-26T10:00:00Z"')


async def history(request: Request) -> Response:
    """Answer with the minutes, what the columns of rows held in them, and what their bins are."""
    service: Service = request.app.state.service
    since = int(time.time() // 60) - _asked(request)
    minutes, columns, running = [], [], [b"null"]
    if service.log is not None:
        told = service.log.history
        running = [*running, *await _taken(told.running.since(since))]
        minutes = await _taken(told.minutes.since(since))
        columns = await _taken(told.columns.since(since))
        # A minute that has just ended is told once: as over.
        if minutes and running[-1][:_FROM_BYTES] == minutes[-1][:_FROM_BYTES]:
            running = [b"null"]
    content = b'{"log":%b,"bins":%b,"minutes":[%b],"columns":[%b],"running":%b}' % (
        orjson.dumps(service.settings.log_mode),
        orjson.dumps(_bins(service)),
        b",".join(minutes),
        b",".join(columns),
        running[-1],
    )
    return Response(content, media_type=JSON)


async def _taken(entries: Iterator[bytes]) -> list[bytes]:
    """All entries, with turns of the event loop between them."""
    found = []
    for entry in entries:
        found.append(entry)
        if len(found) % _ENTRIES_AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


def _asked(request: Request) -> int:
    text = request.query_params.get("minutes", str(DEFAULT_MINUTES))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= KEPT_MINUTES):
        raise MalformedRequest(f"expected minutes as a number from 1 to {KEPT_MINUTES}, got something else")
    return int(text)


def _bins(service: Service) -> dict[str, Any]:
    """What the histograms of each served model are counted by: upper bounds of scores, edges of columns."""
    layout = service.metrics.shared.layout
    found = {}
    for bundle in service.bundles:
        slots = layout.drift.get(bundle.label)
        columns = slots.columns if slots is not None else {}
        found[bundle.label] = {
            "scores": layout.predictions[bundle.label, bundle.outcomes[0]].bounds,
            "columns": {name: column.distribution.edges for name, column in columns.items() if name},
        }
    return found
