"""From the texts of the form to the answer on the page, through the scorer of `POST /predict`."""

import time
from typing import Any, NamedTuple

import orjson

from server.errors import ModelFailure, Problem
from server.explain.reasons import MAX_PRINCIPAL, AskedReasons
from server.log.reviews import printable
from server.scoring.one_row import Extras
from server.scoring.request_identity import MAX_REQUEST_ID_BYTES
from server.scoring.served_model import ServedModel
from ui.cases.principal import principal
from ui.cases.suppose import is_adverse, suppose
from ui.drawing.panel import refused
from ui.drawing.verdict import verdict_of
from ui.words.labels import Labels
from ui.words.share import PREDICT, shared
from ui.words.text import Text, tag
from ui.words.values import body_of, row_of


class Form(NamedTuple):
    """What a form holds: texts by feature name, and the number that whoever decides has given the case.

    A `trial` is a form that nobody pressed Decide for: a shipped example, or what sliders made.
    """

    turn: int = 0
    texts: dict[str, str] = {}  # noqa: RUF012  # a named tuple's, never changed
    trial: bool = False
    case: str = ""


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
    """Decides what the form holds, as if it had been sent to `POST /predict?reasons=4`.

    The same scorer decodes, predicts, counts and logs; the line has the user, the case and
    the principal reasons too. It runs on the event loop's thread, like the scorer: neither
    may be called from another. `path` is where programs send such a row.
    """

    def __init__(self, model: ServedModel, path: str = PREDICT) -> None:
        self._path = path
        self._model, self._scorer = model, model.scorer
        self._schema = model.bundle.schema
        self._fields = (*self._schema.features, *model.bundle.context)
        self._labels = Labels.of(model.bundle)
        self._verdict = verdict_of(model.bundle)
        is_explained = model.explainer.is_offered
        self._extras = Extras(reasons=model.reasons_of(AskedReasons(MAX_PRINCIPAL))) if is_explained else None

    def decide(self, value: Any, user: str = "") -> Shown:
        """Score the row in the form's value; a refusal is shown, never raised."""
        form = read_form(value)
        row = row_of(self._fields, form.texts)
        body = body_of(row)
        started_ns = time.perf_counter_ns()
        try:
            document, ended_ns = self._tried(body) if form.trial else self._decided(body, form.case, user)
        except Problem as problem:
            return self._refused(form.turn, problem)
        seconds, reasons = (ended_ns - started_ns) / 1e9, self._principal(body, document)
        html = self._verdict.answered(document, seconds, form.texts, reasons)
        return Shown(form.turn, html + shared(row, document, self._path), {}, form.texts)

    def _tried(self, body: bytes) -> tuple[dict[str, Any], int]:
        """The answer that nobody asked for: neither counted nor logged."""
        document = suppose(self._scorer.predictor, self._scorer.decode(body))
        return document, time.perf_counter_ns()

    def _decided(self, body: bytes, case: str, user: str) -> tuple[dict[str, Any], int]:
        reply = _Reply()
        self._scorer.respond(body, reply, time.perf_counter_ns(), self._extras, origin_members(case, user))
        return orjson.loads(reply.content), reply.ended_ns

    def _principal(self, body: bytes, document: dict[str, Any]) -> list[Text]:
        """What the score holds against the case, as the line of the log and the letter have it."""
        if not (is_adverse(self._model.bundle, document) and self._model.explainer.is_offered):
            return []
        row = self._scorer.decode(body)
        try:
            terms = self._model.explainer.terms(row)[:-1]
        except ModelFailure:
            return []
        return principal(self._model.reason_texts, memoryview(row).cast("d").tolist(), terms)

    def _refused(self, turn: int, problem: Problem) -> Shown:
        complaints = self._labels.complaints(self._fields, problem)
        errors = {complaint.feature: tag("span", complaint.detail) for complaint in complaints}
        return Shown(turn, refused(problem.detail, complaints), errors, {})


def origin_members(case: str = "", user: str = "") -> bytes:
    """What the line alone tells: who decided, where, and the number of the case, by which it is found."""
    members = {"request_id": case} if case else {}
    members |= {"user": user} if user else {}
    return b",%b" % orjson.dumps(members | {"source": "page"})[1:-1]


def read_form(value: Any) -> Form:
    """The form in a call of the page, `{"turn", "texts", "trial", "case"}`.

    It comes from the network: what is not of that form counts as not filled in.
    """
    form = value if isinstance(value, dict) else {}
    turn, given, case = form.get("turn"), form.get("texts"), form.get("case")
    texts = given.items() if isinstance(given, dict) else ()
    if not isinstance(turn, int) or not 0 <= turn < 2**31:
        turn = 0
    kept = {name: text for name, text in texts if isinstance(text, str)}
    return Form(turn, kept, form.get("trial") is True, case_number(case))


def case_number(given: Any) -> str:
    """A case number as it is logged, and looked up: printable, and no longer than a request's id."""
    return printable(given).encode()[:MAX_REQUEST_ID_BYTES].decode(errors="ignore")
