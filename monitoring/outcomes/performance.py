"""How good a model was, by the outcomes that came: all, by period and by segment; and what is expected."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm  # type: ignore[import-untyped]  # SciPy ships no types

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.outcomes import measures
from monitoring.outcomes.decisions import Decisions, open_decisions
from monitoring.outcomes.estimate import STEP, Expected, expected
from monitoring.outcomes.joined import Joined, join
from monitoring.outcomes.measures import Interval
from monitoring.outcomes.told import told_outcomes
from server.model.bundle import Bundle

PERIODS = ("day", "week", "month")
#: Fewer outcomes are shown, and not judged.
MIN_OUTCOMES = 200
#: How often chance alone may call a model worse, over all that is judged at once.
FALSE_ALARM_RATE = 0.001


@dataclass(frozen=True)
class Performance:
    """The figures of `n` decisions with an outcome; `surprise` is in standard deviations.

    `cost` is the mean of a decision at the bundle's costs, `low` and `high` of each interval
    bound it with 95 %; `worse` says why these are worse than the model promised, empty if not.
    """

    name: str
    n: int
    rate: Interval
    mean_score: float
    auc: Interval
    ks: float
    brier: Interval
    cost: float
    surprise: float
    bins: list[dict[str, float]]
    worse: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, None for what cannot be told."""
        single = {
            "ks": self.ks,
            "mean_score": self.mean_score,
            "cost": self.cost,
            "gini": 2 * self.auc.value - 1,
        }
        return {
            "name": self.name,
            "n": self.n,
            "rate": self.rate.to_dict(),
            "auc": self.auc.to_dict(),
            "brier": self.brier.to_dict(),
            **measures.known(single),
            "surprise": self.surprise,
            "calibration": self.bins,
            "worse": self.worse,
        }


@dataclass(frozen=True)
class OutcomeReport:
    """Whatever outcomes tell of the decisions in a log, and what their scores promise without.

    `outcomes` is None without any, from a file or kept; `whole` is None if none is of these decisions;
    `accepted` of those with an outcome were.
    """

    model: str
    decisions: int
    outcomes: int | None
    strangers: int
    corrected: int
    early: int
    unusable: int
    doubled: int
    accepted: int
    whole: Performance | None
    periods: list[Performance]
    segments: list[Performance]
    expected: Expected
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
            "expected": self.expected.to_dict(),
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
    if bundle.task != "binary":
        raise LogError(f"expected the log of a binary model, got {bundle.label}, a {bundle.task} model")
    told = told_outcomes(file, paths, bundle)
    kinds = told.kinds if told else ("id",)
    with open_decisions(paths, bundle.task, label or bundle.label, kinds, segment) as decisions:
        joined = join(decisions, told, bundle, by) if told else None
        promised = _promised(decisions, bundle, by)
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
        accepted=int(joined.accepted.sum()) if joined else 0,
        whole=whole,
        periods=periods,
        segments=segments,
        expected=promised.pop(""),
        expected_by_period=promised,
    )


def _measured(joined: Joined, bundle: Bundle) -> tuple[Performance, list[Performance], list[Performance]]:
    groups = [("", np.ones(len(joined.score), dtype=np.bool_))]
    counts = [1]
    for values in (joined.period, joined.segment):
        names = [name for name in sorted(set(values)) if name]
        groups += [(name, values == name) for name in names]
        counts.append(len(names))
    looks = 2 * len(groups)
    found = [performance(joined, bundle, name, rows, looks) for name, rows in groups]
    return found[0], found[1 : 1 + counts[1]], found[1 + counts[1] :]


def performance(
    joined: Joined, bundle: Bundle, name: str, rows: npt.NDArray[np.bool_], looks: int = 1
) -> Performance:
    """The figures of some rows, bool [n], of which so many `looks` are taken at once."""
    score, outcome, accepted = joined.score[rows], joined.outcome[rows], joined.accepted[rows]
    missed, alarmed = bundle.decision.costs
    auc, surprise = measures.auc(score, outcome), measures.surprise(score, outcome)
    return Performance(
        name=name,
        n=len(score),
        rate=measures.rate(float(outcome.sum()), len(outcome)),
        mean_score=float(score.mean()),
        auc=auc,
        ks=measures.ks(score, outcome),
        brier=measures.brier(score, outcome),
        cost=float((missed * accepted * outcome + alarmed * ~accepted * (1 - outcome)).mean()),
        surprise=surprise,
        bins=measures.calibration_bins(score, outcome),
        worse=_worse(len(score), auc, surprise, _least_auc(bundle, bool(accepted.all())), looks),
    )


def _worse(n: int, auc: Interval, surprise: float, least: float, looks: int) -> str:
    if n < MIN_OUTCOMES:
        return ""
    limit = float(norm.isf(FALSE_ALARM_RATE / looks / 2))
    reasons = []
    if abs(surprise) > limit:
        than = "more" if surprise > 0 else "fewer"
        reasons.append(f"{than} outcomes than the scores promise, by {abs(surprise):.1f} standard deviations")
    deviation = (auc.high - auc.low) / 2 / float(norm.ppf((1 + measures.CONFIDENCE) / 2))
    if auc.value + limit * deviation < least:
        reasons.append(f"AUC {auc.value:.3f}, at least {least:.3f} in training's held-out rows")
    return "; ".join(reasons)


def _least_auc(bundle: Bundle, is_accepted_alone: bool) -> float:
    """The lower end of what training's held-out rows promised, as that has its own chance; NaN if none did.

    Where those who were refused have no outcomes, the held-out rows that would have
    been accepted are what to compare with: within a range of scores fewer pairs differ.
    """
    held = bundle.manifest.get("evaluation", {}).get("held_out", {})
    if not is_accepted_alone:
        return float(held.get("auc_interval", [math.nan])[0])
    curve, counts = held.get("curves", {}).get("roc"), held.get("confusion")
    if not curve or not counts or not min(counts["false_negative"], counts["true_negative"]):
        return math.nan
    return measures.auc_below(
        np.array([[point["false_positive_rate"], point["true_positive_rate"]] for point in curve]),
        counts["false_negative"],
        counts["true_negative"],
        (held["false_positive_rate"], 1.0 - held["false_negative_rate"]),
    ).low


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
