"""Takes a model's reference from its training rows, and reads it from its bundle."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from server.errors import BundleError
from server.model.bundle import REFERENCE_FILE, Bundle
from server.model.distribution import Distribution, Reference
from server.model.joint import joint_of
from server.model.schema import Feature, Matrix, Schema

#: Tenths, as the population stability index is usually taken.
BINS = 10
#: One value in a hundred, and ten of them, are a heap: the least, zero or the largest then has a bin.
HEAP_SHARE, HEAP_ROWS = 0.01, 10


def reference_of_rows(schema: Schema, matrix: Matrix, scores: npt.NDArray[np.float64]) -> Reference:
    """The distributions of [n, F] encoded rows and their n scores."""
    columns = zip(schema.features, matrix.T, strict=True)
    features = {f.name: _of_feature(f, values) for f, values in columns}
    joint = joint_of(schema, matrix, features).to_dict()
    return Reference(features, Distribution.from_values(scores, _quantiles(scores)), joint)


def read_reference(bundle: Bundle) -> Reference | None:
    """The reference of a bundle, None if it has none."""
    if REFERENCE_FILE not in bundle.manifest["files"]:
        return None
    try:
        found = Reference.from_dict(bundle.read_json(REFERENCE_FILE))
        tolerances = {feature.name: feature.drift_tolerance for feature in bundle.schema.features}
        features = {name: replace(d, tolerance=tolerances.get(name)) for name, d in found.features.items()}
        return replace(found, features=features)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BundleError(
            f"expected distributions of all features in {bundle.directory / REFERENCE_FILE}, "
            f"got something else ({error!r})"
        ) from None


def _of_feature(feature: Feature, values: npt.NDArray[np.float64]) -> Distribution:
    found = Distribution.from_values(values, _edges(feature, values))
    present = values[~np.isnan(values)]
    if feature.kind in ("category", "flag") or not len(present):
        return found
    return replace(found, low=float(present.min()), high=float(present.max()))


def _edges(feature: Feature, values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    codes = {"category": len(feature.categories), "flag": 2}.get(feature.form_kind)
    if codes is None:
        return _quantiles(values)
    return tuple(code + 0.5 for code in range(codes - 1))


def _quantiles(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """The inner quantiles, each once; a value as frequent as several bins fills one."""
    present = values[~np.isnan(values)]
    if not len(present):
        return ()
    # "lower" gives values that occur, so that heaps such as 0 end a bin of their own.
    inner = np.quantile(present, np.arange(1, BINS) / BINS, method="lower")
    # An edge at the maximum would leave the bin above it empty.
    edges = {*inner.tolist(), *_around_heaps(present)}
    return tuple(sorted(edge for edge in edges if edge < present.max()))


def _around_heaps(present: npt.NDArray[np.float64]) -> Iterator[float]:
    """The edges that part heaps from what tenths would put beside them: a heap, and what comes before it."""
    values, counts = np.unique(present, return_counts=True)
    candidates = np.isin(values, (values[0], 0.0, values[-1]))
    heaps = (counts >= HEAP_ROWS) & (counts >= HEAP_SHARE * len(present)) & candidates
    for place in np.flatnonzero(heaps):
        yield from values[max(0, place - 1) : place + 1].tolist()
