"""What scikit-learn puts around a model and scores do not show: searches, thresholds, steps that pass on.

The model inside is converted instead, so a booster under any number of them is read
as it is alone; a threshold that was tuned becomes that of the bundle.
"""

import copy
from typing import Any

from sklearn.pipeline import Pipeline

from export.errors import ExportRefused, one_of_targets
from export.forest.conversion import ABOVE_HALF

_SEARCHES = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
_THRESHOLDS = ("FixedThresholdClassifier", "TunedThresholdClassifierCV")
_DEPTH = 8


def unwrapped(model: Any) -> tuple[Any, float | None]:
    """The model inside, and the probability from which it decides for the second class, if that is said.

    Raises `ExportRefused` for a threshold on something else than that probability.
    """
    threshold = None
    for _ in range(_DEPTH):
        kind = _kind(model)
        if kind in _THRESHOLDS and hasattr(model, "estimator_"):
            threshold = _threshold(model, kind) if threshold is None else threshold
            model = model.estimator_
        elif kind == "Pipeline":
            model, before = _flat(model), model
            if model is before:
                break
        elif (inner := _inner(model)) is not model:
            model = inner
        elif kind == "TransformedTargetRegressor" and _kind(_inner(model.regressor_)) == "Pipeline":
            model = _transformed_last(model)
        else:
            break
    return _plain(model, _DEPTH), threshold


def threshold_of(model: Any) -> float:
    """The probability from which `predict` of an unwrapped classifier gives the second class.

    Of two equally likely classes it gives the first; GradientBoosting alone the second.
    """
    for _ in range(_DEPTH):
        model = model.steps[-1][1] if hasattr(model, "steps") else getattr(model, "final_estimator_", model)
    return 0.5 if _kind(model) == "GradientBoostingClassifier" else ABOVE_HALF


def one_target(model: Any, wanted: int | None) -> tuple[Any, int | None]:
    """The estimator of one target, and its number, where scikit-learn holds one for each; else the model.

    Raises `ExportRefused` unless `wanted`, counted from 0, is one of them.
    """
    holder = model.steps[-1][1] if _kind(model) == "Pipeline" else model
    if _kind(holder) not in ("MultiOutputRegressor", "MultiOutputClassifier"):
        return model, None
    members = holder.estimators_
    wanted = one_of_targets(wanted, len(members))
    if holder is model:
        return members[wanted], wanted
    pipeline = copy.copy(model)
    pipeline.steps = [*model.steps[:-1], (model.steps[-1][0], members[wanted])]
    return pipeline, wanted


def _kind(model: Any) -> str:
    if isinstance(model, Pipeline):  # imbalanced-learn has one of its own
        return "Pipeline"
    return type(model).__name__ if type(model).__module__.startswith("sklearn.") else ""


def _inner(model: Any) -> Any:
    """What a search found best, or what a frozen estimator holds; the same model if it is neither."""
    if _kind(model) in _SEARCHES or hasattr(model, "best_estimator_"):
        return getattr(model, "best_estimator_", model)
    return model.estimator if _kind(model) == "FrozenEstimator" else model


def _threshold(model: Any, kind: str) -> float:
    """The tuned or fixed threshold; one on the first class decides at another side of it, and is refused."""
    method = model.response_method
    if method == "decision_function" or not hasattr(model.estimator_, "predict_proba"):
        raise ExportRefused(
            f"expected a threshold on predict_proba, got {kind} on decision_function: serve the estimator "
            'inside and say --threshold, or fit it again with response_method="predict_proba"'
        )
    fixed = kind == "FixedThresholdClassifier"
    positive = model.pos_label if fixed else model._curve_scorer._get_pos_label()
    if positive is not None and positive != model.classes_[1]:
        raise ExportRefused(
            f"expected a threshold on the probability of {model.classes_[1]}, the second class, got {kind} "
            f"with pos_label={positive!r}: serve model.estimator_ and say --threshold"
        )
    if not fixed:
        return float(model.best_threshold_)
    return 0.5 if model.threshold == "auto" else float(model.threshold)


def _flat(pipeline: Any) -> Any:
    """The pipeline without steps that pass rows on, and without pipelines inside; of one step the step.

    A sampler of imbalanced-learn does nothing when rows are scored.
    """
    steps: list[tuple[str, Any]] = []
    for name, step in pipeline.steps:
        if step is None or isinstance(step, str) or hasattr(step, "fit_resample"):
            continue
        step = _inner(step)
        inside = step.steps if _kind(step) == "Pipeline" else [(name, step)]
        steps += [(f"{len(steps) + n}_{label}", part) for n, (label, part) in enumerate(inside)]
    if len(steps) == 1:
        return steps[0][1]
    if [step for _, step in steps] == [step for _, step in pipeline.steps]:
        return pipeline
    return Pipeline(steps)


def _transformed_last(model: Any) -> Any:
    """The pipeline inside, whose last step answers in the target's own unit."""
    pipeline, last = _flat(_inner(model.regressor_)), copy.copy(model)
    if _kind(pipeline) != "Pipeline":
        last.regressor_ = pipeline
        return last
    last.regressor_ = pipeline.steps[-1][1]
    return type(pipeline)([*pipeline.steps[:-1], ("answer", last)])


def _plain(model: Any, depth: int) -> Any:
    """The model with every search and frozen estimator inside it replaced by what it holds, in place."""
    model = _inner(model)
    if not depth or not type(model).__module__.startswith("sklearn.") or not hasattr(model, "__dict__"):
        return model
    for name, value in vars(model).items():
        if name.endswith("_") or name in ("estimator", "steps"):
            setattr(model, name, _replaced(value, depth - 1))
    return model


def _replaced(value: Any, depth: int) -> Any:
    if isinstance(value, list) and not hasattr(value, "_fields"):
        return [_replaced(item, depth) for item in value]
    if type(value) is tuple:
        return tuple(_replaced(item, depth) for item in value)
    return _plain(value, depth) if hasattr(value, "__dict__") and not isinstance(value, type) else value
