"""Outcomes, each beside the decision that it became of."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.outcomes.measures import Vector


@dataclass(frozen=True)
class Joined:
    """The decisions that have an outcome, and how many of either found no other.

    `score` and `outcome` are float64 [n], of several classes the score [n, classes] and the outcome
    the place of one; `accepted` bool [n]; `period` (the beginning of the decision's month, week or
    day) and `segment` text [n]. `corrected` keys came with two outcomes, of which the latest counts;
    the outcomes of `early` ones are dated before every decision of theirs, those of `unusable` ones say
    nothing of the model, of `doubled` ones another key said it later: they count for none.
    """

    score: Vector
    outcome: Vector
    accepted: npt.NDArray[np.bool_]
    period: npt.NDArray[np.object_]
    segment: npt.NDArray[np.object_]
    outcomes: int
    corrected: int
    early: int
    unusable: int = 0
    doubled: int = 0

    @property
    def strangers(self) -> int:
        """The outcomes of no decision in the log."""
        return self.outcomes - len(self.score) - self.early - self.unusable - self.doubled
