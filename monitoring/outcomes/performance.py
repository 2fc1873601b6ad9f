"""How good a model was, by the outcomes that came: all, by period and by segment; and what is expected."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from monitoring.logs.database import literal
from monitoring.outcomes.binary import binary_performance
from monitoring.outcomes.decisions import Decisions, open_decisions
from monitoring.outcomes.estimate import STEP, Expected, expected
from monitoring.outcomes.joined import Joined
from monitoring.outcomes.joining import join
from monitoring.outcomes.measures import Interval
from monitoring.outcomes.multiclass import multiclass_performance
from monitoring.outcomes.regression import regression_performance
from monitoring.outcomes.told import told_outcomes
from server.model.bundle import Bundle

PERIODS = ("day", "week", "month")


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


#: What measures the rows of each task: how good, named so, one of so many looks.
_MEASURES: dict[str, Callable[[Joined, Bundle, str, npt.NDArray[np.bool_], int], Performance]] = {
    "binary": binary_performance,
    "regression": regression_performance,
    "multiclass": multiclass_performance,
}


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


def outcome_report(
    paths: Sequence[Path],
    bundle: Bundle,
    label: str | None = None,
    file: Path | None = None,
    by: str = "month",
    segment: str = "",
) -> OutcomeReport:
    """Join outcomes to the decisions of a model's log; raises `LogError`.

    They are those of a file, or else those that are kept beside the log; without any there is what
    the scores promise alone. `segment` is a field of the rows.
    """
    told = told_outcomes(file, paths, bundle)
    kinds = told.kinds if told else ("id",)
    with open_decisions(paths, bundle.task, label or bundle.label, kinds, segment) as decisions:
        joined = join(decisions, told, bundle, by) if told else None
        promised = _promised(decisions, bundle, by) if bundle.task == "binary" else {}
        ((count,),) = decisions.rows("select count(*) from decisions")
    found = _measured(joined, bundle) if joined is not None and len(joined.score) else None
    whole, periods, segments = found or (None, [], [])
    return OutcomeReport(
        model=label or bundle.label,
        decisions=count,
        outcomes=joined.outcomes if joined else None,
        strangers=joined.strangers if joined else 0,
        corrected=joined.corrected if joined else 0,
        early=joined.early if joined else 0,
        unusable=joined.unusable if joined else 0,
        doubled=joined.doubled if joined else 0,
        accepted=int(joined.accepted.sum()) if joined and bundle.task == "binary" else None,
        whole=whole,
        periods=periods,
        segments=segments,
        expected=promised.pop("", None),
        expected_by_period=promised,
    )


def _measured(joined: Joined, bundle: Bundle) -> tuple[Performance, list[Performance], list[Performance]]:
    groups = [("", np.ones(len(joined.score), dtype=np.bool_))]
    counts = [1]
    for values in (joined.period, joined.segment):
        names = [name for name in sorted(set(values)) if name]
        groups += [(name, values == name) for name in names]
        counts.append(len(names))
    measure = _MEASURES[bundle.task]
    found = [measure(joined, bundle, name, rows, len(groups)) for name, rows in groups]
    return found[0], found[1 : 1 + counts[1]], found[1 + counts[1] :]


def _promised(decisions: Decisions, bundle: Bundle, by: str) -> dict[str, Expected]:
    """What the scores promise, of all under the name `""`, and of each period."""
    found = decisions.arrays(
        f"select coalesce(strftime(date_trunc('{by}', ts), '%Y-%m-%d'), '') period, "
        f"round(score / {STEP})::bigint bin, count(*)::double n, avg(score) score, "
        f"count(*) filter (decision = {literal(bundle.decision.below)})::double accepted "
        "from decisions group by all order by bin"
    )
    periods = np.asarray(found["period"])
    everything = np.ones(len(periods), dtype=np.bool_)
    masks = {"": everything} | {str(name): periods == name for name in sorted(set(periods)) if name}
    return {
        name: expected(found["score"][rows], found["n"][rows], found["accepted"][rows], bundle.decision.costs)
        for name, rows in masks.items()
    }
