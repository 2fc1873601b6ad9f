"""Values of each feature to try: where its sliders stop, and where a decision may turn."""

import math
from itertools import pairwise

import numpy as np

from server.model.predictor import Predictor
from server.model.reference import read_reference
from server.model.schema import Feature

#: Stops between two neighbouring knots; with some twenty knots about a hundred in all.
_STOPS = 5
_MOST = 100
_DIGITS = 3
#: Golden rows reach into extremes, to prove them; a slider need not.
_SHARES = np.linspace(0.03, 0.97, 11)


class Grids:
    """The grid of every feature of one model, ascending values as the model sees them.

    Numbers stop at the tenths of the training distribution and of the golden rows
    and between them, so that equal steps are equally many people, and at figures
    a person would name (three digits).
    """

    def __init__(self, predictor: Predictor) -> None:
        bundle = predictor.bundle
        reference = read_reference(bundle)
        golden = np.array([np.frombuffer(bundle.schema.encode(g.fields)) for g in bundle.golden_rows()])
        self.values: dict[str, list[float]] = {}
        for i, feature in enumerate(bundle.schema.features):
            known = reference.features.get(feature.name) if reference else None
            seen = golden[:, i][~np.isnan(golden[:, i])]
            self.values[feature.name] = _grid(feature, known.edges if known else (), seen)

    def place(self, name: str, value: float) -> float:
        """Where a value stands among the feature's, from 0 to 1; the middle for an unknown one."""
        grid = self.values[name]
        if math.isnan(value) or len(grid) < 2:
            return 0.5
        return float(np.interp(value, grid, np.linspace(0.0, 1.0, len(grid))))


def _grid(
    feature: Feature, edges: tuple[float, ...], seen: "np.ndarray[tuple[int], np.dtype[np.float64]]"
) -> list[float]:
    if feature.kind == "category":
        return [float(code) for code in range(len(feature.categories))]
    if feature.form_kind == "flag":
        return [0.0, 1.0]
    knots = sorted({*edges, *(np.quantile(seen, _SHARES).tolist() if len(seen) else ())}) or [0.0, 1.0]
    knots = [*knots, *_ends(feature)] if len(knots) == 1 else knots
    stops = np.concatenate([np.linspace(a, b, _STOPS) for a, b in pairwise(knots)])
    low, high = feature.range
    whole = feature.form_kind == "integer"
    named = {_named(float(stop), whole) for stop in stops}
    kept = sorted(stop for stop in named if low <= stop <= high) or [max(low, min(high, knots[0]))]
    return kept[:: math.ceil(len(kept) / _MOST)]


def _ends(feature: Feature) -> list[float]:
    """Something beside the one value that was ever seen."""
    return [bound for bound in feature.form_range if bound is not None and abs(bound) < 1e6]


def _named(value: float, whole: bool) -> float:
    if value == 0.0:
        return 0.0
    digits = _DIGITS - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return float(round(rounded)) if whole else rounded
