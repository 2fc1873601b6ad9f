"""What a champion answered, row by row, from the line of the prediction log."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

#: Members of a line by which an answer is found, beside its id.
_NAMES = ("request_id", "header_request_id", "trace_id", "row_id")


class Answer(NamedTuple):
    """One row: as it was sent, what it is called, and the score and decision (or class) it got."""

    row: bytes
    names: dict[str, Any]
    score: float
    decision: str


def answers_of(content: bytes, body: bytes) -> Iterator[Answer]:
    """The rows of one line: `content` is the response's JSON object, `body` the input's.

    Of several classes the score is the likeliest's. Rows of a batch are called `ID/0`, `ID/1`, …
    """
    told: dict[str, Any] = orjson.loads(content)
    names = {name: told[name] for name in _NAMES if name in told}
    if "probability" in told:
        yield Answer(body, {"id": told["id"], **names}, told["probability"], told["decision"])
        return
    if "prediction" in told:
        classes = told.get("probabilities")
        score, word = (max(classes), told["prediction"]) if classes else (told["prediction"], "")
        yield Answer(body, {"id": told["id"], **names}, score, word)
        return
    scores = told.get("probabilities", told.get("predictions", ()))
    words = told.get("decisions", told.get("predictions", ()))
    for i, (row, score, word) in enumerate(zip(orjson.loads(body)["rows"], scores, words, strict=True)):
        best = max(score) if isinstance(score, list) else score
        named = {"id": f"{told['id']}/{i}", **names}
        yield Answer(orjson.dumps(row), named, best, word if isinstance(word, str) else "")
