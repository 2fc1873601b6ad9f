"""From clients to a trained credit model, in the order a statistician would do it."""

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm
import numpy as np
from sklearn.model_selection import train_test_split

from export.evaluation.cost import Costs, Vector, cheapest
from server.model.schema import Matrix
from train.errors import TrainingRefused
from train.study.fit import FOLDS, OutOfFold, Parameters, fit, out_of_fold, repeats_for
from train.study.seeds import THRESHOLD, TREES, derived
from train.tables.rows import Rows

#: Of the complete rows, kept away from everything until the model is final. A
#: quarter: with 5,000 clients a tenth would hold only 38 defaults.
HELD_OUT_SHARE = 0.25
#: Fewer of either outcome cannot be split into a hold-out and five folds that mean anything.
MIN_PER_OUTCOME = 60


@dataclass(frozen=True)
class DataSplit:
    """The clients learned from, and those held out: complete rows, never seen in training."""

    development: Rows
    held_out: Rows


@dataclass(frozen=True)
class Model:
    """A booster with its parameters, number of trees and threshold, and its out-of-fold scores."""

    booster: lightgbm.Booster
    parameters: Parameters
    trees: int
    threshold: float
    out_of_fold: OutOfFold
    out_of_fold_cost: float

    def probabilities(self, rows: Matrix) -> Vector:
        """Probabilities of default, float64 [n], of encoded rows, float64 [n, F]."""
        return np.asarray(self.booster.predict(rows))


def split(rows: Rows, seed: int) -> DataSplit:
    """Hold out a stratified share of the complete rows.

    Raises `TrainingRefused` when there are too few clients of either outcome.
    """
    complete = np.flatnonzero(rows.complete)
    bad = int(rows.target[complete].sum())
    if min(bad, len(complete) - bad) < MIN_PER_OUTCOME:
        raise TrainingRefused(
            f"expected at least {MIN_PER_OUTCOME} rows of either outcome, got {bad} with 1 and "
            f"{len(complete) - bad} with 0: use more of the data"
        )
    _, held = train_test_split(
        complete, test_size=HELD_OUT_SHARE, stratify=rows.target[complete], random_state=seed
    )
    learned = np.setdiff1d(np.arange(len(rows)), held)
    return DataSplit(rows.take(learned), rows.take(np.sort(held)))


def boosters(rows: Rows) -> int:
    """How many boosters `fit_model` fits."""
    return 2 * FOLDS * repeats_for(rows) + 1


def fit_model(
    rows: Rows,
    parameters: Parameters,
    costs: Costs,
    seed: int,
    fitted: Callable[[], object] = lambda: None,
) -> Model:
    """The model of these parameters: number of trees, threshold, then one booster on all rows.

    The number of trees is where early stopping stopped on average. The threshold
    is the cheapest on out-of-fold scores of boosters with that many trees, which
    never stopped by the rows they scored. The folds of each step are drawn anew.
    `fitted` is called after each booster.
    """
    repeats = repeats_for(rows)
    trees = out_of_fold(rows, parameters, derived(seed, TREES), repeats, fitted=fitted).trees
    unseen = out_of_fold(rows, parameters, derived(seed, THRESHOLD), repeats, trees, fitted)
    threshold, cost = cheapest(unseen.target, unseen.scores, costs)
    booster = fit(rows, parameters, seed, trees)
    fitted()
    return Model(booster, parameters, trees, threshold, unseen, cost)
