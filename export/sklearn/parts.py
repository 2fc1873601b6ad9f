"""The fitted estimators inside an estimator of scikit-learn."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from export.forest.fitted import is_fitted

_LIBRARIES = ("sklearn", "lightgbm", "xgboost")


def parts(estimator: Any, depth: int = 8) -> Iterator[Any]:
    """An estimator with all fitted ones inside it."""
    if depth and type(estimator).__module__.partition(".")[0] in _LIBRARIES:
        named = ("predict", "transform") if hasattr(estimator, "get_params") else ()  # a routing of metadata
        if any(hasattr(estimator, name) for name in named) and is_fitted(estimator):
            yield estimator
        if type(estimator).__module__.startswith("sklearn."):
            held = getattr(estimator, "__dict__", {})
            inside = [held[key] for key in held if key != "_preprocessor"]  # HistGradientBoosting's own
        else:
            inside = []  # a booster is no estimator
        for value in inside:
            for item in _flat(value):
                yield from parts(item, depth - 1)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, np.ndarray) and value.dtype == object:
        yield from value.ravel().tolist()
    else:
        yield value
