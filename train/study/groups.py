"""Decisions and errors by group of people."""

from typing import Any

import numpy as np

from export.evaluation.by_limit import Masks, counts_by_limit
from export.evaluation.cost import Vector
from export.evaluation.evaluate import part_of_group
from train.tables.rows import Group, Rows


def by_group(rows: Rows, scores: Vector, threshold: float) -> dict[str, Any]:
    """For each group of the inputs and each of its parts: size, defaults, mean score and decision rates.

    A part without rows is left out.
    """
    return {
        name: {
            label: part_of_group(rows.target[members], scores[members], threshold)
            for label, members in masks.items()
            if members.any()
        }
        for name, masks in _masks(rows).items()
    }


def groups_by_limit(rows: Rows, scores: Vector, threshold: float) -> dict[str, Any]:
    """How many of each part of each group would be refused at other limits, too."""
    return counts_by_limit(rows.target, scores, _masks(rows), threshold)


def _masks(rows: Rows) -> dict[str, Masks]:
    return {group.name: _parts(rows, group) for group in rows.inputs.groups}


def _parts(rows: Rows, group: Group) -> Masks:
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


def _bands(values: Vector, lower: tuple[float, ...]) -> dict[str, Any]:
    ends = (*lower[1:], np.inf)
    return {
        _band_label(low, high, first=i == 0): (values >= (-np.inf if i == 0 else low)) & (values < high)
        for i, (low, high) in enumerate(zip(lower, ends, strict=True))
    }


def _band_label(low: float, high: float, *, first: bool) -> str:
    if first:
        return f"under {high:g}"
    return f"{low:g} and over" if np.isinf(high) else f"{low:g} to under {high:g}"
