"""The evaluation that goes into the bundle: on held-out clients and in cross-validation."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from export.evaluation.cost import Costs, Vector, cost_per_client
from export.evaluation.evaluate import evaluate, rounded
from train.study.fit import FOLDS, fit, folds, out_of_fold, repeats_for
from train.study.groups import by_group, groups_by_limit
from train.study.model import DataSplit, Model
from train.study.seeds import LEARNING, RECIPE, derived
from train.tables.rows import Rows

#: Parts of the rows that the learning curve is drawn at; all of them are the last.
LEARNED_PARTS = (0.2, 0.4, 0.6, 0.8)


def boosters_of_evaluation(split: DataSplit) -> int:
    """How many boosters `evaluation` fits."""
    return FOLDS * repeats_for(_together(split)) + FOLDS * len(LEARNED_PARTS)


def evaluation(
    split: DataSplit,
    model: Model,
    costs: Costs,
    seed: int,
    fitted: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """All figures of the model, ready for `bundle.json`.

    `held_out`: this very model on clients it never saw. `out_of_fold`: boosters
    of the same recipe on the other clients, more of them and so less noisy; each
    figure is the mean of the repeats, and the cost is a little optimistic, as the
    threshold was chosen on these scores.
    `recipe`: cross-validation over all complete clients, as published figures
    for this data are usually given. `learning_curve`: what more rows would bring.
    `importance`: each feature's share of the gain of all splits. Costs are means a row.
    """
    held_out, scores = split.held_out, model.probabilities(split.held_out.features)
    return {
        "held_out": {
            **_evaluate(held_out, scores, model, costs),
            "groups_by_limit": groups_by_limit(held_out, scores, model.threshold),
        },
        "out_of_fold": mean_figures(
            [
                _evaluate(_complete(split.development), scores, model, costs)
                for scores in model.out_of_fold.scores
            ]
        ),
        "threshold": _threshold(model, costs),
        "recipe": cross_validation(split, model, seed, fitted),
        "learning_curve": learning_curve(split.development, model, seed, fitted),
        "importance": importance(model),
    }


def mean_figures(repeats: Sequence[Any]) -> Any:
    """The figures of several repeats as one: means of numbers, the first repeat's curves."""
    first = repeats[0]
    if isinstance(first, dict):
        return {name: mean_figures([repeat[name] for repeat in repeats]) for name in first}
    if isinstance(first, int):
        return round(float(np.mean(repeats)))
    if isinstance(first, float):
        return rounded(float(np.mean(repeats)))
    if isinstance(first, list) and all(isinstance(value, float) for value in first):
        return [mean_figures(values) for values in zip(*repeats, strict=True)]
    return first


def cross_validation(
    split: DataSplit, model: Model, seed: int, fitted: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """AUC of five-fold cross-validation over every complete client, held out or not.

    Parameters and number of trees are the model's own; no booster stops early on
    the rows it scores. The parameters were chosen on the development part, so
    this figure is a little kinder than the held-out one.
    """
    rows = _together(split)
    repeats = repeats_for(rows)
    unseen = out_of_fold(rows, model.parameters, derived(seed, RECIPE), repeats, model.trees, fitted)
    areas = [float(roc_auc_score(unseen.target, scores)) for scores in unseen.scores]
    return {
        "folds": FOLDS,
        "rows": len(unseen.target),
        **rounded({"auc": float(np.mean(areas)), "auc_by_repeat": areas}),
    }


def learning_curve(
    rows: Rows, model: Model, seed: int, fitted: Callable[[], object] = lambda: None
) -> list[dict[str, float]]:
    """Out-of-fold AUC and log loss of boosters that learned from a part of the rows."""
    points = [
        {"rows": round(part * _learned(rows)), **_learned_from(rows, model, seed, part, fitted)}
        for part in LEARNED_PARTS
    ]
    whole = [_scores_of(model.out_of_fold.target, scores) for scores in model.out_of_fold.scores]
    return [*points, {"rows": _learned(rows), **mean_figures(whole)}]


def _learned(rows: Rows) -> int:
    """How many rows each booster of a cross-validation learns from."""
    return round((1 - 1 / FOLDS) * int(rows.complete.sum())) + int((~rows.complete).sum())


def _learned_from(
    rows: Rows, model: Model, seed: int, part: float, fitted: Callable[[], object]
) -> dict[str, float]:
    random = np.random.default_rng(derived(seed, LEARNING, round(part * 100)))
    # A leaf of so many rows of all is a leaf of as large a share of fewer.
    least = max(2, round(part * model.parameters["min_data_in_leaf"]))
    parameters = {**model.parameters, "min_data_in_leaf": least}
    target, scores = [], []
    for fold in folds(rows, derived(seed, LEARNING), repeats=1):
        learned = np.sort(random.choice(fold.train, round(part * len(fold.train)), replace=False))
        booster = fit(rows.take(learned), parameters, seed, model.trees)
        target.append(rows.target[fold.scored])
        scores.append(np.asarray(booster.predict(rows.features[fold.scored])))
        fitted()
    return _scores_of(np.concatenate(target), np.concatenate(scores))


def _scores_of(target: Vector, scores: Vector) -> dict[str, float]:
    figures = {"auc": float(roc_auc_score(target, scores)), "log_loss": float(log_loss(target, scores))}
    return dict(rounded(figures))


def importance(model: Model) -> dict[str, float]:
    """Each feature's share of the gain of all splits, the largest first."""
    gains = model.booster.feature_importance("gain")
    shares = zip(model.booster.feature_name(), (gains / max(gains.sum(), 1e-12)).tolist(), strict=True)
    return dict(rounded(dict(sorted(shares, key=lambda pair: -pair[1]))))


def _together(split: DataSplit) -> Rows:
    parts = (split.development, split.held_out)
    features = np.concatenate([part.features for part in parts])
    target = np.concatenate([part.target for part in parts])
    complete = np.concatenate([part.complete for part in parts])
    return Rows(features, target, complete, split.development.inputs)


def _evaluate(rows: Rows, scores: Vector, model: Model, costs: Costs) -> dict[str, Any]:
    figures = evaluate(rows.target, scores, model.threshold, costs)
    return {**figures, "groups": by_group(rows, scores, model.threshold)}


def _complete(rows: Rows) -> Rows:
    return rows.take(np.flatnonzero(rows.complete))


def _threshold(model: Model, costs: Costs) -> dict[str, Any]:
    """The chosen threshold beside the analytic one, with what each costs out of fold."""
    unseen, analytic = model.out_of_fold, np.array([costs.analytic_threshold])
    curves = [cost_per_client(unseen.target, scores, analytic, costs) for scores in unseen.scores]
    figures = {
        "chosen": model.threshold,
        "analytic": costs.analytic_threshold,
        "out_of_fold_cost_at_chosen": model.out_of_fold_cost,
        "out_of_fold_cost_at_analytic": float(np.mean(curves)),
    }
    return dict(rounded(figures))
