"""The run in MLflow, where `MLFLOW_TRACKING_URI` says that one keeps runs."""

import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from server.errors import first_line
from server.model.bundle import Bundle
from train.errors import TrainingRefused
from train.study.study import Recipe, Study

VARIABLE = "MLFLOW_TRACKING_URI"


def check_tracking() -> None:
    """Raise `TrainingRefused` before any work if a run is to be tracked and cannot be."""
    if os.environ.get(VARIABLE) and find_spec("mlflow") is None:
        raise TrainingRefused(
            f"expected MLflow to be installed, as {VARIABLE} is set, got none: "
            "`uv pip install mlflow-skinny` into this environment, or unset the variable"
        )


def track(recipe: Recipe, bundle: Bundle, done: Study) -> None:
    """Log parameters, figures, the bundle and the report as one run of the experiment named by the model.

    Without `MLFLOW_TRACKING_URI` nothing is done. Raises `TrainingRefused` if the
    server cannot be reached; the bundle is written by then.
    """
    if not os.environ.get(VARIABLE):
        return
    import mlflow  # type: ignore[import-not-found,unused-ignore]  # optional, and in no requirement set

    try:
        mlflow.set_experiment(recipe.name)
        with mlflow.start_run(run_name=bundle.label):
            mlflow.log_params({**done.model.parameters, "trees": done.model.trees, "seed": recipe.seed})
            for part in ("held_out", "out_of_fold"):
                mlflow.log_metrics(dict(_numbers(part, done.figures[part])))
            mlflow.set_tags({"hotrow.bundle": bundle.label, "hotrow.digest": bundle.digest})
            mlflow.log_artifacts(str(bundle.directory), "bundle")
            mlflow.log_artifact(str(recipe.report))
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise TrainingRefused(
            f"expected to log the run to {os.environ[VARIABLE]}, got: {first_line(error)}: the bundle "
            "is written; see that the server runs, or unset the variable"
        ) from None


def _numbers(name: str, figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every number of nested figures, `held_out.cost.model` for one."""
    for key, value in figures.items():
        if isinstance(value, Mapping) and key not in ("groups", "groups_by_limit", "curves"):
            yield from _numbers(f"{name}.{key}", value)
        elif isinstance(value, int | float):
            yield f"{name}.{key}", float(value)
