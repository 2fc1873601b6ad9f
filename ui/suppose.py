"""What the model would answer: a row scored, and neither counted nor logged.

A supposition is no decision: the log, the counters and the drift figures are of
cases that somebody asked about, not of every place a slider passed.
"""

from typing import Any

import numpy as np

from server.predictor import Predictor
from server.schema import Row


def suppose(predictor: Predictor, row: Row) -> dict[str, Any]:
    """The members of the answer of `POST /predict` for one encoded row, without its id.

    Equal to it to the bit. Raises `ModelFailure` where a binary model gives no probability.
    """
    bundle = predictor.bundle
    if bundle.task == "binary":
        probability, outcome = predictor.predict(row)
        return {"probability": probability, "decision": bundle.outcomes[outcome], "model": bundle.label}
    margins = predictor.margins(np.frombuffer(row).reshape(1, -1))
    (output,) = predictor.outputs(margins)
    if isinstance(output, list):
        prediction = bundle.outcomes[output.index(max(output))]
        return {"probabilities": output, "prediction": prediction, "model": bundle.label}
    return {"prediction": output, "model": bundle.label}
