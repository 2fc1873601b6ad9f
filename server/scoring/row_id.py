"""The `id` that a client gives a row: no feature, but what comes back beside the row's response.

Only where no feature of the model is called so. `id` of a response is the server's
own, and of a row's line in the log; the client's is called `row_id` there.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from server.errors import FieldError, UnacceptableRow
from server.model.schema import Schema

MEMBER = "id"
MAX_ID_BYTES = 256
#: Of its text in a request, where each byte may be written in six.
_MAX_WRITTEN_BYTES = 6 * MAX_ID_BYTES
#: Rows looked at before the event loop turns (0.5 ms).
_SLICE_ROWS = 1000
_EXPECTED = f"expected text or an integer of at most {MAX_ID_BYTES} bytes"


class _WithId(msgspec.Struct):
    """Any object; of its members one is looked at, and not built before its length is."""

    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode = msgspec.json.Decoder(_WithId).decode


def takes_id(schema: Schema) -> bool:
    """Whether a row may have an id that is no feature."""
    return MEMBER not in schema.names


def without_ignored_id(schema: Schema) -> Schema:
    """A schema that does not pass over the id, also where training dropped a column of that name."""
    ignored = (name for name in schema.ignored if name not in (MEMBER, *schema.context))
    return Schema(schema.features, ignored, schema.context)


def id_of(text: bytes) -> bytes:
    """The JSON text of the id in a row's object; empty if it has none, or is no object.

    Raises `UnacceptableRow` for an id that is neither text nor an integer.
    """
    if b'"id"' not in text:
        return b""
    try:
        written = _decode(text).id
        if isinstance(written, msgspec.UnsetType):
            return b""
        value = msgspec.json.decode(written) if len(written) <= _MAX_WRITTEN_BYTES else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b""  # the row's own decoder words what this is
    return id_text(value)


def id_text(value: Any) -> bytes:
    """An id as JSON; raises `UnacceptableRow` if it is none."""
    if type(value) is str:
        text = bytes(memoryview(orjson.dumps(value)))
    elif type(value) is int and abs(value) < 10**MAX_ID_BYTES:
        text = b"%d" % value
    else:
        text = b""
    if not 0 < len(text) <= MAX_ID_BYTES:
        raise UnacceptableRow("1 field is not acceptable", errors=[FieldError(f"/{MEMBER}", _EXPECTED)])
    return text


async def ids_of(texts: Sequence[bytes]) -> list[bytes]:
    """The ids of all rows, or none of any: in order, as JSON; raises `UnacceptableRow`."""
    if not id_of(texts[0]):
        return []
    ids: list[bytes] = []
    for position, text in enumerate(texts):
        if position % _SLICE_ROWS == _SLICE_ROWS - 1:
            await asyncio.sleep(0)
        ids.append(_placed(text, position))
    return ids


def _placed(text: bytes, position: int) -> bytes:
    try:
        if found := id_of(text):
            return found
    except UnacceptableRow:
        pass
    error = FieldError(f"/rows/{position}/{MEMBER}", f"{_EXPECTED}, as in the first row")
    raise UnacceptableRow("1 row is not acceptable; no row was scored", errors=[error])
