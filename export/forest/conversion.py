"""What every family's converter gives: a graph, its ground truth, and what is known of the rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from export.errors import ExportRefused
from export.forest.decided import Decided
from export.forest.evidence import lightgbm_names
from export.forest.extremes import EXTREMES
from export.forest.source import ModelSource
from export.forest.trees import Forest, Precision
from server.model.schema import Feature, Inferred, Schema

#: From here on a classifier's `predict` gives its second class: at 0.5, of two equal ones, the first.
ABOVE_HALF = math.nextafter(0.5, 1.0)


@dataclass(frozen=True)
class Conversion:
    """A trained model that can be served, before it is tested equal and written.

    `graph` makes the ONNX file from its `metadata_props`. `features` is what the
    model itself tells of its inputs, its ranges as inferred. `bound` is the
    largest accepted difference of a margin: 0 asks for equality to the bit.
    `record` is what of the training is worth telling (objective, trees, …).
    `forest`, where there is one, tells the parity report where values matter; else
    `knots` do. `output_bound` is the largest accepted difference after the link.
    `sampled` tells that a part is computed in float32, which is off by more the larger its numbers
    are: what is found on drawn rows then holds for such rows alone.
    `alone` is the source asked for one row at a time, where its own answers hang on the rows beside.
    `takes_missing` and `extremes` say which rows the library itself scores.
    `categories` are those that the model itself knows, by feature: a schema must
    have them in that order, which is that of their codes; `values` are these as the
    library had them, of whatever type.
    `decisions` are the names of a binary model's two answers, `threshold` the probability
    from which it gives the second, if it knows them; `decided` gives the classes of the library's
    own `predict`, if it has such.
    `ignored` are columns of the training table that the model drops.
    `gaps` are the features of which the model tells that training saw them missing.
    `contributions` gives what a row is explained from (`paths.py`), None of a model that has no such.
    """

    family: str
    task: str
    graph: Callable[[Mapping[str, str]], bytes]
    link: dict[str, Any]
    features: tuple[Feature, ...]
    source: ModelSource
    file: str
    content: bytes
    classes: tuple[str, ...] = ()
    forest: Forest | None = None
    knots: tuple[tuple[float, ...], ...] = ()
    precision: Precision = "float64"
    bound: float = 0.0
    output_bound: float = 0.0
    sampled: bool = False
    alone: ModelSource | None = None
    takes_missing: bool = True
    ignored: tuple[str, ...] = ()
    extremes: tuple[float, ...] = EXTREMES
    categories: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    values: Mapping[int, tuple[Any, ...]] = field(default_factory=dict)
    decisions: tuple[str, str] | None = None
    threshold: float | None = None
    decided: Decided | None = None
    gaps: frozenset[int] = frozenset()
    contributions: Callable[[], dict[str, npt.NDArray[Any]] | None] = lambda: None
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def schema(self) -> Schema:
        """The schema the model itself tells."""
        return Schema(
            (
                feature if self.takes_missing else replace(feature, nullable=False)
                for feature in self.features
            ),
            self.ignored,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names in the model's order."""
        return tuple(feature.name for feature in self.features)

    def named(self, names: Sequence[str]) -> "Conversion":
        """The same with the names of training, where LightGBM's text has `_` for a blank and the like."""
        if self.family != "lightgbm" or lightgbm_names(names) != self.names:
            return self
        features = (replace(f, name=name) for f, name in zip(self.features, names, strict=True))
        return replace(self, features=tuple(features))

    @property
    def codes(self) -> frozenset[int]:
        """The features with categorical splits: exact for integers, which the schema must demand."""
        return frozenset(self.forest.members()) if self.forest else frozenset()


def by_labels(labels: tuple[str, ...]) -> dict[str, Any]:
    """What follows for a conversion from the labels of a classifier, none of a regressor."""
    if len(labels) == 1:
        raise ExportRefused("expected at least two classes, got a classifier of one: fit it on rows of both")
    return {
        "task": "multiclass" if len(labels) > 2 else "binary" if labels else "regression",
        "classes": labels if len(labels) > 2 else (),
        "decisions": labels if len(labels) == 2 else None,
    }


def class_names(task: str, count: int, *known: Sequence[str]) -> tuple[str, ...]:
    """The classes of a multiclass model by the first names that are known, else their numbers."""
    if task != "multiclass":
        return ()
    names = tuple(next(filter(None, known), map(str, range(count))))
    if len(names) != count:
        raise wrong_names(count, len(names))
    return names


def two_labels(task: str, labels: Sequence[str]) -> tuple[str, str] | None:
    """The decisions of a binary model by the labels of its two classes, None where those are 0 and 1."""
    if task != "binary" or len(labels) != 2 or set(labels) <= {"0", "1", "0.0", "1.0", "False", "True"}:
        return None
    return labels[0], labels[1]


def threshold_feature(name: str, thresholds: list[float]) -> Feature:
    """A number that lies, as is inferred, where a model compares it."""
    finite = [value for value in thresholds if math.isfinite(value)]
    if not finite:
        return Feature(name)
    low, high = min(finite), max(finite)
    return Feature(name, default=finite[len(finite) // 2], inferred=Inferred(minimum=low, maximum=high))


def wrong_names(classes: int, given: int) -> ExportRefused:
    """The refusal of so many names for so many classes."""
    return ExportRefused(
        f"expected names of {classes} classes, got {given}: list them in their order with --classes, or none"
    )
