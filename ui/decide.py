"""From the texts of the form to the answer on the page, through the scorer of `POST /predict`."""

import time
from typing import Any, NamedTuple

import orjson

from server.errors import Problem
from server.schema import pointer
from server.scorer import Scorer
from ui.labels import label_of
from ui.panel import Complaint, refused
from ui.values import body_of, row_of
from ui.verdict import verdict_of


class Shown(NamedTuple):
    """What the page shows of one decision: the errors by feature name, and the verdict."""

    errors: dict[str, str]
    html: str


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
        self._labels = {pointer(f.name): (f.name, label_of(f)) for f in self._schema.features}
        self.verdict = verdict_of(scorer.bundle)

    def decide(self, value: Any) -> Shown:
        """Score the row of the form's value, texts by feature name; a refusal is shown, never raised."""
        # It comes from the network: what is no text by a name counts as not filled in.
        given = value if isinstance(value, dict) else {}
        texts = {name: text for name, text in given.items() if isinstance(text, str)}
        body = body_of(row_of(self._schema, texts))
        reply, started_ns = _Reply(), time.perf_counter_ns()
        try:
            self._scorer.answer(body, reply, started_ns)
        except Problem as refusal:
            return self._refused(refusal)
        seconds = (reply.ended_ns - started_ns) / 1e9
        return Shown({}, self.verdict.answered(orjson.loads(reply.content), seconds))

    def _refused(self, refusal: Problem) -> Shown:
        complaints = [Complaint(*self._labels[error.pointer], error.detail) for error in refusal.errors]
        errors = {complaint.feature: complaint.detail for complaint in complaints}
        return Shown(errors, refused(refusal.detail, complaints))
