"""One logged decision computed once more: equal to the bit, or what is different."""

from collections.abc import Collection
from typing import Any, NamedTuple

from server.errors import Problem
from server.model.logged_rows import LoggedRow
from server.model.predictor import Predictor
from server.model.schema import Row


class Replayed(NamedTuple):
    """What a row was answered, and what the model answers now.

    `output` and `outcome` are as in `LoggedRow`, both None where the row cannot be scored:
    `problem` says why then, in one sentence. `row` is the encoded row.
    """

    logged: LoggedRow
    output: float | list[float] | None = None
    outcome: str | None = None
    problem: str = ""
    row: Row = b""

    @property
    def is_equal(self) -> bool:
        """Whether every bit of the output is the same, and the outcome."""
        return not self.problem and (self.output, self.outcome) == (self.logged.output, self.logged.outcome)

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
    return Replayed(logged, output, predictor.bundle.outcomes[outcome] or None, row=row)
