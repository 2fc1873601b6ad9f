"""How good the scores are, on clients that the model has not seen."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import norm, rankdata  # type: ignore[import-untyped]  # SciPy ships no types
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score, roc_curve

from export.evaluation.cost import Costs, Vector, cost_curve, cost_per_client

CONFIDENCE = 0.95
CALIBRATION_BINS = 10
#: Enough points for a smooth line on a page, few enough for `bundle.json`.
CURVE_POINTS = 60
_DECIMALS = 6


def evaluate(target: Vector, scores: Vector, threshold: float, costs: Costs) -> dict[str, Any]:
    """Every figure of a set of scored clients, ready for `bundle.json`.

    `target` holds 0 and 1, `scores` probabilities of 1, both float64 [n]. Costs
    are means a client. Source of KS: the largest distance between the cumulative
    scores of defaulting and of paying clients, which is max(TPR - FPR).
    """
    auc = float(roc_auc_score(target, scores))
    false_positive, true_positive, _ = roc_curve(target, scores)
    figures = {
        "rows": len(target),
        "defaults": int(target.sum()),
        "auc": auc,
        "auc_interval": list(auc_interval(target, scores)),
        "gini": 2 * auc - 1,
        "ks": float(np.max(true_positive - false_positive)),
        "brier": float(brier_score_loss(target, scores)),
        "log_loss": float(log_loss(target, scores)),
        **decisions(target, scores, threshold),
        "cost": _costs(target, scores, threshold, costs),
        "calibration": calibration(target, scores),
        "curves": {
            "roc": _thinned(false_positive, true_positive),
            "cost": cost_curve(target, scores, costs, CURVE_POINTS),
        },
    }
    return dict(rounded(figures))


def auc_interval(target: Vector, scores: Vector) -> tuple[float, float]:
    """The 95 % interval of the AUC.

    Source: E. DeLong, D. DeLong, D. Clarke-Pearson, Biometrics 44 (1988), with
    the midranks of X. Sun, W. Xu, IEEE Signal Processing Letters 21 (2014).
    """
    low, high = _interval(*_placements(target, scores))
    return max(0.0, low), min(1.0, high)


def _placements(target: Vector, scores: Vector) -> tuple[Vector, Vector]:
    """For each defaulting client the share of paying ones scored lower, for each paying one the reverse.

    The mean of either is the AUC.
    """
    bad, good = scores[target == 1], scores[target == 0]
    ranks = rankdata(np.concatenate([bad, good]))
    above = (ranks[: len(bad)] - rankdata(bad)) / len(good)
    below = 1 - (ranks[len(bad) :] - rankdata(good)) / len(bad)
    return above, below


def _interval(bad: Vector, good: Vector) -> tuple[float, float]:
    deviation = np.sqrt(bad.var(ddof=1) / len(bad) + good.var(ddof=1) / len(good))
    mean, reach = bad.mean(), norm.ppf((1 + CONFIDENCE) / 2) * deviation
    return float(mean - reach), float(mean + reach)


def decisions(target: Vector, scores: Vector, threshold: float) -> dict[str, Any]:
    """What a threshold does to the clients: counts and rates, a rate without clients None.

    A positive is a refusal: `false_positive_rate` is the share of paying clients
    refused, `false_negative_rate` that of defaulting clients accepted.
    """
    refused, bad = scores >= threshold, target == 1
    counts = {
        "true_negative": int(np.sum(~refused & ~bad)),
        "false_positive": int(np.sum(refused & ~bad)),
        "false_negative": int(np.sum(~refused & bad)),
        "true_positive": int(np.sum(refused & bad)),
    }
    return {
        "confusion": counts,
        "refusal_rate": float(refused.mean()) if len(refused) else None,
        "false_positive_rate": _rate(counts["false_positive"], counts["true_negative"]),
        "false_negative_rate": _rate(counts["false_negative"], counts["true_positive"]),
    }


def part_of_group(target: Vector, scores: Vector, threshold: float) -> dict[str, Any]:
    """The figures of a part of a group: how many, how often, what they are told and how they are decided."""
    rates = decisions(target, scores, threshold)
    del rates["confusion"]
    figures = {
        "rows": len(target),
        "defaults": int(target.sum()),
        "default_rate": float(target.mean()),
        "mean_probability": float(scores.mean()),
        **rates,
    }
    return dict(rounded(figures))


def one_decision(figures: Mapping[str, Any], below: str, otherwise: str, rows: str) -> str:
    """A sentence where the threshold decides the same of all `rows`, "" where it tells them apart."""
    share = figures["refusal_rate"]
    if share not in (0.0, 1.0):
        return ""
    word = below if share == 0.0 else otherwise
    return (
        f"Every one of the {figures['rows']:,} {rows} is decided {word}: the threshold tells none of them "
        "apart, so look at the costs, the threshold and the data before anybody is decided about"
    )


def calibration(target: Vector, scores: Vector) -> dict[str, Any]:
    """Whether a probability means what it says.

    `slope` and `intercept` are of a logistic regression of the outcome on the
    score's log-odds: 1 and 0 for perfect scores (D. Cox, Biometrika 45, 1958).
    `bins` hold tenths of the clients, from the lowest scores to the highest.
    """
    found, expected = calibration_curve(target, scores, n_bins=CALIBRATION_BINS, strategy="quantile")
    odds = np.log(scores / (1 - scores))[:, np.newaxis]
    line = LogisticRegression(C=np.inf).fit(odds, target)
    return {
        "mean_probability": float(scores.mean()),
        "default_rate": float(target.mean()),
        "slope": float(line.coef_[0, 0]),
        "intercept": float(line.intercept_[0]),
        "bins": [
            {"probability": p, "default_rate": rate}
            for p, rate in zip(expected.tolist(), found.tolist(), strict=True)
        ],
    }


def rounded(figures: Any) -> Any:
    """The same structure with every float rounded: later digits are noise."""
    if isinstance(figures, dict):
        return {name: rounded(value) for name, value in figures.items()}
    if isinstance(figures, list):
        return [rounded(value) for value in figures]
    return round(figures, _DECIMALS) if isinstance(figures, float) else figures


def _costs(target: Vector, scores: Vector, threshold: float, costs: Costs) -> dict[str, float]:
    tried = {"model": threshold, "model_at_analytic_threshold": costs.analytic_threshold}
    figures = cost_per_client(target, scores, np.array(list(tried.values())), costs)
    return {
        **dict(zip(tried, figures.tolist(), strict=True)),
        "accept_all": costs.missed_default * float(target.mean()),
        "refuse_all": costs.refused_good * float(1 - target.mean()),
    }


def _rate(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None


def _thinned(x: Vector, y: Vector) -> list[dict[str, float]]:
    """About `CURVE_POINTS` points of a curve, both ends among them."""
    index = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).astype(int))
    return [{"false_positive_rate": float(x[i]), "true_positive_rate": float(y[i])} for i in index]
