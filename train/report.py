"""The evaluation that goes into the bundle: on held-out clients, in cross-validation, without gender."""

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from train.cost import Costs, Vector, cost_per_client
from train.data import Rows
from train.evaluate import auc_difference_interval, evaluate, rounded
from train.fit import FOLDS, out_of_fold, repeats_for
from train.groups import by_group
from train.model import Model, Split, fit_model, without

GENDER = "CODE_GENDER"
_RECIPE_SEED = 3000


def evaluation(split: Split, model: Model, costs: Costs, seed: int) -> dict[str, Any]:
    """All figures of the model, ready for `bundle.json`.

    `held_out`: this very model on clients it never saw. `out_of_fold`: boosters
    of the same recipe on the other clients, more of them and so less noisy.
    `recipe`: cross-validation over all complete clients, as published figures
    for this data are usually given. Costs are means a client.
    """
    return {
        "held_out": _evaluate(split.held_out, model.probabilities(split.held_out.features), model, costs),
        "out_of_fold": _evaluate(_complete(split.development), model.out_of_fold.scores[0], model, costs),
        "threshold": _threshold(model, costs),
        "recipe": cross_validation(split, model, seed),
        "without_gender": _without_gender(split, model, costs, seed),
    }


def cross_validation(split: Split, model: Model, seed: int) -> dict[str, Any]:
    """AUC of five-fold cross-validation over every complete client, held out or not.

    Parameters and number of trees are the model's own; no booster stops early on
    the rows it scores. The parameters were chosen on the development part, so
    this figure is a little kinder than the held-out one.
    """
    parts = (split.development, split.held_out)
    features = np.concatenate([part.features for part in parts])
    target = np.concatenate([part.target for part in parts])
    rows = Rows(features, target, np.concatenate([part.complete for part in parts]))
    unseen = out_of_fold(rows, model.parameters, seed + _RECIPE_SEED, repeats_for(rows), model.trees)
    areas = [float(roc_auc_score(unseen.target, scores)) for scores in unseen.scores]
    return {
        "folds": FOLDS,
        "rows": len(unseen.target),
        **rounded({"auc": float(np.mean(areas)), "auc_by_repeat": areas}),
    }


def _evaluate(rows: Rows, scores: Vector, model: Model, costs: Costs) -> dict[str, Any]:
    figures = evaluate(rows.target, scores, model.threshold, costs)
    return {**figures, "groups": by_group(rows.features, rows.target, scores, model.threshold)}


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


def _without_gender(split: Split, model: Model, costs: Costs, seed: int) -> dict[str, Any]:
    """The same recipe trained without gender, beside the model: what leaving it out costs."""
    blind = fit_model(without(split.development, GENDER), model.parameters, costs, seed)
    held = split.held_out
    scores = blind.probabilities(without(held, GENDER).features)
    unseen, before, after = model.out_of_fold.target, model.out_of_fold.scores[0], blind.out_of_fold.scores[0]
    figures = {
        "out_of_fold_auc_difference_interval": list(auc_difference_interval(unseen, before, after)),
        "out_of_fold_auc": _mean_auc(blind),
        "out_of_fold_auc_with_gender": _mean_auc(model),
        "out_of_fold_cost": blind.out_of_fold_cost,
        "out_of_fold_cost_with_gender": model.out_of_fold_cost,
        "held_out_auc": float(roc_auc_score(held.target, scores)),
        "held_out_cost": float(cost_per_client(held.target, scores, np.array([blind.threshold]), costs)[0]),
        "groups": by_group(held.features, held.target, scores, blind.threshold)["gender"],
    }
    return dict(rounded(figures))


def _mean_auc(model: Model) -> float:
    unseen = model.out_of_fold
    return float(np.mean([roc_auc_score(unseen.target, scores) for scores in unseen.scores]))
