"""The rows in a line of the prediction log, whatever the task and the route that wrote it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class LoggedRow(NamedTuple):
    """One row as it came in, and what was answered.

    `output` is a probability (binary), a predicted value (regression, ranking) or
    the probabilities of all classes (multiclass); `outcome` the decision or class,
    None of a value. `margin` is the raw score's hexadecimal digits, of several classes a list of them,
    None where the line has none, as older ones.
    """

    fields: dict[str, Any]
    output: float | list[float]
    outcome: str | None
    margin: str | list[str] | None = None

    @property
    def score(self) -> float:
        """The one number that drift is told of: of several classes the likeliest's probability."""
        return max(self.output) if isinstance(self.output, list) else self.output


def is_batch(record: Mapping[str, Any]) -> bool:
    """Whether a line has the rows of a whole request.

    What it was answered with tells it, never its input, in which a feature may be called `rows`.
    """
    return "decisions" in record or "predictions" in record


def logged_rows(record: Mapping[str, Any]) -> Iterator[LoggedRow]:
    """The rows of one line: one, or those of a batch in order.

    Raises `KeyError`, `TypeError` or `ValueError` of a line that is none.
    """
    fields = record["input"]
    if "decisions" in record:
        outputs = record["probabilities"]
        margins = record.get("margins", [None] * len(outputs))
        yield from map(LoggedRow, fields["rows"], outputs, record["decisions"], margins)
    elif "predictions" in record:
        outputs = record.get("probabilities", record["predictions"])
        outcomes = record["predictions"] if "probabilities" in record else [None] * len(outputs)
        margins = record.get("margins", [None] * len(outputs))
        yield from map(LoggedRow, fields["rows"], outputs, outcomes, margins)
    elif "probability" in record:
        yield LoggedRow(fields, record["probability"], record.get("decision"), record.get("margin"))
    elif "probabilities" in record:
        yield LoggedRow(fields, record["probabilities"], record.get("prediction"), record.get("margins"))
    else:
        yield LoggedRow(fields, record["prediction"], None, record.get("margin"))
