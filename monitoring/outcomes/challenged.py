"""What is told of a champion and its challenger."""

from dataclasses import asdict, dataclass
from typing import Any

from monitoring.outcomes.measures import Interval


@dataclass(frozen=True)
class Paired:
    """The figures of rows that have an outcome, of both models on the same rows.

    `auc_gain` and `cost_saved` are the challenger's less the champion's, or the other way round
    for costs, so that above 0 is better; the latter's interval holds at every look at once.
    """

    n: int
    auc: Interval
    challenger_auc: Interval
    auc_gain: Interval
    cost: float
    challenger_cost: float
    cost_saved: Interval

    @property
    def verdict(self) -> str:
        """`better` or `worse` in cost, or `open` while either may be."""
        if self.cost_saved.low > 0:
            return "better"
        return "worse" if self.cost_saved.high < 0 else "open"


@dataclass(frozen=True)
class Challenge:
    """What one challenger said of the rows that its champion answered.

    `flips` are (champion's decision, challenger's, rows); `shift` the mean of the challenger's score
    less the champion's; `worst` the ids of the rows of the largest difference, with both scores.
    """

    champion: str
    challenger: str
    rows: int
    first: str
    last: str
    flips: list[tuple[str, str, int]]
    shift: Interval
    worst: list[tuple[str, float, float]]
    strangers: int = 0
    paired: Paired | None = None

    @property
    def agreement(self) -> float:
        """The share of the rows that both decide alike."""
        return 1.0 - sum(rows for _, _, rows in self.flips) / max(1, self.rows)

    @property
    def verdict(self) -> str:
        """What outcomes say, `open` without any."""
        return self.paired.verdict if self.paired else "open"

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON, in which NaN (what cannot be told) is null."""
        return asdict(self) | {"verdict": self.verdict}
