"""What outcomes tell of a model's decisions, of whatever task, and what its scores promise without."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from monitoring.outcomes.estimate import Expected
from monitoring.outcomes.measures import Interval


class Performance(Protocol):
    """The figures of some decisions with an outcome, of whatever task.

    `worse` says why these are worse than the model promised, empty if not; `DRAWN` names the
    figures that are drawn, by attribute.
    """

    COLUMNS: ClassVar[tuple[str, ...]]
    DRAWN: ClassVar[Mapping[str, str]]

    @property
    def name(self) -> str:
        """The vintage or the segment, empty of all."""

    @property
    def n(self) -> int:
        """How many decisions."""

    @property
    def worse(self) -> str:
        """Why they are worse than promised."""

    @property
    def figures(self) -> Mapping[str, Interval]:
        """The figures that are followed, by the names of their gauges."""

    def cells(self) -> Iterator[str]:
        """The figures in words, under `COLUMNS`."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""


@dataclass(frozen=True)
class OutcomeReport:
    """Whatever outcomes tell of the decisions in a log, and what their scores promise without.

    `outcomes` is None without any, from a file or kept; `whole` is None if none is of these decisions;
    `accepted` of those with an outcome were. Of values and of classes none is accepted, and nothing
    is expected without outcomes: both are None.
    """

    model: str
    decisions: int
    outcomes: int | None
    strangers: int
    corrected: int
    early: int
    unusable: int
    doubled: int
    accepted: int | None
    whole: Performance | None
    periods: list[Performance]
    segments: list[Performance]
    expected: Expected | None
    expected_by_period: dict[str, Expected]

    @property
    def worse(self) -> list[Performance]:
        """What is worse than the model promised."""
        judged = [*([self.whole] if self.whole else []), *self.periods, *self.segments]
        return [one for one in judged if one.worse]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "model": self.model,
            "decisions": self.decisions,
            "outcomes": self.outcomes,
            "strangers": self.strangers,
            "corrected": self.corrected,
            "dated_before_the_decision": self.early,
            "unusable": self.unusable,
            "told_by_another_key": self.doubled,
            "accepted": self.accepted,
            "verdict": "worse" if self.worse else "none",
            "whole": self.whole.to_dict() if self.whole else None,
            "periods": [one.to_dict() for one in self.periods],
            "segments": [one.to_dict() for one in self.segments],
            "expected": self.expected.to_dict() if self.expected else None,
            "expected_by_period": {name: one.to_dict() for name, one in self.expected_by_period.items()},
        }
