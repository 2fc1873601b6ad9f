"""The fastest way from the bytes of a request to a row, chosen by the number of features.

`Schema.encode` says what is accepted. The typed decoder only runs ahead of it:
it parses, checks types, ranges and categories in one pass of C, and whatever it
does not take is decided, and worded, by `Schema.encode`. So the two can differ
only where the typed decoder takes too much, which a property test searches for.
"""

import math
import struct
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec

from server.errors import MalformedBody
from server.model.schema import (
    MAX_CONTEXT,
    MAX_EXACT_INTEGER,
    MAX_VALUES,
    Feature,
    Row,
    Schema,
    parse_object,
)

#: A msgspec Struct costs time for every field *declared*, a dict for every field
#: sent. Measured with 11 fields sent (`python -m loadtest pieces`), the Struct
#: wins up to about this many declared ones.
TYPED_DECODER_MAX_FEATURES = 128


def row_decoder(
    schema: Schema, *, others: bool = False, passed_over: Sequence[str] = ()
) -> Callable[[bytes], Row]:
    """A function from the bytes of one JSON object to a row of `schema`.

    Members `passed_over` are left alone; with `others` all that are no feature are, instead
    of refused.
    """

    passed_over = (*schema.ignored, *(name for name in passed_over if name not in schema.ignored))
    max_values = max(MAX_VALUES, 2 * (len(schema) + len(passed_over)))

    def decode_in_words(body: bytes) -> Row:
        fields = parse_object(body, max_values)
        if others:
            fields = {name: fields[name] for name in schema.names if name in fields}
        for name in passed_over:
            if name not in schema.ignored:
                fields.pop(name, None)
        return schema.encode(fields)

    if len(schema) <= TYPED_DECODER_MAX_FEATURES and _can_be_typed(schema):
        decode = _typed_decoder(schema, decode_in_words, others, passed_over)
        if schema.context and not others:
            # Rows without context pay nothing for it: those with it are decoded twice.
            without_context = [name for name in passed_over if name not in schema.context]
            return _typed_decoder(schema, decode, others, without_context)
        return decode
    return decode_in_words


def _can_be_typed(schema: Schema) -> bool:
    """msgspec fields are Python identifiers; other names take the dict."""
    names = (*schema.names, *schema.ignored)
    return all(name.isidentifier() and not name.startswith("_") for name in names)


def _typed_decoder(
    schema: Schema, decode_in_words: Callable[[bytes], Row], others: bool, passed_over: Sequence[str]
) -> Callable[[bytes], Row]:
    # gc=False: the struct holds only numbers, so it can be in no reference cycle.
    members = [
        *map(_field, schema.features),
        *((name, _CONTEXT if name in schema.context else msgspec.Raw, None) for name in passed_over),
    ]
    fields = msgspec.defstruct("Fields", members, kw_only=True, forbid_unknown_fields=not others, gc=False)
    decode = msgspec.json.Decoder(fields).decode
    astuple = msgspec.structs.astuple
    pack = struct.Struct(f"{len(schema)}d").pack
    width = len(schema)
    of_features = (lambda found: astuple(found)[:width]) if passed_over else astuple

    def decode_row(body: bytes) -> Row:
        try:
            values = of_features(decode(body))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return decode_in_words(body)
        except RecursionError:  # within a member that is passed over
            raise MalformedBody("expected a JSON object, got one that is nested too deeply") from None
        try:
            return pack(*values)
        except struct.error:  # a null came: None does not pack
            return pack(*[math.nan if value is None else value for value in values])

    return decode_row


#: A value of context: bounded, and of a kind that any reader of the log reads.
_CONTEXT: Any = Annotated[str, msgspec.Meta(max_length=MAX_CONTEXT)] | bool | int | float | None


def _field(feature: Feature) -> tuple[Any, ...]:
    if feature.nullable:
        return (feature.name, _type(feature) | None, math.nan)
    return (feature.name, _type(feature))


def _type(feature: Feature) -> Any:
    if feature.kind == "category":
        return _category_type(feature)
    if feature.kind == "flag":
        return Literal[0, 1] | bool
    low, high = feature.range
    if feature.kind == "integer":
        low, high = max(low, -MAX_EXACT_INTEGER), min(high, MAX_EXACT_INTEGER)
        return Annotated[int, msgspec.Meta(ge=math.ceil(low), le=math.floor(high))]
    bounds: dict[str, Any] = {"ge": low} if math.isfinite(low) else {}
    bounds |= {"le": high} if math.isfinite(high) else {}
    number = Annotated[float, msgspec.Meta(**bounds)]
    return number | bool if feature.form_kind == "flag" else number


class _Code(float, Enum):
    """A category that *is* its code.

    msgspec finds an enum member by its value, the category's text; because the
    member is also a float, the decoded struct packs into the row as it is.
    """

    def __new__(cls, text: str, code: float) -> "_Code":
        member = float.__new__(cls, code)
        member._value_ = text
        return member


def _category_type(feature: Feature) -> Any:
    members = {f"c{i}": (name, float(i)) for i, name in enumerate(feature.categories)}
    return _Code(feature.name, members)  # type: ignore[arg-type]  # the functional Enum API
