"""From a model's output to an outcome, or to the failure that says why there is none.

The one rule of every way to a response: `/predict`, `/predict/batch`, `/v2`,
`/explain`, files of `server.batch` and the page. It stands here twice, for one row
without a call more than the model itself takes, and for many in NumPy; a test
holds the two against each other.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from server.errors import ModelFailure
from server.model.schema import Row

#: An encoded row to the model's output and the index of its outcome in `Bundle.outcomes`.
Predict: TypeAlias = Callable[[Row], tuple[Any, int]]
Outputs: TypeAlias = npt.NDArray[np.float64]
Outcomes: TypeAlias = npt.NDArray[np.intp]


def predict_row(
    task: str, threshold: float, score: Callable[[Row], Any], link: Callable[[Any], Any]
) -> Predict:
    """A function from one encoded row to `link(score(row))` and its outcome.

    That is a probability and the decision (0 below `threshold`, else 1), the
    probabilities of all classes and the likeliest (of equal ones the first), or a
    value and 0. The function raises `ModelFailure` for an output that is no
    probability from 0 to 1, or of regression and ranking no finite number.
    """
    if task == "binary":
        return _decide(threshold, score, link)
    return _pick(score, link) if task == "multiclass" else _value(score, link)


def _decide(threshold: float, score: Callable[[Row], float], link: Callable[[float], float]) -> Predict:
    def predict(row: Row) -> tuple[float, int]:
        probability = link(score(row))
        if 0.0 <= probability < threshold:
            return probability, 0
        if threshold <= probability <= 1.0:
            return probability, 1
        raise _no_probability(probability)

    return predict


def _pick(score: Callable[[Row], Any], link: Callable[[Any], list[float]]) -> Predict:
    def predict(row: Row) -> tuple[list[float], int]:
        probabilities = link(score(row))
        for probability in probabilities:
            if not 0.0 <= probability <= 1.0:
                raise _no_probability(probability)
        return probabilities, probabilities.index(max(probabilities))

    return predict


def _value(score: Callable[[Row], float], link: Callable[[float], float]) -> Predict:
    isfinite = math.isfinite

    def predict(row: Row) -> tuple[float, int]:
        value = link(score(row))
        if isfinite(value):
            return value, 0
        raise _no_number(value)

    return predict


def judged_row(
    verdict: Callable[[float, Row], int], score: Callable[[Row], float], link: Callable[[float], float]
) -> Predict:
    """A function from one encoded row to its probability and the verdict of a policy (`Judge`) on it."""

    def predict(row: Row) -> tuple[float, int]:
        probability = link(score(row))
        if 0.0 <= probability <= 1.0:
            return probability, verdict(probability, row)
        raise _no_probability(probability)

    return predict


def outcomes_of(task: str, threshold: float, outputs: Outputs) -> Outcomes:
    """The outcome of each of n outputs, float64 [n], or [n, K] of K classes, as `predict_row` has it.

    Raises `ModelFailure` for the first row whose output is none.
    """
    if task in ("regression", "ranking"):
        _check(np.isfinite(outputs), outputs, _no_number)
        return np.zeros(len(outputs), dtype=np.intp)
    _check((outputs >= 0.0) & (outputs <= 1.0), outputs, _no_probability)  # of NaN both are false
    if task == "binary":
        return (outputs >= threshold).astype(np.intp)
    likeliest: Outcomes = outputs.argmax(axis=1)
    return likeliest


def _check(good: npt.NDArray[np.bool_], outputs: Outputs, failure: Callable[..., ModelFailure]) -> None:
    if not good.all():
        place = np.argwhere(~good)[0]
        raise failure(float(outputs[tuple(place)]), f" for row {place[0]}")


def _no_probability(value: float, where: str = "") -> ModelFailure:
    """What is answered instead of an output that is no probability."""
    return ModelFailure(
        f"expected a probability between 0 and 1 from the model, got {value!r}{where}: "
        "the model gives raw scores or no numbers; export it again with the link it needs"
    )


def _no_number(value: float, where: str = "") -> ModelFailure:
    return ModelFailure(f"expected a finite number from the model, got {value!r}{where}")
