"""Where the numbers of a pipeline's columns lie, read from its fitted transformers.

A parity report draws rows around these points: of a column scaled before the trees
the trees' own thresholds say nothing.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from export.sklearn.members import read_member
from export.sklearn.parts import parts
from export.sklearn.tables import column_transformers

_SPREAD = (-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0)
_KNOTS_AT_MOST = 1000
#: A transformer that leaves numbers as they are ("passthrough" is a FunctionTransformer when fitted).
_PLAIN = ("str", "FunctionTransformer", "SimpleImputer")


def used_columns(estimator: Any, names: Sequence[str]) -> set[str]:
    """The columns that reach the model: those that a ColumnTransformer in front of it does not drop."""
    if hasattr(estimator, "transformers_"):
        pairs = column_transformers(estimator, names)
        return {name for transformer, columns in pairs if transformer != "drop" for name in columns}
    if hasattr(estimator, "steps"):
        return used_columns(estimator.steps[0][1], names)
    inside = [
        getattr(member, "estimator", member)  # a calibrated one holds its classifier
        for attribute in ("estimators_", "calibrated_classifiers_")
        for member in _members(getattr(estimator, attribute, ()))
    ]
    if not inside or getattr(estimator, "passthrough", False) or hasattr(estimator, "estimators_features_"):
        return set(names)
    return {name for member in inside for name in used_columns(member, names)}


def _members(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        yield from value


def column_knots(estimator: Any, names: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """For each column the points its transformers and trees compare it with, ascending."""
    found: list[set[float]] = [set() for _ in names]
    for part in parts(estimator):
        for transformer, columns in _first_transformers(part, names):
            for i, points in zip(columns, _points(transformer, len(columns)), strict=False):
                found[i].update(points)
    for member in filter(None, map(read_member, parts(estimator))):
        thresholds = member.forest.thresholds()
        for place, i in _unchanged(estimator, names, len(thresholds)):
            found[i].update(thresholds[place])
    return tuple(_sample(sorted(value for value in points if math.isfinite(value))) for points in found)


def _sample(points: list[float]) -> tuple[float, ...]:
    return tuple(points[:: len(points) // _KNOTS_AT_MOST + 1])


def _unchanged(estimator: Any, names: Sequence[str], width: int) -> Iterator[tuple[int, int]]:
    """Where trees of this width read columns as they are: (feature of the trees, column)."""
    if width == len(names):
        yield from ((i, i) for i in range(width))
    for part in parts(estimator):
        places = getattr(part, "output_indices_", {})
        if max((place.stop for place in places.values()), default=0) != width:
            continue
        for (label, _, _), (transformer, columns) in zip(
            part.transformers_, column_transformers(part, names), strict=True
        ):
            place = places[label]
            if place.stop - place.start == len(columns) and type(transformer).__name__ in _PLAIN:
                yield from ((place.start + n, names.index(column)) for n, column in enumerate(columns))


def _first_transformers(part: Any, names: Sequence[str]) -> Iterator[tuple[Any, list[int]]]:
    """The transformers of a ColumnTransformer, or one that takes all columns, with the columns' positions."""
    for transformer, columns in column_transformers(part, names):
        yield transformer, [names.index(column) for column in columns]
    if hasattr(part, "transform") and getattr(part, "n_features_in_", 0) == len(names):
        yield part, list(range(len(names)))


def _points(transformer: Any, count: int) -> list[list[float]]:
    for step in (transformer, *(step for _, step in getattr(transformer, "steps", ()))):
        if getattr(step, "mean_", None) is not None and getattr(step, "scale_", None) is not None:
            return _around(step.mean_, step.scale_)
        if getattr(step, "center_", None) is not None and getattr(step, "scale_", None) is not None:
            return _around(step.center_, step.scale_)
        if hasattr(step, "data_min_"):
            ends: list[list[float]] = np.stack([step.data_min_, step.data_max_], axis=1).tolist()
            return ends
        if hasattr(step, "bin_edges_"):
            return [edges.tolist() for edges in step.bin_edges_]
        if hasattr(step, "quantiles_"):
            quantiles: list[list[float]] = np.asarray(step.quantiles_).T.tolist()
            return quantiles
    return [[] for _ in range(count)]


def _around(centre: Any, scale: Any) -> list[list[float]]:
    points: list[list[float]] = (np.outer(scale, _SPREAD) + np.asarray(centre)[:, None]).tolist()
    return points
