"""How good the scores of two outcomes were: discrimination, calibration, and the cost of the decisions."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from monitoring.outcomes import measures
from monitoring.outcomes.joined import Joined
from monitoring.outcomes.judged import MIN_OUTCOMES, limit_of
from monitoring.outcomes.measures import Interval, marked
from server.model.bundle import Bundle

#: What chance may call worse of one performance: its AUC, and how many outcomes came.
_TESTS = 2


@dataclass(frozen=True)
class BinaryPerformance:
    """The figures of `n` decisions with an outcome; `surprise` is in standard deviations.

    `cost` is the mean of a decision at the bundle's costs, `low` and `high` of each interval
    bound it with 95 %; `worse` says why these are worse than the model promised, empty if not.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("n", "rate", "mean score", "AUC", "KS", "Brier", "cost")
    DRAWN: ClassVar[Mapping[str, str]] = {"rate": "Rate of the outcome", "auc": "AUC"}

    name: str
    n: int
    rate: Interval
    mean_score: float
    auc: Interval
    ks: float
    brier: Interval
    cost: Interval
    surprise: float
    bins: list[dict[str, float]]
    worse: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, None for what cannot be told."""
        single = {
            "ks": self.ks,
            "mean_score": self.mean_score,
            "gini": 2 * self.auc.value - 1,
        }
        return {
            "name": self.name,
            "n": self.n,
            "rate": self.rate.to_dict(),
            "auc": self.auc.to_dict(),
            "brier": self.brier.to_dict(),
            "cost": self.cost.to_dict(),
            **measures.known(single),
            "surprise": self.surprise,
            "calibration": self.bins,
            "worse": self.worse,
        }

    @property
    def figures(self) -> Mapping[str, Interval]:
        """The figures that are followed, by the names of their gauges."""
        return {"auc": self.auc, "rate": self.rate, "brier": self.brier, "cost": self.cost}

    def cells(self) -> Iterator[str]:
        """The figures in words, under `COLUMNS`."""
        yield from (f"{self.n:,}", self.rate.words(3), f"{self.mean_score:.3f}", self.auc.words(3))
        yield from (marked(self.ks, 3), f"{self.brier.value:.4f}", self.cost.words(3))


def binary_performance(
    joined: Joined, bundle: Bundle, name: str, rows: npt.NDArray[np.bool_], looks: int = 1
) -> BinaryPerformance:
    """The figures of some rows, bool [n], one of so many `looks` at once."""
    score, outcome, accepted = joined.score[rows], joined.outcome[rows], joined.accepted[rows]
    missed, alarmed = bundle.decision.costs
    auc, surprise = measures.auc(score, outcome), measures.surprise(score, outcome)
    return BinaryPerformance(
        name=name,
        n=len(score),
        rate=measures.rate(float(outcome.sum()), len(outcome)),
        mean_score=float(score.mean()),
        auc=auc,
        ks=measures.ks(score, outcome),
        brier=measures.brier(score, outcome),
        cost=measures.mean(missed * accepted * outcome + alarmed * ~accepted * (1 - outcome)),
        surprise=surprise,
        bins=measures.calibration_bins(score, outcome),
        worse=_worse(len(score), auc, surprise, promised_auc(bundle, bool(accepted.all())).low, looks),
    )


def _worse(n: int, auc: Interval, surprise: float, least: float, looks: int) -> str:
    if n < MIN_OUTCOMES:
        return ""
    limit = limit_of(_TESTS * looks)
    reasons = []
    if abs(surprise) > limit:
        than = "more" if surprise > 0 else "fewer"
        reasons.append(f"{than} outcomes than the scores promise, by {abs(surprise):.1f} standard deviations")
    if auc.value + limit * auc.deviation < least:
        reasons.append(f"AUC {auc.value:.3f}, at least {least:.3f} in training's held-out rows")
    return "; ".join(reasons)


def promised_auc(bundle: Bundle, is_accepted_alone: bool) -> Interval:
    """What training's held-out rows promised, which has its own chance; NaN if none did.

    Where those who were refused have no outcomes, the held-out rows that would have
    been accepted are what to compare with: within a range of scores fewer pairs differ.
    """
    held = bundle.manifest.get("evaluation", {}).get("held_out", {})
    if not is_accepted_alone:
        low, high = held.get("auc_interval", [math.nan, math.nan])
        return Interval(float(held.get("auc", math.nan)), float(low), float(high))
    curve, counts = held.get("curves", {}).get("roc"), held.get("confusion")
    if not curve or not counts or not min(counts["false_negative"], counts["true_negative"]):
        return measures.UNKNOWN
    return measures.auc_below(
        np.array([[point["false_positive_rate"], point["true_positive_rate"]] for point in curve]),
        counts["false_negative"],
        counts["true_negative"],
        (held["false_positive_rate"], 1.0 - held["false_negative_rate"]),
    )
