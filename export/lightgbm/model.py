"""LightGBM models: every objective with its own link, read from the model's text."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from export.errors import ExportRefused
from export.forest.conversion import Conversion, class_names, two_labels
from export.forest.evidence import Evidence
from export.forest.extremes import ZERO_BAND
from export.forest.graph import build_graph
from export.forest.paths import path_arrays
from export.forest.trees import Missing
from export.lightgbm.categories import pair
from export.lightgbm.linear import linear_tree_graph
from export.lightgbm.source import LightGBMSource
from export.lightgbm.text import Booster, atof, parse_booster
from server.model.bundle import SOURCE_FILE
from server.model.schema import Feature, Inferred, Kind

#: Objectives whose output is the margin, or `sign(margin) margin^2` with reg_sqrt.
_REGRESSION = {"regression", "regression_l1", "huber", "fair", "quantile", "mape", "custom", ""}
_EXPONENTIAL = {"poisson", "gamma", "tweedie"}
_RANKING = {"lambdarank", "rank_xendcg"}


def convert_lightgbm(
    text: str,
    *,
    classes: Sequence[str] = (),
    labels: Sequence[str] = (),
    record: dict[str, Any] | None = None,
    evidence: Evidence = Evidence(),  # noqa: B008  # frozen
) -> Conversion:
    """The conversion of a LightGBM model's text.

    `classes` name the classes of a multiclass model, else `labels`, those its training
    data had, else "0", "1", …; of a binary model labels that are words are the decisions. `evidence`
    tells which column held which pandas categories where the text does not.
    Raises `ExportRefused` for what is not proven equal.
    """
    booster = parse_booster(text)
    task, link = _task(booster)
    if booster.average > 1:
        link["divisor"] = booster.average
    columns = {i: values for i, values in pair(booster, evidence).items() if values}
    types = _missing_types(booster)
    texts = {i: tuple(map(str, values)) for i, values in columns.items()}
    thresholds = booster.forest.thresholds()
    return Conversion(
        family="lightgbm",
        task=task,
        graph=partial(linear_tree_graph if booster.forest.is_linear else build_graph, booster.forest),
        link=link,
        features=tuple(
            _feature(i, name, booster, texts.get(i, ()), thresholds[i], nullable=types.get(i) != {"none"})
            for i, name in enumerate(booster.feature_names)
        ),
        categories=texts,
        values=columns,
        source=LightGBMSource(text, columns),
        file=SOURCE_FILE,
        content=text.encode(),
        classes=class_names(task, booster.classes, classes, labels),
        decisions=two_labels(task, labels),
        forest=booster.forest,
        contributions=lambda: (
            None if booster.forest.is_linear else path_arrays(booster.forest, divisor=booster.average)
        ),
        gaps=frozenset(i for i, types in _missing_types(booster).items() if types & {"nan", "zero"}),
        record={
            "objective": booster.objective,
            "trees": len(booster.forest.trees),
            "iterations": len(booster.forest.trees) // booster.classes,
            **(record or {}),
        },
    )


def _task(booster: Booster) -> tuple[str, dict[str, Any]]:
    objective = booster.objective
    scale = atof(booster.objective_parameters.get("sigmoid", "1"))
    if booster.classes > 1:
        links: dict[str, dict[str, Any]] = {
            "multiclass": {"name": "softmax"},
            "multiclassova": {"name": "one_vs_all", "scale": scale},
        }
        if objective not in links:
            raise ExportRefused(
                f"expected objective multiclass or multiclassova of a model of {booster.classes} classes, "
                f"got {objective or 'none'}: the file was edited; save the model again"
            )
        return "multiclass", links[objective]
    if objective in ("binary", "cross_entropy"):
        return "binary", {"name": "logistic", "scale": scale}
    if objective in _EXPONENTIAL:
        return "regression", {"name": "exp"}
    if objective == "cross_entropy_lambda":
        return "regression", {"name": "log1p_exp"}
    if objective in _RANKING:
        return "ranking", {"name": "identity"}
    if objective in _REGRESSION:
        root = "sqrt" in booster.objective_parameters
        return "regression", {"name": "signed_square" if root else "identity"}
    raise ExportRefused(
        f"expected an objective whose output is known, got {objective}: train with binary, cross_entropy, "
        f"multiclass, multiclassova, {', '.join(sorted(filter(None, _EXPONENTIAL | _RANKING | _REGRESSION)))}"
    )


def _missing_types(booster: Booster) -> dict[int, set[Missing]]:
    """How the numerical splits of each feature take missing values: "none" if training saw no gap.

    A categorical split says "nan" also where some categories were too rare, and only its
    "none" tells something. Nothing is known of a feature without splits, or without
    `use_missing`.
    """
    found: dict[int, set[Missing]] = {}
    for split in booster.forest.splits() if booster.uses_missing else ():
        if not split.members or split.missing == "none":
            found.setdefault(split.feature, set()).add(split.missing)
    return found


def _feature(
    i: int,
    name: str,
    booster: Booster,
    categories: tuple[str, ...],
    thresholds: Sequence[float],
    *,
    nullable: bool,
) -> Feature:
    if categories:
        return Feature(name, "category", categories=categories, default=categories[0], nullable=nullable)
    kind: Kind = "integer" if i in booster.categorical else "number"
    if booster.ranges[i] == (0.0, 1.0) and set(thresholds) == {ZERO_BAND}:  # two values alone
        return Feature(name, kind, nullable=nullable, inferred=Inferred("flag"))
    low, high = booster.ranges[i] or (None, None)
    middle = None if low is None or high is None else low + (high - low) / 2
    seen = Inferred(minimum=low, maximum=high)
    return Feature(name, kind, default=middle, nullable=nullable, inferred=seen)
