"""Values of a feature at which a model's answer may change, and figures a person would name beside them."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from server.explain.contributions import arrays_of
from server.model.bundle import Bundle
from server.model.reference import read_reference
from server.model.schema import Feature

Limits = npt.NDArray[np.float64]
#: Values between two ends, of a model whose own thresholds are not known.
_EVEN = 16
#: A named figure lies within this share of the limit it stands for.
_NEAR = 0.02
_DIGITS = 17


def limits_of(bundle: Bundle, places: Iterable[int]) -> dict[int, Limits]:
    """Of the features in some places the values, ascending, on both sides of which the answer differs.

    One side is x <= limit, the other what is above. They are the thresholds of the model's trees; of
    another model the tenths of its training data, or even steps over the range of its form.
    """
    arrays = arrays_of(bundle) or {}
    if "feature" in arrays:
        owner = np.concatenate([arrays["feature"]] * 2)
        ends = np.concatenate([arrays["low"], arrays["high"]])
        finite = np.isfinite(ends)
        owner, ends = owner[finite], ends[finite]
        return {i: np.unique(ends[owner == i]) for i in places}
    reference = read_reference(bundle)
    known = reference.features if reference else {}
    features = {i: bundle.schema.features[i] for i in places}
    return {i: _even(f, known[f.name].edges if f.name in known else ()) for i, f in features.items()}


def _even(feature: Feature, edges: Sequence[float]) -> Limits:
    low, high = feature.form_range
    if edges:
        return np.unique(edges)
    if low is None or high is None:
        return np.zeros(0)
    return np.linspace(low, high, _EVEN)


def values_below(value: float, limits: Limits, feature: Feature) -> list[float]:
    """Smaller values, the nearest first, one in each interval of `limits`."""
    low, high = feature.range
    reached = limits[limits < value][::-1]
    before = [*reached[1:].tolist(), low - 1.0 if math.isfinite(low) else -math.inf]
    named = [
        _named(max(a, b - _window(b, feature)), b, feature, up=False)
        for a, b in zip(before, reached.tolist(), strict=False)
    ]
    return [x for x in named if x is not None and low <= x <= high]


def values_above(value: float, limits: Limits, feature: Feature) -> list[float]:
    """Larger values, the nearest first, one in each interval of `limits`."""
    low, high = feature.range
    reached = limits[limits >= value]
    after = [*reached[1:].tolist(), high]
    named = [
        _named(a, min(b, a + _window(a, feature)), feature, up=True)
        for a, b in zip(reached.tolist(), after, strict=False)
    ]
    return [x for x in named if x is not None and low <= x <= high]


def _window(limit: float, feature: Feature) -> float:
    """How far from a limit a figure may lie that stands for it; anywhere beside zero."""
    least = 1.0 if feature.form_kind == "integer" else 0.0
    return max(abs(limit) * _NEAR, least) or math.inf


def _named(low: float, high: float, feature: Feature, *, up: bool) -> float | None:
    """The roundest number above `low` and up to `high`, from the end that is nearer."""
    start = 0 if feature.form_kind == "integer" else _DIGITS
    largest = max(abs(end) for end in (low, high) if math.isfinite(end)) if math.isfinite(high - low) else 1e6
    first = math.ceil(math.log10(largest)) if largest > 0.0 else 0
    for power in range(first, -start - 1, -1):
        step = 10.0**power
        if not math.isfinite(low / step) or not math.isfinite(high / step):
            break
        found = round((math.floor(low / step) + 1 if up else math.floor(high / step)) * step, max(0, -power))
        if low < found <= high:
            return found
    if feature.form_kind == "integer":
        return None
    return math.nextafter(low, math.inf) if up else high
