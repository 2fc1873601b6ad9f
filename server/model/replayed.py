"""One logged decision computed once more: equal to the bit, or what is different."""

from collections.abc import Collection
from typing import Any, NamedTuple

from server.errors import Problem
from server.model.logged_rows import LoggedRow
from server.model.predictor import Predictor
from server.model.schema import Row


class Replayed(NamedTuple):
    """What a row was answered, and what the model answers now.

    `output`, `outcome` and `margin` are as in `LoggedRow`, None where the row cannot be scored:
    `problem` says why then, in one sentence. `row` is the encoded row.
    """

    logged: LoggedRow
    output: float | list[float] | None = None
    outcome: str | None = None
    margin: str | list[str] | None = None
    problem: str = ""
    row: Row = b""

    @property
    def is_equal(self) -> bool:
        """Whether every bit of output and margin, as far as they are logged, and the outcome are the same."""
        logged = self.logged
        return (
            not self.problem
            and (self.output, self.outcome) == (logged.output, logged.outcome)
            and logged.margin in (None, self.margin)
        )

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values, for JSON."""
        if self.problem:
            return {"equal": False, "problem": self.problem}
        return {"equal": self.is_equal, "output": self.output, "outcome": self.outcome}


def replayed(logged: LoggedRow, predictor: Predictor, hidden: Collection[str] = ()) -> Replayed:
    """Score the row of a line again, with the model it was answered by.

    `hidden` are the features that the log does not show as they were: a row that had one
    cannot be told apart from one that lacked it.
    """
    schema = predictor.bundle.schema
    if hiding := [name for name in schema.names if name in hidden]:
        return Replayed(logged, problem=f"the log hides {', '.join(hiding)}: the row is not known any more")
    try:
        row = schema.encode({name: value for name, value in logged.fields.items() if name in schema.names})
        output, outcome = predictor.predict(row)
    except Problem as problem:
        return Replayed(logged, problem=f"the row cannot be scored: {problem}")
    margins = [margin.hex() for margin in predictor.last_margins()]
    margin = margins if isinstance(output, list) else margins[0]
    return Replayed(logged, output, predictor.bundle.outcomes[outcome] or None, margin, row=row)
