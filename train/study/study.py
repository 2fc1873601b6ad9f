"""From rows to a model with its figures: the same steps for every table."""

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import orjson

from export.evaluation.cost import Costs
from server.model.bundle import Decision
from server.model.files import MANIFEST_FILE
from server.model.reference import reference_of_rows
from train.errors import TrainingRefused
from train.study.fit import fixed
from train.study.model import DataSplit, Model, boosters, fit_model, split
from train.study.narrator import Narrator
from train.study.report import boosters_of_evaluation, evaluation
from train.study.target import check_target
from train.study.tune import WHOLE_PARAMETERS, Tuned, tune
from train.tables.rows import Rows

_LIBRARIES = ("lightgbm", "numpy", "optuna", "polars", "scikit-learn", "scipy")


@dataclass(frozen=True)
class Recipe:
    """How to train, and what the bundle is called and where it goes; `report` is a page of HTML.

    Of `like`, a bundle that was trained here, the parameters are taken, and none are searched for.
    """

    out: Path
    replace: bool
    name: str
    version: str
    trials: int
    seed: int
    costs: Costs
    runs: Path
    report: Path
    like: Path | None = None


@dataclass(frozen=True)
class Study:
    """A trained model, what it was trained on, and how good it is."""

    parts: DataSplit
    tuned: Tuned
    model: Model
    figures: dict[str, Any]


def check_recipe(recipe: Recipe) -> None:
    """Look first at what would end the work when much of it is done; raises `TrainingRefused`."""
    check_target(recipe.out, replace=recipe.replace)
    if recipe.report.is_dir():
        raise TrainingRefused(
            f"expected a file for the report, got the folder {recipe.report}: name a --report"
        )
    if recipe.like is not None:
        parameters_of(recipe.like)


def study(rows: Rows, recipe: Recipe, narrator: Narrator) -> Study:
    """Hold out, search, fit and evaluate.

    Raises `TrainingRefused` for rows that no model can be learned from.
    """
    parts = split(rows, recipe.seed)
    tuned = (
        _searched(parts.development, recipe, narrator) if recipe.like is None else parameters_of(recipe.like)
    )
    with narrator.boosters("fitting the model and its threshold", boosters(parts.development)) as fitted:
        model = fit_model(parts.development, tuned.parameters, recipe.costs, recipe.seed, fitted)
    with narrator.boosters("evaluating it", boosters_of_evaluation(parts)) as fitted:
        figures = evaluation(parts, model, recipe.costs, recipe.seed, fitted)
    return Study(parts, tuned, model, figures)


def _searched(rows: Rows, recipe: Recipe, narrator: Narrator) -> Tuned:
    with narrator.trials(recipe.trials) as tell:
        return tune(rows, recipe.costs, seed=recipe.seed, trials=recipe.trials, folder=recipe.runs, tell=tell)


def parameters_of(like: Path) -> Tuned:
    """The parameters of a bundle; raises `TrainingRefused` for one that was not trained here."""
    try:
        manifest = orjson.loads((like / MANIFEST_FILE).read_bytes())
        parameters = {name: float(value) for name, value in manifest["provenance"]["tuned"].items()}
        whole = {name: int(value) for name, value in parameters.items() if name in WHOLE_PARAMETERS}
        label = f"{manifest['name']}@{manifest['version']}"
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        raise TrainingRefused(
            f"expected a bundle of `python -m train` at {like}, got none that tells its parameters"
        ) from None
    return Tuned(parameters | whole, math.nan, 0, 0, label)


def searched(made_from: Mapping[str, Any]) -> str:
    """Where the parameters of a provenance come from, in words."""
    if made_from["trials"]:
        return (
            f"{made_from['trials']} sets of parameters tried ({made_from['pruned_trials']} given up "
            "early), the one of least out-of-fold cost taken"
        )
    return f"the parameters of {made_from['parameters_of']} taken, none searched for"


def provenance(done: Study, recipe: Recipe, **more: Any) -> dict[str, Any]:
    """What the model was made from. No time and no machine: the same run writes the same bytes."""
    model = done.model
    return {
        **more,
        "seed": recipe.seed,
        "trials": done.tuned.trials,
        "pruned_trials": done.tuned.pruned,
        **({"parameters_of": done.tuned.taken_from} if done.tuned.taken_from else {}),
        "parameters": {
            **fixed(done.parts.development.inputs),
            **model.parameters,
            "trees": model.trees,
        },
        "tuned": dict(model.parameters),
        "libraries": {"python": platform.python_version(), **{name: installed(name) for name in _LIBRARIES}},
    }


def decision(model: Model, costs: Costs, below: str, otherwise: str) -> Decision:
    """The decision of a bundle at the model's threshold."""
    return Decision(
        threshold=model.threshold,
        below=below,
        otherwise=otherwise,
        cost_false_negative=costs.missed_default,
        cost_false_positive=costs.refused_good,
    )


def reference(done: Study) -> bytes:
    """The content of `reference.json`.

    It is of the complete rows only, whose missing values mean what a request's mean.

    Scores are out of fold: a booster's scores of its own training rows are spread
    wider than those it gives to strangers, and would look like drift.
    """
    rows = done.parts.development
    document = reference_of_rows(
        rows.inputs.schema, rows.features[rows.complete], done.model.out_of_fold.scores[0]
    ).to_dict()
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"
