"""One decision of the log, with everything that is said of it on a sheet or in a letter."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from server.errors import ModelFailure, NotOffered
from server.explain.reasons import MAX_PRINCIPAL, largest
from server.model.logged_rows import LoggedRow, is_batch, logged_rows
from server.model.replayed import Replayed, replayed
from server.model.row_names import name_of_row
from server.model.schema import Feature
from server.scoring.served_model import ServedModel
from ui.cases.suppose import is_adverse
from ui.words.labels import Labels
from ui.words.policy import Because
from ui.words.text import Text
from ui.words.wording import Wording, decided, known_of, percent, second_language, value_words


class GivenReason(NamedTuple):
    """A principal reason: its code, its sentence, and whether no decision may rest on it."""

    code: str
    text: Text
    is_protected: bool


class LoggedDecision(NamedTuple):
    """What was decided, by what, why, and whether it comes out again.

    `reasons` are the principal ones; `because` what the policy said, and
    `by_policy` whether it decided something else than the score. `watched` are inputs never scored.
    `replay` is None where the model is not served here. `by_model` is the outcome's own name,
    "" of a value.
    """

    id: str
    case: str
    user: str
    when: datetime
    model: str
    by_model: str
    said: Text
    answer: Text
    name: Text
    reasons: Sequence[GivenReason]
    because: Sequence[Text]
    by_policy: bool
    inputs: Sequence[tuple[Text, Text]]
    watched: Sequence[tuple[Text, Text]]
    known: Text
    replay: Replayed | None
    choices: Mapping[str, Text]
    reviews: Sequence[Mapping[str, Any]]

    def named(self, decision: str) -> Text:
        """What a person's decision is called; of a model that no longer comes to it by its own name."""
        return self.choices.get(decision, Text.same(decision)) if decision else self.said

    @property
    def last_review(self) -> Mapping[str, Any] | None:
        """What a person decided last, whatever the model said."""
        return self.reviews[-1] if self.reviews else None


class DecisionReader:
    """Reads the lines of one served model; `hidden` are the features that its log does not show."""

    def __init__(self, model: ServedModel, hidden: Sequence[str]) -> None:
        self._model, self._bundle, self._hidden = model, model.bundle, hidden
        self.words, self._labels = Wording.of(model.bundle), Labels.of(model.bundle)
        self._decided, self._because = decided(model.bundle, self.words), Because(model.bundle)

    def read(self, record: Mapping[str, Any], row: int) -> LoggedDecision:
        """The decision on a row of a line, by its number in it; nobody looked at it yet.

        Raises `KeyError`, `TypeError`, `ValueError` or `IndexError` for a line that has none such.
        """
        logged = list(logged_rows(record))[row]
        members = _of_row(record, row)
        replay = replayed(logged, self._model.scorer.predictor, self._hidden)
        answer = self._answer(logged)
        return LoggedDecision(
            id=name_of_row(record, row),
            case=str(record.get("request_id", "")),
            user=str(record.get("user", "")),
            when=datetime.fromisoformat(record["ts"]),
            model=record["model"],
            by_model=logged.outcome or "",
            said=self._decided.get(logged.outcome or "", Text.same(logged.outcome or "") or answer),
            answer=answer,
            name=self.words.probability.sentence(),
            reasons=self._reasons(members, replay) if is_adverse(self._bundle, members) else (),
            because=self._because.said(members.get("because") or (), logged.fields),
            by_policy=members.get("by_score", logged.outcome) != logged.outcome,
            inputs=self._inputs(logged, self._bundle.schema.features),
            watched=self._inputs(logged, self._bundle.context),
            known=known_of(self._bundle.schema, logged.fields),
            replay=replay,
            choices=self._decided if self._bundle.task == "binary" else {},
            reviews=(),
        )

    def _answer(self, logged: LoggedRow) -> Text:
        if self._bundle.task in ("regression", "ranking"):
            return value_words(logged.score)
        return percent(logged.score, 2)

    def _inputs(self, logged: LoggedRow, features: Sequence[Feature]) -> list[tuple[Text, Text]]:
        fields = logged.fields
        return [(self._labels.label(f), self._labels.measured(f, fields.get(f.name))) for f in features]

    def _reasons(self, members: Mapping[str, Any], replay: Replayed) -> list[GivenReason]:
        """Those of the line itself; of a line without any those of the same row, if it comes out again."""
        texts, schema = self._model.reason_texts, self._bundle.schema
        french = second_language(texts.languages)
        values = memoryview(replay.row).cast("d").tolist() if replay.row else []
        if told := members.get("reasons"):
            found = [
                (reason["code"], schema.names.index(reason["feature"]), reason["text"]) for reason in told
            ]
        elif replay.is_equal:
            found = [(texts.code(i, values[i]), i, texts.text(i, values[i])) for i in self._largest(replay)]
        else:
            return []
        return [
            GivenReason(
                code,
                Text(words, texts.text(i, values[i], french) if values else words),
                schema.features[i].protected,
            )
            for code, i, words in found
        ]

    def _largest(self, replay: Replayed) -> list[int]:
        try:
            return largest(self._model.explainer.terms(replay.row)[:-1], MAX_PRINCIPAL)
        except (NotOffered, ModelFailure):
            return []


def _of_row(record: Mapping[str, Any], row: int) -> dict[str, Any]:
    """The members of one answer, of a batch's line those of one row."""
    if not is_batch(record):
        return dict(record)
    named = {"decision": "decisions", "because": "because", "by_score": "by_score", "reasons": "reasons"}
    return {name: record[plural][row] for name, plural in named.items() if plural in record}
