"""Which encoded rows are acceptable: `Schema.encode`'s rules, for whole matrices at once."""

import numpy as np
import numpy.typing as npt

from server.errors import MAX_OF_MATRIX, FieldError, Reason, UnacceptableRow, not_acceptable
from server.model.schema import MAX_EXACT_INTEGER, Feature, Matrix, Schema


class Bounds:
    """The bounds of each feature as arrays: what `Schema.encode` would have refused is refused."""

    def __init__(self, schema: Schema) -> None:
        self._features = schema.features
        ends = np.array([limits(feature) for feature in schema.features])
        self._low, self._high = ends.T
        self._whole = np.flatnonzero([feature.kind != "number" for feature in schema.features])
        self._required = np.flatnonzero([not f.nullable and not f.unknown for f in schema.features])

    def bad(self, rows: Matrix) -> npt.NDArray[np.bool_]:
        """Which values of float64 [n, F] are not acceptable, bool [n, F]."""
        # Comparisons with NaN, a missing value, are false.
        bad: npt.NDArray[np.bool_] = (rows < self._low) | (rows > self._high)
        whole = rows[:, self._whole]
        bad[:, self._whole] |= (whole != np.floor(whole)) & ~np.isnan(whole)
        bad[:, self._required] |= np.isnan(rows[:, self._required])
        return bad

    def check(self, rows: Matrix) -> None:
        """Raise `UnacceptableRow`, with pointers `/row/feature`, if one of float64 [n, F] is bad."""
        bad = self.bad(rows)
        if not bad.any():
            return
        places = np.argwhere(bad)[:MAX_OF_MATRIX].tolist()
        errors = [self._error(row, column, bool(np.isnan(rows[row, column]))) for row, column in places]
        raise UnacceptableRow(not_acceptable(int(bad.sum()), "value"), errors=errors)

    def _error(self, row: int, column: int, missing: bool) -> FieldError:
        feature = self._features[column]
        expected = feature.expected
        if feature.kind == "category":
            numbers = feature.numbers
            if not numbers:
                expected += ", as text (BYTES): a number could be a category or the code of one"
            elif all(number == code for number, code in numbers.items()):
                expected = f"the code of a category, 0 to {len(numbers) - 1}"
        where = f"/{row}/{feature.name}"
        if missing:
            return FieldError(where, f"expected {expected}, got a missing value", "missing")
        reason: Reason = "category" if feature.kind == "category" else "range"
        return FieldError(where, f"expected {expected}, got a number outside of it", reason)


def limits(feature: Feature) -> tuple[float, float]:
    """The least and the largest encoded value of a feature, both included and finite."""
    if feature.kind == "category":
        return (0.0, float(len(feature.categories) - 1))
    if feature.kind == "flag":
        return (0.0, 1.0)
    low, high = feature.range
    # A finite limit also refuses the infinities.
    largest = float(MAX_EXACT_INTEGER) if feature.kind == "integer" else float(np.finfo(np.float64).max)
    return (max(low, -largest), min(high, largest))
