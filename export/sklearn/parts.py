"""The fitted estimators inside an estimator of scikit-learn."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from export.forest.fitted import is_fitted

LIBRARIES = ("sklearn", "lightgbm", "xgboost")


def parts(estimator: Any) -> Iterator[Any]:
    """An estimator with all fitted ones inside it, each once: a vote has two lists of its members."""
    return _parts(estimator, 8, {})


def _parts(estimator: Any, depth: int, seen: dict[int, Any]) -> Iterator[Any]:
    """`seen` keeps what it holds alive: another object would else get its number."""
    if depth and id(estimator) not in seen and type(estimator).__module__.partition(".")[0] in LIBRARIES:
        seen[id(estimator)] = estimator
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
                yield from _parts(item, depth - 1, seen)


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
