"""Limits of what is usual, read off the training data where a policy says quantiles alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from export.errors import ExportRefused
from export.reading.describe import did_you_mean
from export.reading.forms import is_number
from server.errors import listed
from server.model.schema import Feature, Matrix

#: Kinds of which a value can lie outside of the others.
_NUMBERS = ("number", "integer")


def with_limits(
    policy: Mapping[str, Any], features: Sequence[Feature], rows: Matrix | None
) -> Mapping[str, Any]:
    """The policy with `unusual.limits` of each feature, read off the data where only `outside` is written.

    `rows` are those of training, float64 [n, F], NaN where a value is missing.
    `limits` may be a list of features, or be absent, which means all numbers. Raises `ExportRefused`
    for quantiles that are none, and where there is no data to read them off.
    """
    unusual = policy.get("unusual")
    if not isinstance(unusual, dict) or isinstance(unusual.get("limits"), dict):
        return policy
    low, high = _quantiles(unusual.get("outside"))
    names = _names(unusual.get("limits"), features)
    if rows is None:
        raise ExportRefused(
            "expected --data, of which the quantiles of unusual.outside are taken, or limits of each feature "
            "({limits: {income: [100, 9000]}}) in the description, got neither"
        )
    columns = {f.name: column for f, column in zip(features, rows.T, strict=True) if f.name in names}
    limits = {
        name: [
            float(np.nanquantile(values, low, method="lower")),
            float(np.nanquantile(values, high, method="higher")),
        ]
        for name, values in columns.items()
        if not np.isnan(values).all()
    }
    return {**policy, "unusual": {**unusual, "limits": limits}}


def _quantiles(written: Any) -> tuple[float, float]:
    if not isinstance(written, list) or len(written) != 2 or not all(map(is_number, written)):
        raise ExportRefused(
            "expected unusual to have limits by feature ({limits: {income: [100, 9000]}}), or two quantiles "
            f"of the training data as outside ([0.001, 0.999]), got {repr(written)[:60]} as outside"
        )
    low, high = written
    if not 0.0 <= low < high <= 1.0:
        raise ExportRefused(
            f"expected two quantiles from 0 to 1 that rise as unusual.outside, got {low:g} and {high:g}"
        )
    return low, high


def _names(written: Any, features: Sequence[Feature]) -> set[str]:
    numbers = {feature.name for feature in features if feature.form_kind in _NUMBERS}
    if written is None:
        return numbers
    if not isinstance(written, list) or not all(isinstance(name, str) for name in written):
        raise ExportRefused(
            "expected unusual.limits to be the least and the largest value by feature, or a list of "
            f"features, got {repr(written)[:60]}"
        )
    for name in written:
        if name not in numbers:
            hint = did_you_mean(name, numbers) or f"they are {listed(sorted(numbers))}"
            raise ExportRefused(
                f"expected unusual.limits to name numbers among the inputs, got {name!r}: {hint}"
            )
    return set(written)
