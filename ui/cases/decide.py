"""From the texts of the form to the answer on the page, through the scorer of `POST /predict`."""

import time
from typing import Any, NamedTuple

import orjson

from server.errors import Problem
from server.scoring.one_row import Scorer
from ui.drawing.panel import refused
from ui.drawing.verdict import verdict_of
from ui.words.labels import Labels
from ui.words.share import shared
from ui.words.text import tag
from ui.words.values import body_of, row_of


class Shown(NamedTuple):
    """What the page shows: the verdict, the errors by feature name, and of which turn it is.

    `texts` are those that were decided on, empty where nothing was.
    """

    turn: int
    html: str
    errors: dict[str, str]
    texts: dict[str, str]


class _Reply:
    """Takes the answer's bytes from the scorer, as a connection would, and the time with them."""

    content = b""
    ended_ns = 0

    def __call__(self, content: bytes) -> None:
        self.content, self.ended_ns = content, time.perf_counter_ns()


class Decider:
    """Decides what the form holds, as if it had been sent to `POST /predict`.

    The same scorer decodes, predicts, counts and logs. It runs on the event
    loop's thread, like the scorer: neither may be called from another.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._schema = scorer.bundle.schema
        self._labels = Labels.of(scorer.bundle)
        self._verdict = verdict_of(scorer.bundle)

    def idle(self) -> Shown:
        """What is shown before a decision."""
        return Shown(0, self._verdict.idle(), {}, {})

    def decide(self, value: Any) -> Shown:
        """Score the row in the form's value; a refusal is shown, never raised."""
        turn, texts = read_form(value)
        row = row_of(self._schema, texts)
        body = body_of(row)
        reply, started_ns = _Reply(), time.perf_counter_ns()
        try:
            self._scorer.respond(body, reply, started_ns)
        except Problem as problem:
            return self._refused(turn, problem)
        seconds = (reply.ended_ns - started_ns) / 1e9
        document = orjson.loads(reply.content)
        html = self._verdict.answered(document, seconds) + shared(row, document)
        return Shown(turn, html, {}, texts)

    def _refused(self, turn: int, problem: Problem) -> Shown:
        complaints = self._labels.complaints(self._schema, problem)
        errors = {complaint.feature: tag("span", complaint.detail) for complaint in complaints}
        return Shown(turn, refused(problem.detail, complaints), errors, {})


def read_form(value: Any) -> tuple[int, dict[str, str]]:
    """The turn and the texts of a form's value, `{"turn", "texts"}`.

    It comes from the network: what is not of that form counts as not filled in.
    """
    form = value if isinstance(value, dict) else {}
    turn, given = form.get("turn"), form.get("texts")
    texts = given.items() if isinstance(given, dict) else ()
    if not isinstance(turn, int) or not 0 <= turn < 2**31:
        turn = 0
    return turn, {name: text for name, text in texts if isinstance(text, str)}
