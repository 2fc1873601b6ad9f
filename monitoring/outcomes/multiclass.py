"""How good the probabilities of several classes were: log loss, accuracy, each class against the rest."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from monitoring.outcomes import measures
from monitoring.outcomes.joined import Joined
from monitoring.outcomes.judged import MIN_OUTCOMES, limit_of
from monitoring.outcomes.measures import Interval, Vector, marked
from server.model.bundle import Bundle

#: What chance may call worse of one performance beside each class: accuracy, and the log loss.
_TESTS = 2


@dataclass(frozen=True)
class MulticlassPerformance:
    """The figures of `n` predictions with an outcome.

    `auc` is each class's against the rest, `macro_auc` their mean; `surprise` by how many
    standard deviations more of a class came than its probabilities promise. `confusion` counts
    what came (rows) by what was predicted (columns), both in the order of the classes.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("n", "accuracy", "log loss", "macro AUC", "least AUC", "of class")
    DRAWN: ClassVar[Mapping[str, str]] = {
        "accuracy": "Accuracy",
        "macro_auc": "AUC, mean of the classes against the rest",
    }

    name: str
    n: int
    accuracy: Interval
    log_loss: Interval
    macro_auc: Interval
    auc: Mapping[str, Interval]
    surprise: Mapping[str, float]
    confusion: list[list[int]]
    worse: str = ""

    @property
    def figures(self) -> Mapping[str, Interval]:
        """The figures that are followed, by the names of their gauges."""
        return {"accuracy": self.accuracy, "log_loss": self.log_loss, "macro_auc": self.macro_auc}

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, None for what cannot be told."""
        return {
            "name": self.name,
            "n": self.n,
            **{name: figure.to_dict() for name, figure in self.figures.items()},
            "auc": {name: figure.to_dict() for name, figure in self.auc.items()},
            "surprise": dict(self.surprise),
            "confusion": self.confusion,
            "worse": self.worse,
        }

    def cells(self) -> Iterator[str]:
        """The figures in words, under `COLUMNS`."""
        yield from (f"{self.n:,}", self.accuracy.words(3), self.log_loss.words(4), self.macro_auc.words(3))
        told = [(figure.value, name) for name, figure in self.auc.items() if not math.isnan(figure.value)]
        least, name = min(told, default=(math.nan, ""))
        yield from (marked(least, 3), name)


def multiclass_performance(
    joined: Joined, bundle: Bundle, name: str, rows: npt.NDArray[np.bool_], looks: int = 1
) -> MulticlassPerformance:
    """The figures of some rows, bool [n], one of so many `looks` at once."""
    score, outcome = joined.score[rows], joined.outcome[rows].astype(np.int64)
    predicted, classes = score.argmax(axis=1), bundle.classes  # the likeliest class, as the server answers
    came = np.arange(len(classes)) == outcome[:, None]
    inside = np.clip(score, np.finfo(float).eps, 1 - np.finfo(float).eps)  # as scikit-learn's log_loss does
    losses = -np.log(inside)[np.arange(len(outcome)), outcome]
    accuracy = measures.rate(float((predicted == outcome).sum()), len(outcome))
    surprise = [measures.surprise(score[:, k], came[:, k].astype(float)) for k in range(len(classes))]
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (outcome, predicted), 1)
    return MulticlassPerformance(
        name=name,
        n=len(outcome),
        accuracy=accuracy,
        log_loss=measures.mean(losses),
        macro_auc=measures.macro_auc(score, came),
        auc={word: measures.auc(score[:, k], came[:, k].astype(float)) for k, word in enumerate(classes)},
        surprise=dict(zip(classes, surprise, strict=True)),
        confusion=confusion.tolist(),
        worse=_worse(accuracy, losses, inside, surprise, bundle, looks),
    )


def _worse(
    accuracy: Interval, losses: Vector, score: Vector, surprise: list[float], bundle: Bundle, looks: int
) -> str:
    n = len(losses)
    if n < MIN_OUTCOMES:
        return ""
    limit = limit_of((_TESTS + len(surprise)) * looks)
    reasons = [
        f"{'more' if value > 0 else 'fewer'} of {word} than its probabilities promise, "
        f"by {abs(value):.1f} standard deviations"
        for word, value in zip(bundle.classes, surprise, strict=True)
        if abs(value) > limit
    ]
    logs = np.log(score)
    promised = -(score * logs).sum(axis=1)
    spread = math.sqrt(float(((score * logs**2).sum(axis=1) - promised**2).sum())) / n
    if losses.mean() - promised.mean() > limit * spread:
        reasons.append(f"log loss {losses.mean():.4f}, the probabilities promise {promised.mean():.4f}")
    held = bundle.manifest.get("evaluation", {}).get("classes", {})
    if held and held["accuracy"] - accuracy.value > limit * math.hypot(
        _deviation(accuracy.value, n), _deviation(held["accuracy"], held["rows"])
    ):
        reasons.append(f"accuracy {accuracy.value:.3f}, {held['accuracy']:.3f} in training's held-out rows")
    return "; ".join(reasons)


def _deviation(share: float, n: int) -> float:
    return math.sqrt(share * (1 - share) / n)
