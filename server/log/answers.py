"""What a champion answered, row by row, from a record of its ring."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from server.model.logged_rows import id_of_row, logged_rows

#: Members of a line by which an answer is found, beside its own `id`.
NAMES = ("request_id", "header_request_id", "trace_id", "row_id")


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
    names = {name: told[name] for name in NAMES if name in told}
    for number, row in enumerate(logged_rows(record)):
        yield Answer(row.fields, {"id": id_of_row(told, number), **names}, row.score, row.outcome or "")
