"""Fitted transformers as three plain ones: chosen columns, an affine map, distances to centres.

What skl2onnx does not know, or takes for a model because it also predicts, is none of it:
a selection gives columns as they are, and most decompositions are one product of matrices.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from export.sklearn.parts import parts
from export.sklearn.transformers.operators import Formulas, Operators
from server.model.schema import Matrix


class Selection(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """The columns at these places, as they are."""

    def __init__(self, places: npt.NDArray[np.int64]) -> None:
        self.places = places

    def fit(self, _rows: Any, _target: Any = None) -> "Selection":
        """Nothing is left to learn."""
        return self

    def transform(self, rows: Matrix) -> Matrix:
        """Rows float64 [n, K] of the chosen columns."""
        return rows[:, self.places]


class Affine(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # as above
    """`(x - centre) @ matrix`."""

    def __init__(self, centre: Matrix | float, matrix: Matrix) -> None:
        self.centre = centre
        self.matrix = matrix


class Distances(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # as above
    """Euclidean distances to `centres`, one a row."""

    def __init__(self, centres: Matrix) -> None:
        self.centres = centres


def replace_plain(estimator: Any) -> None:
    """Put plain transformers in the place of those inside a fitted estimator that are no more than that.

    The last step of a pipeline stays: it may be the model.
    """
    for part in parts(estimator):
        if hasattr(part, "steps"):
            part.steps = [*((name, plain(step)) for name, step in part.steps[:-1]), part.steps[-1]]
        if hasattr(part, "transformers_"):
            part.transformers_ = [(name, _all_plain(step), at) for name, step, at in part.transformers_]
        if hasattr(part, "transformer_list"):
            part.transformer_list = [(name, _all_plain(step)) for name, step in part.transformer_list]


def _all_plain(transformer: Any) -> Any:
    """The same of a transformer that may be a pipeline, whose last step is a transformer too."""
    if not hasattr(transformer, "steps"):
        return plain(transformer)
    name, last = transformer.steps[-1]
    transformer.steps = [*transformer.steps[:-1], (name, _all_plain(last))]
    return transformer


def plain(transformer: Any) -> Any:
    """The plain transformer that gives the same, or this one where there is none."""
    if not type(transformer).__module__.startswith("sklearn."):
        return transformer
    if hasattr(transformer, "get_support"):
        return Selection(np.flatnonzero(transformer.get_support()))
    made = _KINDS.get(type(transformer).__name__, lambda _: None)(transformer)
    return transformer if made is None else made


def _ica(fitted: Any) -> Affine:
    return Affine(fitted.mean_ if fitted.whiten else 0.0, fitted.components_.T)


def _factors(fitted: Any) -> Affine:
    # scikit-learn, `FactorAnalysis.transform`: Bishop, 12.66.
    scaled = fitted.components_ / fitted.noise_variance_
    covariance = np.linalg.inv(np.eye(len(scaled)) + scaled @ fitted.components_.T)
    return Affine(fitted.mean_, scaled.T @ covariance)


def _discriminant(fitted: Any) -> Affine | None:
    if not hasattr(fitted, "scalings_"):  # least squares have no transform
        return None
    centre = fitted.xbar_ if fitted.solver == "svd" else 0.0
    return Affine(centre, fitted.scalings_[:, : fitted._max_components])


def _means(fitted: Any) -> Affine | None:
    if fitted.pooling_func is not np.mean:
        return None
    marks = fitted.labels_[:, None] == np.arange(fitted.labels_.max() + 1)
    return Affine(0.0, marks / marks.sum(axis=0))


def _projection(fitted: Any) -> Affine:
    dense = fitted.components_.toarray() if hasattr(fitted.components_, "toarray") else fitted.components_
    return Affine(0.0, dense.T)


_KINDS: dict[str, Callable[[Any], Affine | Distances | None]] = {
    "FactorAnalysis": _factors,
    "FastICA": _ica,
    "FeatureAgglomeration": _means,
    "GaussianRandomProjection": _projection,
    "LinearDiscriminantAnalysis": _discriminant,
    "SparseRandomProjection": _projection,
    "Birch": lambda fitted: Distances(fitted.subcluster_centers_),
    "BisectingKMeans": lambda fitted: Distances(fitted.cluster_centers_),
    "KMeans": lambda fitted: Distances(fitted.cluster_centers_),
    "MiniBatchKMeans": lambda fitted: Distances(fitted.cluster_centers_),
}


def _chosen(add: Operators, fitted: Selection) -> str:
    return add.columns(add.rows(), fitted.places)


def _mapped(add: Operators, fitted: Affine) -> str:
    rows = add("Sub", add.rows(), add.constant(np.atleast_1d(fitted.centre)))
    return add("MatMul", rows, add.constant(fitted.matrix))


def _distant(add: Operators, fitted: Distances) -> str:
    """The operations of `sklearn.metrics.pairwise.euclidean_distances`, in their order."""
    rows, axis = add.rows(), add.constant([1], np.int64)
    products = add("Mul", add("MatMul", rows, add.constant(fitted.centres.T)), add.constant([-2.0]))
    squares = add("ReduceSum", add("Mul", rows, rows), axis, keepdims=1)
    lengths = add.constant(np.einsum("ij,ij->i", fitted.centres, fitted.centres)[None, :])
    total = add("Add", add("Add", products, squares), lengths)
    return add("Sqrt", add("Max", total, add.constant([0.0])))


PLAIN: Formulas = {
    Selection: (lambda fitted, _: len(fitted.places), _chosen),
    Affine: (lambda fitted, _: fitted.matrix.shape[1], _mapped),
    Distances: (lambda fitted, _: len(fitted.centres), _distant),
}
