"""One outcome: which decision it is of, what became of it, and when; as JSON has it and as it is kept.

`{"id": "9f3c1ab20c44-42", "outcome": 1, "at": "2026-03-01T14:00Z"}`: the key is one of `KEYS`. An outcome
of null says that it is not known (any more). What is kept begins with `ts`, when it was taken.
"""

import math
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from server.errors import FieldError
from server.model.schema import pointer
from server.outcomes.values import ReadValue, Value
from server.scoring.row_id import MAX_ID_BYTES

#: What a decision is found by.
KEYS = ("id", "request_id", "row_id", "trace_id")
OUTCOME, AT = "outcome", "at"
#: What the server says of an outcome itself: sent to it, it is passed over.
TS, CALLER = "ts", "caller"
#: A whole number, as a key, that a spreadsheet, or a table with gaps, made a float of.
WHOLE = r"^([+-]?[0-9]+)[.,]0+$"
_TAKEN = frozenset({*KEYS, OUTCOME, AT, TS, CALLER})


class OutcomeRecord(NamedTuple):
    """`kind` is one of `KEYS`, and `key` what it is; `at` as it was written, for `read_moments`."""

    kind: str
    key: str
    value: Value
    at: str | None


def read_record(members: Mapping[str, Any], read: ReadValue) -> OutcomeRecord:
    """What an object says; raises `FieldError` at its first bad member."""
    for name in members:
        if name not in _TAKEN:
            raise FieldError(pointer(name), f"expected no such member, but {OUTCOME}, {AT} and a key")
    kinds = [kind for kind in KEYS if members.get(kind) is not None]
    if len(kinds) != 1:
        raise FieldError("", f"expected one of {', '.join(KEYS)}, got {len(kinds) or 'none'}")
    key = _key_text(members[kinds[0]])
    if not key:
        raise FieldError(
            pointer(kinds[0]),
            f"expected text or an integer of at most {MAX_ID_BYTES} bytes, got something else",
        )
    if OUTCOME not in members:
        raise FieldError("", f"expected the member {OUTCOME}, got none")
    try:
        value = read(members[OUTCOME])
    except ValueError as error:
        raise FieldError(pointer(OUTCOME), f"expected {error} or null, got something else") from None
    at = members.get(AT)
    if at is not None and type(at) is not str:
        raise FieldError(pointer(AT), "expected a time as a string, got something else")
    return OutcomeRecord(kinds[0], key, value, at)


def _key_text(given: Any) -> str:
    if type(given) is float and given.is_integer() and math.isfinite(given):
        given = int(given)  # of a table with gaps
    text = str(given).strip() if type(given) in (str, int) else ""
    return text if len(text.encode(errors="replace")) <= MAX_ID_BYTES and text.isprintable() else ""


def known_name(name: str) -> str:
    """A column's name as it is meant: ours whatever its case and outer blanks, a field's as it is."""
    word = name.strip().casefold()
    return word if word in (*KEYS, OUTCOME, AT) else name


def key_column(names: Collection[str]) -> str:
    """The column of the key: the one that is of `KEYS`, else the only other; empty if there are several."""
    others = [name for name in names if name not in (OUTCOME, AT)]
    found = [name for name in others if name in KEYS] or others
    return found[0] if OUTCOME in names and len(found) == 1 else ""


def line_of(record: OutcomeRecord, at: datetime | None, ts: datetime, caller: str = "") -> bytes:
    """The line that is kept; `ts` is when it was taken, and the times are UTC."""
    told: dict[str, Any] = {TS: _written(ts), record.kind: record.key, OUTCOME: record.value}
    if at is not None:
        told[AT] = _written(at)
    if caller:
        told[CALLER] = caller
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def _written(moment: datetime) -> str:
    return f"{moment.isoformat(timespec='microseconds')}Z"
