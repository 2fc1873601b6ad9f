"""scikit-learn models: tree ensembles exactly, everything else through skl2onnx."""

from functools import partial
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor

from export.errors import ExportRefused
from export.forest.conversion import Conversion, by_labels, threshold_feature, wrong_names
from export.forest.evidence import Evidence
from export.forest.extremes import EXTREMES, EXTREMES_32
from export.forest.fitted import is_fitted
from export.forest.graph import build_graph
from export.forest.paths import path_arrays
from export.sklearn.members import evidence_of_columns
from export.sklearn.parts import parts
from export.sklearn.pipeline import OUTPUT_BOUND, convert_pipeline
from export.sklearn.source import FittedSource
from export.sklearn.trees import Ensemble, raw_scores, read_ensemble
from server.model.schema import Feature


def convert_sklearn(
    estimator: Any,
    file: str,
    content: bytes,
    *,
    classes: tuple[str, ...] = (),
    evidence: Evidence = Evidence(),  # noqa: B008  # frozen
) -> Conversion:
    """The conversion of a fitted estimator, `content` being the file it came from.

    `evidence` tells which column held which pandas categories where a LightGBM inside does not.

    Raises `ExportRefused` for what is no fitted classifier or regressor, or what
    neither we nor skl2onnx convert.
    """
    evidence_of_columns.set(evidence)
    kind = type(estimator).__name__
    is_estimator = hasattr(estimator, "predict") and hasattr(estimator, "__sklearn_tags__")
    if not is_estimator or not (is_classifier(estimator) or is_regressor(estimator)):
        raise ExportRefused(
            f"expected a classifier or regressor of scikit-learn, got {kind}: put one behind it, or make "
            "an ONNX "
            "file of it whose output is the score"
        )
    if not is_fitted(estimator):
        raise ExportRefused(f"expected a fitted model, got {kind} before its fit: call fit, then save it")
    if not hasattr(estimator, "n_features_in_"):
        raise ExportRefused(
            f"expected a model of columns of numbers or categories, got {kind} of others: make columns of "
            "them outside of the model"
        )
    for part in (estimator, *parts(estimator)):
        if hasattr(part, "n_jobs"):
            part.n_jobs = 1  # more threads add the trees in any order
        if isinstance(getattr(part, "weights", None), list):
            part.weights = np.asarray(part.weights)  # of a vote: skl2onnx takes their sum
    if hasattr(estimator, "classes_") and not hasattr(estimator, "predict_proba"):
        last = type(estimator.steps[-1][1]).__name__ if hasattr(estimator, "steps") else kind
        how = (
            'fit it with voting="soft"'
            if last == "VotingClassifier"
            else "fit it in a CalibratedClassifierCV"
        )
        raise ExportRefused(f"expected a classifier with predict_proba, got {last} without: {how}")
    named = classes or tuple(map(str, getattr(estimator, "classes_", ())))
    if hasattr(estimator, "classes_") and len(named) != len(estimator.classes_):
        raise wrong_names(len(estimator.classes_), len(named))
    ensemble = read_ensemble(estimator)
    if ensemble is None:
        return convert_pipeline(estimator, file, content, named)
    return _exact(estimator, ensemble, file, content, named)


def _exact(
    estimator: Any, ensemble: Ensemble, file: str, content: bytes, classes: tuple[str, ...]
) -> Conversion:
    forest = ensemble.forest
    is_histogram = not forest.rounded
    features = _features(estimator, ensemble)
    finite = {features[i].name: values for i, values in ensemble.categories.items()}
    raw = partial(raw_scores, estimator)
    return Conversion(
        family="scikit-learn",
        **by_labels(classes),
        graph=lambda metadata: build_graph(forest, metadata),
        link=ensemble.link,
        features=features,
        source=FittedSource(estimator, features, finite, raw=raw),
        categories={i: features[i].categories for i in ensemble.categories},
        file=file,
        content=content,
        forest=forest,
        contributions=lambda: path_arrays(forest, divisor=ensemble.link.get("divisor", 1)),
        precision="float32" if forest.rounded else "float64",
        output_bound=OUTPUT_BOUND,
        takes_missing=is_histogram or bool(estimator.__sklearn_tags__().input_tags.allow_nan),
        extremes=EXTREMES if is_histogram else EXTREMES_32,
        record={"estimator": type(estimator).__name__, "trees": len(forest.trees)},
    )


def _features(estimator: Any, ensemble: Ensemble) -> tuple[Feature, ...]:
    names = getattr(estimator, "feature_names_in_", None)
    width = ensemble.forest.width
    texts = [f"f{i}" for i in range(width)] if names is None else list(map(str, names))
    thresholds, known = ensemble.forest.thresholds(), ensemble.categories
    return tuple(
        Feature(text, "category", categories=tuple(map(str, known[i])), default=str(known[i][0]))
        if known.get(i)
        else threshold_feature(text, thresholds[i])
        for i, text in enumerate(texts)
    )
