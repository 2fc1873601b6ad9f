"""How decisions and their errors differ between groups of people.

Of two decisions accepted is the favourable one, and a group that has it too seldom is
named. Selection rates are of all decisions; what needs an outcome (opportunity,
calibration) is of those that have one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import norm  # type: ignore[import-untyped]  # SciPy ships no types

from monitoring.logs.database import literal
from monitoring.outcomes import measures
from monitoring.outcomes.decisions import Decisions, open_decisions
from monitoring.outcomes.group_figures import (
    VALUE_FIGURES,
    ClassGroup,
    ValueGroup,
    class_groups,
    value_groups,
)
from monitoring.outcomes.groups import UNKNOWN_GROUP, GroupOutcomes, by_group, group_name
from monitoring.outcomes.joined import Joined
from monitoring.outcomes.joining import join
from monitoring.outcomes.measures import Interval, marked
from monitoring.outcomes.told import told_outcomes
from server.model.bundle import Bundle

#: Smaller groups are shown, and not judged.
MIN_ROWS = 200
#: A selection rate below four fifths of the highest is adverse impact (29 CFR 1607.4 D).
FOUR_FIFTHS = 0.8
#: How often chance alone may call that, over all groups of one window.
FALSE_ALARM_RATE = 0.001
NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class FairnessGroup:
    """One group: how many of `n` decisions were favourable, and of those with an outcome, which.

    `ratio` is its selection rate over the highest one's of the groups that are judged,
    with the interval of the verdict. `opportunity` is the share accepted of those who
    paid, `false_acceptance` of those who did not; `surprise` how many standard
    deviations more outcomes came than the scores promise.
    """

    name: str
    n: int
    selection: Interval
    ratio: Interval
    adverse: bool
    outcomes: int = 0
    opportunity: float = math.nan
    false_acceptance: float = math.nan
    mean_score: float = math.nan
    rate: float = math.nan
    surprise: float = math.nan

    @property
    def columns(self) -> Sequence[str]:
        """What `cells` are called."""
        shares = ("opportunity", "false acceptance", "score", "rate")
        return ("group", "n", "accepted", "ratio", "outcomes", *shares)

    def cells(self) -> Iterator[str]:
        """The figures in words."""
        yield from (
            self.name,
            f"{self.n:,}",
            self.selection.words(3),
            self.ratio.words(2),
            f"{self.outcomes:,}",
        )
        for value in (self.opportunity, self.false_acceptance, self.mean_score, self.rate):
            yield marked(value, 3)

    @property
    def verdict(self) -> str:
        """What is found, in words."""
        return "adverse impact" if self.adverse else "" if self.is_judged else NOT_JUDGED

    def with_outcomes(self, told: GroupOutcomes) -> "FairnessGroup":
        """The same with what became of some rows, of which there is one at least."""
        score, outcome, accepted = told
        return replace(
            self,
            outcomes=len(outcome),
            opportunity=_mean(accepted[outcome == 0]),
            false_acceptance=_mean(accepted[outcome == 1]),
            mean_score=float(score.mean()),
            rate=float(outcome.mean()),
            surprise=measures.surprise(score, outcome),
        )

    @property
    def is_judged(self) -> bool:
        """Whether there are rows enough."""
        return self.n >= MIN_ROWS and self.name != UNKNOWN_GROUP

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, None for what cannot be told."""
        names = ("opportunity", "false_acceptance", "mean_score", "rate", "surprise")
        figures = {name: getattr(self, name) for name in names}
        return {
            "name": self.name,
            "n": self.n,
            "selection": self.selection.to_dict(),
            "ratio": self.ratio.to_dict(),
            "judged": self.is_judged,
            "adverse": self.adverse,
            "outcomes": self.outcomes,
            **measures.known(figures),
        }


Group: TypeAlias = FairnessGroup | ValueGroup | ClassGroup


def fairness(
    paths: Sequence[Path],
    bundle: Bundle,
    by: str,
    cuts: Sequence[float] = (),
    label: str | None = None,
    file: Path | None = None,
) -> Sequence[Group]:
    """The groups of a model's decisions by a field of their rows; raises `LogError`.

    With `cuts` the field is a number, and groups are `..25`, `25..40`, `40..`: the lower end belongs
    to a group. `file` holds outcomes as for `outcome_report`.
    """
    told = told_outcomes(file, paths, bundle)
    kinds = told.kinds if told else ("id",)
    with open_decisions(paths, bundle.task, label or bundle.label, kinds, by) as decisions:
        groups = _groups(decisions, bundle, by, cuts)
        joined = join(decisions, told, bundle, "month") if told else None
    if joined is None:
        return groups
    names = np.array([group_name(text or None, cuts) for text in joined.segment], dtype=object)
    return [_with_outcomes(group, joined, names == group.name) for group in groups]


def _with_outcomes(group: Group, joined: Joined, rows: npt.NDArray[np.bool_]) -> Group:
    if not rows.any():
        return group
    return group.with_outcomes(GroupOutcomes(joined.score[rows], joined.outcome[rows], joined.accepted[rows]))


def _groups(decisions: Decisions, bundle: Bundle, by: str, cuts: Sequence[float]) -> Sequence[Group]:
    if bundle.task == "regression":
        return value_groups(_by_group(decisions, VALUE_FIGURES, by, cuts))
    if bundle.task == "multiclass":
        counts = ", ".join(map(_count_of, bundle.classes))
        return class_groups(_by_group(decisions, f"count(*), {counts}", by, cuts), bundle.classes)
    found = _by_group(decisions, f"count(*), {_count_of(bundle.decision.below)}", by, cuts)
    return groups_of(
        {name: (sum(n for n, _ in rows), sum(part for _, part in rows)) for name, rows in found.items()}
    )


def _by_group(
    decisions: Decisions, figures: str, by: str, cuts: Sequence[float]
) -> dict[str, list[tuple[Any, ...]]]:
    return by_group(decisions.rows(f"select segment, {figures} from decisions group by segment"), by, cuts)


def _count_of(decision: str) -> str:
    return f"count(*) filter (decision = {literal(decision)})"


def groups_of(counts: dict[str, tuple[int, int]]) -> list[FairnessGroup]:
    """The groups of so many decisions, of which so many were favourable, by name."""
    judged = {name: pair for name, pair in counts.items() if pair[0] >= MIN_ROWS and name != UNKNOWN_GROUP}
    best = max(judged.values(), key=lambda pair: pair[1] / pair[0], default=(0, 0))
    limit = float(norm.isf(FALSE_ALARM_RATE / max(1, len(judged) - 1)))
    groups = []
    for name, (n, favourable) in sorted(counts.items()):
        ratio = _ratio((n, favourable), best, limit) if name in judged else measures.UNKNOWN
        groups.append(
            FairnessGroup(
                name=name,
                n=n,
                selection=measures.rate(favourable, n),
                ratio=ratio,
                adverse=name in judged and ratio.high < FOUR_FIFTHS,
            )
        )
    return groups


def _ratio(group: tuple[int, int], best: tuple[int, int], limit: float) -> Interval:
    """The ratio of two shares, its logarithm taken for normal (D. Katz et al., Biometrics 34, 1978)."""
    if not best[1]:
        return measures.UNKNOWN
    (n, chosen), (m, most) = group, best
    value = chosen * m / (n * most)
    if group == best:
        return Interval(value, value, value)
    # Of a group of which nobody was chosen half a one is taken, so that there is an upper end.
    part = max(chosen, 0.5)
    reach = math.exp(limit * math.sqrt(max(0.0, 1 / part - 1 / n + 1 / most - 1 / m)))
    middle = part * m / (n * most)
    return Interval(value, value / reach, middle * reach)


def _mean(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else math.nan
