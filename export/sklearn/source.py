"""A fitted estimator of scikit-learn, as the ground truth of a parity report."""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]  # ships no types
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from export.forest.decided import places
from export.forest.source import JsonRows, ModelSource, number_columns, number_matrix
from export.sklearn.tables import Finite, as_trained
from server.model.link import Margins
from server.model.schema import Feature, Matrix, Schema


class FittedSource:
    """A fitted estimator, fed a matrix, or a frame of named columns where it was fitted on one.

    `finite` are the values of the columns of categories; those in `native` were of
    pandas' type category. `raw` are the sums of leaves of a table of rows where trees
    come last, else the margins are the outputs. `columns` are those it was fitted on, where
    these are more than the features: it drops the others, which stand there without a value.
    """

    def __init__(
        self,
        estimator: Any,
        features: tuple[Feature, ...],
        finite: Finite,
        native: Collection[str] = (),
        raw: Callable[[Any], Margins] | None = None,
        columns: Sequence[str] = (),
    ) -> None:
        self._estimator = estimator
        self._finite = finite
        self._native = native
        self.features = features
        self._raw = raw
        self._columns = columns or [feature.name for feature in features]
        self._named = hasattr(estimator, "feature_names_in_")

    def margins(self, rows: Matrix) -> Margins:
        """Probabilities, values or sums of leaves, float64 [n] or [n, K], of rows float64 [n, F]."""
        if self._raw is None:
            return self.outputs(rows)
        with threadpool_limits(1):
            return self._raw(self.table(rows))

    def outputs(self, rows: Matrix) -> Margins:
        """`predict_proba` (of two classes the second), or `predict`."""
        with threadpool_limits(1):
            return predicted(self._estimator, self.table(rows))

    def predictions(self, rows: JsonRows, schema: Schema) -> Margins:
        """The prediction of a table as in training: categories as the values they were; see `Source`."""
        if self._is_matrix():
            return self.outputs(number_matrix(rows, schema))
        columns: dict[str, Any] = number_columns(rows, schema)
        for name, values in self._finite.items():
            known = {str(value): value for value in values}
            cells = [row.get(name) for row in rows]
            columns[name] = self._cells(
                name, [None if cell is None else known.get(str(cell), cell) for cell in cells]
            )
        with threadpool_limits(1):
            return predicted(self._estimator, self._as_fitted(columns))

    def table(self, rows: Matrix) -> Any:
        """Encoded rows, float64 [n, F], as the matrix or the frame that the estimator was fitted on."""
        if self._is_matrix():
            return rows
        columns = zip(self.features, rows.T, strict=True)
        return self._as_fitted({f.name: self._column(f, values) for f, values in columns})

    def _is_matrix(self) -> bool:
        return not self._named and not self._finite and len(self._columns) == len(self.features)

    def _as_fitted(self, columns: Mapping[str, Any]) -> Any:
        count = len(next(iter(columns.values())))
        frame = pd.DataFrame({name: columns.get(name, [np.nan] * count) for name in self._columns})
        return frame if self._named else frame.to_numpy()

    def _column(self, feature: Feature, codes: Matrix) -> Any:
        values = self._finite.get(feature.name)
        if values is None:
            return codes
        cells = [None if code != code else values[int(code)] for code in codes.tolist()]
        return self._cells(feature.name, cells)

    def _cells(self, name: str, cells: list[Any]) -> Any:
        if name in self._native:
            return pd.Categorical(cells, categories=list(self._finite[name]))
        return as_trained(cells)


def predicted_classes(model: Any, source: ModelSource, rows: Matrix) -> npt.NDArray[np.int64]:
    """The places [n] of the classes that the whole model predicts of encoded rows float64 [n, F]."""
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"), threadpool_limits(1):
        warnings.simplefilter("ignore")  # "X does not have valid feature names": ours are positions
        return places(model.predict(source.table(rows)), model.classes_)


def predicted(estimator: Any, rows: Any) -> Margins:
    """Probabilities or values of any scikit-learn estimator, float64 [n] or [n, K]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "X does not have valid feature names": ours are positions
        if not hasattr(estimator, "classes_"):
            values = np.asarray(estimator.predict(rows), dtype=np.float64)
            return values[:, 0] if values.ndim > 1 and values.shape[1] == 1 else values
        probabilities = np.asarray(estimator.predict_proba(rows), dtype=np.float64)
    return np.ascontiguousarray(probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities)
