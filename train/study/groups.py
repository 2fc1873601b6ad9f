"""Decisions and errors by group of people."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.evaluation.cost import Vector
from export.evaluation.evaluate import part_of_group
from train.tables.rows import Group, Rows

Masks: TypeAlias = dict[str, npt.NDArray[np.bool_]]


def by_group(rows: Rows, scores: Vector, threshold: float) -> dict[str, Any]:
    """For each group of the inputs and each of its parts: size, defaults, mean score and decision rates.

    A part without rows is left out.
    """
    return {
        group.name: {
            label: part_of_group(rows.target[members], scores[members], threshold)
            for label, members in _masks(rows, group).items()
            if members.any()
        }
        for group in rows.inputs.groups
    }


def _masks(rows: Rows, group: Group) -> Masks:
    if group.feature in rows.watched:
        words = rows.watched[group.feature]
        return {part: words == part for part in group.parts} | {"missing": words == ""}
    column = rows.inputs.schema.names.index(group.feature)
    values = rows.features[:, column]
    absent = {"missing": np.isnan(values)}
    if group.bands:
        return _bands(values, group.bands) | absent
    feature = rows.inputs.schema.features[column]
    labels = (feature.category_labels or feature.categories) if feature.kind == "category" else ("no", "yes")
    return {label: values == code for code, label in enumerate(labels)} | absent


def _bands(values: Vector, lower: tuple[float, ...]) -> Masks:
    ends = (*lower[1:], np.inf)
    return {
        _band_label(low, high, first=i == 0): (values >= (-np.inf if i == 0 else low)) & (values < high)
        for i, (low, high) in enumerate(zip(lower, ends, strict=True))
    }


def _band_label(low: float, high: float, *, first: bool) -> str:
    if first:
        return f"under {high:g}"
    return f"{low:g} and over" if np.isinf(high) else f"{low:g} to under {high:g}"
