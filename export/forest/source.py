"""The trained model itself: the ground truth a graph, and a client's row, are compared with."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import numpy as np

from server.model.link import Margins
from server.model.schema import Feature, Matrix, Schema

#: Rows as clients send them: values of JSON by the name of the feature.
JsonRows: TypeAlias = Sequence[Mapping[str, Any]]


class ModelSource(Protocol):
    """Predicts with the library that trained the model."""

    def margins(self, rows: Matrix) -> Margins:
        """Raw scores, float64 [n], or [n, K] of K classes, of encoded rows float64 [n, F]."""

    def outputs(self, rows: Matrix) -> Margins:
        """Scores after the link, float64 [n], or [n, K] of K classes, of encoded rows."""

    def table(self, rows: Matrix) -> Any:
        """Encoded rows, float64 [n, F], as the library's own `predict` takes them."""

    def predictions(self, rows: JsonRows, schema: Schema) -> Margins:
        """The library's own prediction of rows as clients send them, float64 [n] or [n, K].

        The rows are put into the kind of table the model was trained on; what a text or
        a missing value becomes there is the library's business, not `Schema.encode`'s.
        """


def as_sent(
    features: Sequence[Feature],
    source: ModelSource,
    lenient: Collection[str],
    refusals: tuple[type[Exception], ...],
) -> tuple[Feature, ...]:
    """Features as clients may send them: missing where the source scores a row without it, unless it refuses.

    A text that training never saw is missing in the columns named in `lenient`.
    """

    def scores_without(i: int) -> bool:
        row = np.array([[feature.minimum or 0.0 for feature in features]])
        row[0, i] = math.nan
        try:
            return bool(np.isfinite(source.outputs(row)).all())
        except refusals:
            return False

    return tuple(
        replace(feature, nullable=scores_without(i), unknown="missing" if feature.name in lenient else "")
        for i, feature in enumerate(features)
    )


def number_columns(rows: JsonRows, schema: Schema) -> dict[str, Matrix]:
    """Each feature as the column of numbers it was in training, NaN where it is missing.

    A text is the position of its category: only a schema that somebody wrote names
    the codes of a column that held numbers.
    """
    return {feature.name: _numbers(rows, feature) for feature in schema.features}


def category_column(rows: JsonRows, name: str, values: Sequence[Any]) -> Any:
    """A feature's texts as the pandas column of categories, `values`, that it was; missing for another."""
    import pandas as pd  # type: ignore[import-untyped]  # heavy, and for models of frames alone

    known = {str(value): value for value in values}
    cells = [None if row.get(name) is None else known.get(str(row[name])) for row in rows]
    return pd.Categorical(cells, categories=list(values))


def number_matrix(rows: JsonRows, schema: Schema) -> Matrix:
    """The columns of numbers side by side, float64 [n, F]."""
    return np.column_stack(list(number_columns(rows, schema).values()))


def _numbers(rows: JsonRows, feature: Feature) -> Matrix:
    codes = {text: float(code) for code, text in enumerate(feature.categories)}
    return np.array([_number(row.get(feature.name), codes) for row in rows], dtype=np.float64)


def _number(value: Any, codes: Mapping[str, float]) -> float:
    if value is None:
        return math.nan
    return codes.get(str(value), math.nan) if codes else float(value)
