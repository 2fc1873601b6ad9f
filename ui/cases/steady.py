"""How a decision bears small errors of entry: each number a little off, scored in one call."""

import math

import numpy as np

from server.model.predictor import Predictor
from server.model.schema import Row
from ui.cases.flip import MAX_FEATURES, margins_of

#: So far off is each number, up and down: a slip, such as a repayment without its fee.
ERROR = 0.05


class Steadiness:
    """Tries the errors for one binary model. `order` names the features, the most important first."""

    def __init__(self, predictor: Predictor, order: list[str]) -> None:
        self._predictor = predictor
        schema = predictor.bundle.schema
        numbers = [schema[name] for name in order if schema[name].form_kind in ("number", "integer")]
        self._numbers = [(schema.names.index(f.name), f) for f in numbers[:MAX_FEATURES]]

    async def turning(self, row: Row) -> list[str]:
        """The features of which an error alone would lead to another decision on one encoded row."""
        values = np.frombuffer(row)
        cases: list[tuple[str, int, float]] = []
        for i, feature in self._numbers:
            value, (low, high) = float(values[i]), feature.range
            off = [] if math.isnan(value) else [value * (1 - ERROR), value * (1 + ERROR)]
            if feature.form_kind == "integer":
                off = [float(round(other)) for other in off]
            cases += [(feature.name, i, other) for other in off if other != value and low <= other <= high]
        if not cases:
            return []
        rows = np.tile(values, (len(cases), 1))
        rows[np.arange(len(cases)), [i for _, i, _ in cases]] = [other for _, _, other in cases]
        margins = await margins_of(self._predictor, rows)
        now = self._predictor.predict(row)[1]
        outcomes = self._predictor.outcomes(self._predictor.output_array(margins), rows).tolist()
        return list(
            dict.fromkeys(name for (name, _, _), then in zip(cases, outcomes, strict=True) if then != now)
        )
