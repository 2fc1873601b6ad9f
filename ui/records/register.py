"""The decisions of one server: found in its log, and what people decided after it."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from server.errors import NoLog, NotFound, UnacceptableRow
from server.log.lookup import FoundLine, find_lines
from server.log.mask import KEEP, Masking
from server.log.reviews import MOST_CHARACTERS, Reviews, check_decision, printable, review_of
from server.model.bundle import GRAPH_FILE, PARITY_FILE
from server.scoring.service import Service
from ui.cases.changes import ChangeFinder, WordedChanges
from ui.records.decision import DecisionReader, LoggedDecision
from ui.records.pages import Language, page

#: Lines are written within 100 ms of their response; whoever asks at once waits for them.
_PATIENCE_SECONDS, _PAUSE_SECONDS = 3.0, 0.1
#: Rows of a batch that are shown of its id alone.
_MOST_ROWS = 20


class Overrides(NamedTuple):
    """How many decisions a person looked at since the server began, and decided otherwise."""

    looked_at: int
    otherwise: int


class Register:
    """Finds decisions and takes what people say of them; for the event loop's thread.

    Raises `NotFound` for a number that no line has, and `NoLog` without a log.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        self._folder = settings.log_dir
        self._reviews = Reviews(settings.log_dir, f"page-{settings.port}")
        masking = Masking(dict(settings.log_mask))
        self._readers = {
            model.bundle.label: DecisionReader(
                model, [f.name for f in model.bundle.schema.features if masking.rule(f) != KEEP]
            )
            for model in service.models
        }
        self._finders = {model.bundle.label: ChangeFinder(model) for model in service.models}
        self._proofs = {
            bundle.label: {
                "graph": bundle.manifest["files"][GRAPH_FILE],
                "parity": bundle.manifest["files"][PARITY_FILE],
            }
            for bundle in service.bundles
        }
        self._began = datetime.now(UTC).isoformat()

    async def find(self, number: str) -> list[LoggedDecision]:
        """The decisions of an answer's id or a case number, the newest first."""
        if self._service.log is None:
            raise NoLog
        lines = await self._lines(number)
        reviews = await asyncio.to_thread(self._reviews.all) if lines else []
        decisions = [one for line in lines for one in self._decisions(line, reviews)]
        if lines and not decisions:
            others = ", ".join(sorted({str(line.record["model"]) for line in lines}))
            raise NotFound(f"expected a decision of a model that is served here, got one of {others}")
        return decisions

    async def _lines(self, number: str) -> list[FoundLine]:
        is_ours = number.partition("-")[0] in {model.scorer.instance_id for model in self._service.models}
        waited = 0.0
        while number:
            lines = await asyncio.to_thread(find_lines, self._folder, number)
            if lines or not is_ours or waited >= _PATIENCE_SECONDS:
                return lines
            await asyncio.sleep(_PAUSE_SECONDS)
            waited += _PAUSE_SECONDS
        return []

    def _decisions(self, line: FoundLine, reviews: Sequence[Mapping[str, Any]]) -> list[LoggedDecision]:
        """Those of a line, of a batch's as many as anybody reads; none of a model that is not served here."""
        record, rows = line
        reader = self._readers.get(record["model"])
        if reader is None:
            return []
        try:
            found = [reader.read(record, row) for row in rows[:_MOST_ROWS]]
        except (KeyError, TypeError, ValueError, IndexError):
            return []
        return [d._replace(reviews=[r for r in reviews if r.get("of") == d.id]) for d in found]

    async def found_html(self, number: str, language: Language) -> str:
        """What was found, for the page."""
        return page("found", language, decisions=await self.find(number))

    async def person_html(self, id_: str, language: Language) -> str:
        """What people said of one decision, and the form for what another says."""
        return page("person", language, decision=await self._one(id_))

    async def paper(self, kind: str, id_: str, language: Language) -> str:
        """The `letter` or the `record` of one decision as a document of its own."""
        decision = await self._one(id_)
        reader = self._readers[decision.model]
        told: dict[str, Any] = {"decision": decision, "proof": self._proofs[decision.model]}
        if kind != "letter":
            return page("sheet", language, **told)
        told |= {"sender": reader.words.sender, "bureau": reader.words.bureau}
        told |= {"changes": await self._changes(decision), "tried": self._finders[decision.model].tried}
        return page("letter", language, **told)

    async def _changes(self, decision: LoggedDecision) -> WordedChanges | None:
        """What could have been changed, of a decision that was not the first and comes out again."""
        finder, replay = self._finders[decision.model], decision.replay
        is_first = decision.by_model == next(iter(decision.choices), decision.by_model)
        if is_first or replay is None or not replay.is_equal or not finder.is_offered:
            return None
        found = await finder.find(replay.row)
        # What is needed first stands among what the policy says.
        return found if found.proposals or not found.missing else None

    async def _one(self, id_: str) -> LoggedDecision:
        found = [decision for decision in await self.find(id_) if decision.id == id_]
        if not found:
            raise NotFound("expected the id of a decision in the log of this server, got another")
        return found[0]

    async def review(self, asked: dict[str, Any], user: str) -> str:
        """Write down what a person decided or noted; the id of the decision.

        `asked` is `{"of", "decision", "reason", "note"}`. Raises `UnacceptableRow` for another decision
        without a reason, for one that is none, and where nothing is said.
        """
        decision = await self._one(_text(asked, "of"))
        told, reason, note = (_text(asked, name) for name in ("decision", "reason", "note"))
        if decision.choices:
            check_decision(told, tuple(decision.choices))
        if decision.choices and told != decision.by_model and not reason:
            raise UnacceptableRow("expected a reason for deciding otherwise than the model, got none")
        if not (reason or note):  # a letter says that a person has looked, and an auditor asks at what
            raise UnacceptableRow("expected a reason or a note, got neither")
        decides = told if decision.choices else decision.by_model
        said = {"reason": reason, "note": note, "user": user}
        review = review_of(decision.id, decision.by_model, decides, **said)
        try:
            await asyncio.to_thread(self._reviews.add, review)
        except OSError as error:
            raise UnacceptableRow(f"expected to write {self._reviews.path.name}, got: {error}") from None
        return decision.id

    def overrides(self) -> Overrides:
        """Of the decisions looked at since the start each counts once, as it was left; for any thread."""
        last = {r["of"]: r for r in self._reviews.all() if str(r.get("ts", "")) >= self._began}
        otherwise = sum(review.get("decision") != review.get("by_model") for review in last.values())
        return Overrides(len(last), otherwise)


def _text(given: Mapping[str, Any], name: str) -> str:
    return printable(given.get(name))[: MOST_CHARACTERS.get(name, 200)]
