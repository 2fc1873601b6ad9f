"""What a champion answered, row by row, from a record of its ring."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from server.model.logged_rows import logged_rows
from server.model.row_names import REQUEST_NAMES, ROW_ID, name_of_row


class Answer(NamedTuple):
    """One row: as it was sent, what it is called, and the score and decision (or class) it got."""

    fields: dict[str, Any]
    names: dict[str, Any]
    score: float
    decision: str


def answers_of(content: bytes, body: bytes) -> Iterator[Answer]:
    """The rows of one line: `content` is the response's JSON object, `body` the input's.

    Of several classes the score is the likeliest's; of a value there is no decision.
    """
    told: dict[str, Any] = orjson.loads(content)
    record = told | {"input": orjson.loads(body)}
    names = {name: told[name] for name in (*REQUEST_NAMES, ROW_ID) if name in told}
    for number, row in enumerate(logged_rows(record)):
        yield Answer(row.fields, {"id": name_of_row(told, number), **names}, row.score, row.outcome or "")
