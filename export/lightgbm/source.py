"""LightGBM itself, as the ground truth of a parity report."""

from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # ships no types

from export.errors import ExportRefused
from export.forest.source import JsonRows, category_column, number_columns
from server.model.link import Margins
from server.model.schema import Matrix, Schema


class LightGBMSource:
    """A LightGBM model loaded from its text, predicting on one thread in float64.

    `categories` are the pandas categories of the columns that held some, in their order.
    """

    def __init__(self, text: str, categories: Mapping[int, tuple[Any, ...]] | None = None) -> None:
        self._categories = categories or {}
        try:
            self._booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise ExportRefused(
                f"expected a model LightGBM can load, got: {error}; save it again with save_model"
            ) from None

    def margins(self, rows: Matrix) -> Margins:
        """Raw scores, float64 [n] or [n, K], of float64 rows [n, F]."""
        return np.asarray(self._booster.predict(rows, raw_score=True, num_threads=1))

    def outputs(self, rows: Matrix) -> Margins:
        """Scores after the objective's link, float64 [n] or [n, K]."""
        return np.asarray(self._booster.predict(rows, num_threads=1))

    def table(self, rows: Matrix) -> Matrix:
        """The rows as they are: categories are their codes."""
        return rows

    def predictions(self, rows: JsonRows, schema: Schema) -> Margins:
        """`Booster.predict` of a pandas frame with the categories of training; see `Source`."""
        columns: dict[str, Any] = number_columns(rows, schema)
        for i, values in self._categories.items():
            columns[schema.names[i]] = category_column(rows, schema.names[i], values)
        return np.asarray(self._booster.predict(pd.DataFrame(columns), num_threads=1))
