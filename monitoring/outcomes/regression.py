"""How good predicted values were: errors, bias and R2, with intervals, against what training promised."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from monitoring.outcomes import measures
from monitoring.outcomes.joined import Joined
from monitoring.outcomes.judged import MIN_OUTCOMES, limit_of
from monitoring.outcomes.measures import UNKNOWN, Interval, Vector
from server.model.bundle import Bundle

#: What chance may call worse of one performance: its error, and its bias.
_TESTS = 2


@dataclass(frozen=True)
class RegressionPerformance:
    """The figures of `n` predictions with an outcome; `bias` is how much too high they are in the mean.

    `worse` says why they are worse than the model promised, empty if not.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("n", "outcome", "prediction", "MAE", "RMSE", "bias", "R2")
    DRAWN: ClassVar[Mapping[str, str]] = {
        "mae": "Mean absolute error",
        "bias": "Bias: prediction less outcome",
    }

    name: str
    n: int
    mean_outcome: float
    mean_prediction: float
    mae: Interval
    rmse: Interval
    bias: Interval
    r2: Interval
    bins: list[dict[str, float]]
    worse: str = ""

    @property
    def figures(self) -> Mapping[str, Interval]:
        """The figures that are followed, by the names of their gauges."""
        return {"mae": self.mae, "rmse": self.rmse, "bias": self.bias, "r2": self.r2}

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, None for what cannot be told."""
        return {
            "name": self.name,
            "n": self.n,
            "mean_outcome": self.mean_outcome,
            "mean_prediction": self.mean_prediction,
            **{name: figure.to_dict() for name, figure in self.figures.items()},
            "calibration": self.bins,
            "worse": self.worse,
        }

    def cells(self) -> Iterator[str]:
        """The figures in words, under `COLUMNS`."""
        yield from (f"{self.n:,}", f"{self.mean_outcome:.5g}", f"{self.mean_prediction:.5g}")
        yield from (self.mae.significant(), self.rmse.significant(), self.bias.significant())
        yield self.r2.words(3)


def regression_performance(
    joined: Joined, bundle: Bundle, name: str, rows: npt.NDArray[np.bool_], looks: int = 1
) -> RegressionPerformance:
    """The figures of some rows, bool [n], one of so many `looks` at once."""
    predicted, outcome = joined.score[rows], joined.outcome[rows]
    mae, bias = measures.mean(np.abs(predicted - outcome)), measures.mean(predicted - outcome)
    return RegressionPerformance(
        name=name,
        n=len(predicted),
        mean_outcome=float(outcome.mean()),
        mean_prediction=float(predicted.mean()),
        mae=mae,
        rmse=_rmse(predicted - outcome),
        bias=bias,
        r2=_r2(predicted, outcome),
        bins=[
            {"n": one["n"], "prediction": one["score"], "outcome": one["rate"]}
            for one in measures.calibration_bins(predicted, outcome)
        ],
        worse=_worse(len(predicted), mae, bias, bundle, looks),
    )


def _rmse(errors: Vector) -> Interval:
    squared = measures.mean(errors**2)
    return Interval(*(math.sqrt(max(0.0, end)) for end in (squared.value, squared.low, squared.high)))


def _r2(predicted: Vector, outcome: Vector) -> Interval:
    """The share of the outcomes' variance that the predictions explain, its deviation by the delta method."""
    squared, apart = (predicted - outcome) ** 2, (outcome - outcome.mean()) ** 2
    total = float(apart.sum())
    if not total:
        return UNKNOWN
    value = 1 - float(squared.sum()) / total
    influence = (squared - (1 - value) * apart) / apart.mean()
    found = Interval.around(value, float(influence.std()) / math.sqrt(len(outcome)))
    return Interval(value, found.low, min(1.0, found.high))


def _worse(n: int, mae: Interval, bias: Interval, bundle: Bundle, looks: int) -> str:
    """Held-out rows have their own chance: of their errors both means are known, so the deviation is."""
    held = bundle.manifest.get("evaluation", {}).get("values", {})
    if n < MIN_OUTCOMES or not held:
        return ""
    limit, rows, squared = limit_of(_TESTS * looks), held["rows"], held["root_mean_squared_error"] ** 2
    reasons = []
    promised = held["mean_absolute_error"]
    if mae.value - promised > limit * math.hypot(mae.deviation, math.sqrt((squared - promised**2) / rows)):
        reasons.append(f"mean absolute error {mae.value:.4g}, {promised:.4g} in training's held-out rows")
    promised = held.get("bias", math.nan)  # bundles of before have none
    if abs(bias.value - promised) > limit * math.hypot(
        bias.deviation, math.sqrt((squared - promised**2) / rows)
    ):
        way = "high" if bias.value > promised else "low"
        reasons.append(f"predictions too {way}, by {bias.value:+.4g}, {promised:+.4g} in held-out rows")
    return "; ".join(reasons)
