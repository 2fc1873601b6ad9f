"""Refusals and errors by gender and age band."""

from typing import Any

import numpy as np
import numpy.typing as npt

from server.model.schema import Matrix
from train.cost import Vector
from train.evaluate import decisions, rounded
from train.features import SCHEMA

GENDER = SCHEMA.names.index("CODE_GENDER")
AGE = SCHEMA.names.index("AGE_YEARS")
#: Lower ends of the age bands, in years.
AGE_BANDS = (0, 30, 40, 50, 60)


def by_group(features: Matrix, target: Vector, scores: Vector, threshold: float) -> dict[str, Any]:
    """For each gender and each age band its size, defaults, mean score and decision rates.

    `features` is [n, F] in the order of `SCHEMA`; a group without clients is left out.
    """
    groups = {"gender": _genders(features[:, GENDER]), "age": _age_bands(features[:, AGE])}
    return {
        name: {
            label: _figures(target[members], scores[members], threshold)
            for label, members in masks.items()
            if members.any()
        }
        for name, masks in groups.items()
    }


def _figures(target: Vector, scores: Vector, threshold: float) -> dict[str, Any]:
    rates = decisions(target, scores, threshold)
    del rates["confusion"]
    figures = {
        "rows": len(target),
        "defaults": int(target.sum()),
        "default_rate": float(target.mean()),
        "mean_probability": float(scores.mean()),
        **rates,
    }
    return dict(rounded(figures))


def _genders(codes: Vector) -> dict[str, npt.NDArray[np.bool_]]:
    feature = SCHEMA.features[GENDER]
    return {label: codes == code for code, label in enumerate(feature.category_labels)}


def _age_bands(ages: Vector) -> dict[str, npt.NDArray[np.bool_]]:
    ends = (*AGE_BANDS[1:], np.inf)
    return {
        _band_label(low, high): (ages >= low) & (ages < high)
        for low, high in zip(AGE_BANDS, ends, strict=True)
    }


def _band_label(low: float, high: float) -> str:
    if not low:
        return f"under {high:.0f}"
    return f"{low:.0f} and over" if np.isinf(high) else f"{low:.0f} to {high - 1:.0f}"
