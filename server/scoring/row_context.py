"""Context in a place of its own: `_context` of a row, columns and parameters called `context.NAME`.

All of it becomes members of the row, where every reader of the log finds context; what else
the row has stays as it was written, to the byte.
"""

from collections.abc import Mapping, Sequence

import msgspec
import orjson

from server.errors import MAX_LISTED_ERRORS, FieldError, UnacceptableRow, not_acceptable
from server.model.json_text import has_more, nan_as_null
from server.model.schema import CONTEXT_EXPECTED, MAX_VALUES, Schema, is_context, pointer

MEMBER = "_context"
PREFIX = "context."
#: Of `_context` as it is written, and of the parameters of a request together.
MAX_BYTES = 2048
#: What stands in a text that may have `_context`.
CONTEXT_SIGN = b'"_context"'
_PREFIX_SIGN = b'"context.'
_EXPECTED = f"expected an object of at most {MAX_BYTES} bytes"

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _ParameterHead(msgspec.Struct):
    """The JSON of a `/v2` request; its parameters as they were written."""

    parameters: dict[str, msgspec.Raw] | None = None


_head = msgspec.json.Decoder(_ParameterHead)


def flat_row(text: bytes, schema: Schema) -> bytes:
    """A row's JSON object with the members of its `_context` beside the others; as it came without one.

    A field that the row has too is that of `_context`.

    Raises `UnacceptableRow` that names what is no context of the model. What is no object at all
    is left to the row's own decoder, which words it.
    """
    limit = max(MAX_VALUES, 2 * len(schema))
    if CONTEXT_SIGN not in text or not _takes_context(schema) or has_more(text, b",", limit):
        return text
    try:
        members = _members.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return text
    if MEMBER not in members:  # within a value
        return text
    written = bytes(members.pop(MEMBER))
    try:
        context = _members.decode(written) if _is_short(written) else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        context = None
    if context is None:
        raise UnacceptableRow(not_acceptable(1, "field"), errors=[FieldError(f"/{MEMBER}", _EXPECTED)])
    _check(context, schema, f"/{MEMBER}")
    _check({name: members[name] for name in context if name in members}, schema, "")
    return b"{%b}" % _written({**members, **context})


def context_of_parameters(head: bytes, schema: Schema) -> bytes:
    """What parameters of a `/v2` request say of the context of its rows: members, each behind a comma.

    Raises `UnacceptableRow` as `flat_row`.
    """
    if _PREFIX_SIGN not in head:
        return b""
    try:
        parameters = _head.decode(nan_as_null(head)).parameters or {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b""
    context = {
        name.removeprefix(PREFIX): value for name, value in parameters.items() if name.startswith(PREFIX)
    }
    if sum(map(len, map(bytes, context.values()))) > MAX_BYTES:
        raise UnacceptableRow(f"expected {PREFIX}NAME of at most {MAX_BYTES} bytes in all, got more")
    _check(context, schema, "/parameters")
    return b",%b" % _written(context) if context else b""


def bare_names(header: Sequence[str], schema: Schema) -> list[str]:
    """The names of columns, those called `context.NAME` by the name of the field."""
    fields = {PREFIX + name: name for name in schema.context}
    return [fields.get(name, name) for name in header]


def _is_short(written: bytes) -> bool:
    """Whether a text has at most `MAX_BYTES`, escapes counted as what they stand for."""
    if len(written) <= MAX_BYTES:
        return True
    try:
        return len(written) <= 6 * MAX_BYTES and len(orjson.dumps(orjson.loads(written))) <= MAX_BYTES
    except orjson.JSONDecodeError:
        return False


def _takes_context(schema: Schema) -> bool:
    return MEMBER not in schema.names and MEMBER not in schema.ignored


def _check(context: Mapping[str, msgspec.Raw], schema: Schema, where: str) -> None:
    """Raise `UnacceptableRow` of fields that are none of the model's context, or no values."""
    expected = f"expected one of {', '.join(schema.context) or 'no fields'} of context, got another"
    errors = []
    for name, value in context.items():
        if name not in schema.context:
            errors.append(FieldError(where + pointer(name), expected, "unknown"))
        elif not is_context(_value(value)):
            errors.append(FieldError(where + pointer(name), CONTEXT_EXPECTED))
    if errors:
        raise UnacceptableRow(not_acceptable(len(errors), "field"), errors=errors[:MAX_LISTED_ERRORS])


def _value(written: msgspec.Raw) -> object:
    try:
        return orjson.loads(bytes(written))
    except orjson.JSONDecodeError:  # a number of no reader's, or a text of no characters
        return ()


def _written(members: Mapping[str, msgspec.Raw]) -> bytes:
    return b",".join(b"%b:%b" % (orjson.dumps(name), bytes(value)) for name, value in members.items())
