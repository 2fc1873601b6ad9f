"""How decisions and their errors differ between groups of people.

Accepted is the favourable decision. Selection rates are of all decisions; what needs
an outcome (opportunity, calibration) is of those that have one.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm  # type: ignore[import-untyped]  # SciPy ships no types

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.outcomes import measures
from monitoring.outcomes.decisions import Decisions, open_decisions
from monitoring.outcomes.joined import Joined, join
from monitoring.outcomes.measures import Interval
from monitoring.outcomes.told import told_outcomes
from server.model.bundle import Bundle

#: Smaller groups are shown, and not judged.
MIN_ROWS = 200
MAX_GROUPS = 16
#: A selection rate below four fifths of the highest is adverse impact (29 CFR 1607.4 D).
FOUR_FIFTHS = 0.8
#: How often chance alone may call that, over all groups of one window.
FALSE_ALARM_RATE = 0.001
UNKNOWN_GROUP = "unknown"


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


def fairness(
    paths: Sequence[Path],
    bundle: Bundle,
    by: str,
    cuts: Sequence[float] = (),
    label: str | None = None,
    file: Path | None = None,
) -> list[FairnessGroup]:
    """The groups of a binary model's decisions by a field of their rows; raises `LogError`.

    With `cuts` the field is a number, and groups are `..25`, `25..40`, `40..`: the lower end belongs
    to a group. `file` holds outcomes as for `outcome_report`.
    """
    if bundle.task != "binary":
        raise LogError(f"expected the log of a binary model, got {bundle.label}, a {bundle.task} model")
    told = told_outcomes(file, paths, bundle)
    accepted = bundle.decision.below
    kinds = told.kinds if told else ("id",)
    with open_decisions(paths, bundle.task, label or bundle.label, kinds, by) as decisions:
        counts = _counts(decisions, accepted, cuts)
        if set(counts) == {UNKNOWN_GROUP}:
            raise LogError(f"expected lines with the field {by}, got none: is it a field of the rows?")
        joined = join(decisions, told, bundle, "month") if told else None
    groups = groups_of(counts)
    if joined is None:
        return groups
    names = np.array([group_name(text or None, cuts) for text in joined.segment], dtype=object)
    return [_with_outcomes(group, joined, names == group.name) for group in groups]


def _counts(decisions: Decisions, accepted: str, cuts: Sequence[float]) -> dict[str, tuple[int, int]]:
    counts: dict[str, tuple[int, int]] = {}
    found = decisions.rows(
        f"select segment, count(*), count(*) filter (decision = {literal(accepted)}) "
        "from decisions group by 1"
    )
    for text, n, favourable in found:
        name = group_name(text, cuts)
        before = counts.get(name, (0, 0))
        counts[name] = (before[0] + n, before[1] + favourable)
    if len(counts) > MAX_GROUPS + 1:
        raise LogError(f"expected at most {MAX_GROUPS} groups, got {len(counts):,}: cut a number with --cuts")
    return counts


def group_name(text: str | None, cuts: Sequence[float]) -> str:
    """The group of a value of the log; without `cuts` the value itself."""
    if text is None or not cuts:
        return UNKNOWN_GROUP if text is None else text
    try:
        value = float(text)
    except ValueError:
        return UNKNOWN_GROUP
    ends = ["", *(f"{cut:g}" for cut in cuts), ""]
    place = bisect_right(cuts, value)
    return f"{ends[place]}..{ends[place + 1]}"


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


def _with_outcomes(group: FairnessGroup, joined: Joined, rows: npt.NDArray[np.bool_]) -> FairnessGroup:
    outcome, accepted, score = joined.outcome[rows], joined.accepted[rows], joined.score[rows]
    if not len(outcome):
        return group
    return replace(
        group,
        outcomes=len(outcome),
        opportunity=_mean(accepted[outcome == 0]),
        false_acceptance=_mean(accepted[outcome == 1]),
        mean_score=float(score.mean()),
        rate=float(outcome.mean()),
        surprise=measures.surprise(score, outcome),
    )


def _mean(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else math.nan
