"""What the model would answer: a row scored, and neither counted nor logged.

A supposition is no decision: the log, the counters and the drift figures are of
cases that somebody asked about, not of every place a slider passed.
"""

from collections.abc import Mapping
from typing import Any

from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.schema import Row


def suppose(predictor: Predictor, row: Row) -> dict[str, Any]:
    """The members of the answer of `POST /predict` for one encoded row, without its id.

    Equal to it to the bit. Raises `ModelFailure` where the model gives no outcome.
    """
    bundle = predictor.bundle
    if predictor.judge is not None:
        probability, verdict = predictor.judged(row)
        return {"probability": probability} | predictor.judge.members(verdict) | {"model": bundle.label}
    output, outcome = predictor.predict(row)
    if bundle.task == "binary":
        return {"probability": output, "decision": bundle.outcomes[outcome], "model": bundle.label}
    if bundle.task == "multiclass":
        return {"probabilities": output, "prediction": bundle.outcomes[outcome], "model": bundle.label}
    return {"prediction": output, "model": bundle.label}


def is_adverse(bundle: Bundle, document: Mapping[str, Any]) -> bool:
    """Whether the score alone speaks against the case: then its principal reasons are due."""
    by_score = document.get("by_score", document.get("decision"))
    return bundle.task == "binary" and by_score != bundle.outcomes[0]
