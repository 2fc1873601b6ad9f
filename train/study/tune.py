"""The search for LightGBM's parameters: Optuna, seeded, pruned and resumable."""

import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.trial import TrialState
from sklearn.model_selection import train_test_split

from export.evaluation.cost import Costs, Vector, cheapest
from train.errors import TrainingRefused
from train.study.fit import FOLDS, fixed, repeats_for, score_folds
from train.study.journal import Journal
from train.study.masking import MASK_EVERY
from train.study.seeds import SEARCH, derived
from train.tables.rows import Rows

#: Counted up when the same trial would be scored otherwise: an older study is not gone on with.
RECIPE = 4
#: Tried first: strong regularisation and small trees, which suit few defaults.
START: dict[str, float | int] = {
    "num_leaves": 8,
    "learning_rate": 0.05,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "lambda_l2": 10.0,
}
#: Parameters that are whole numbers.
WHOLE_PARAMETERS = ("num_leaves", "min_data_in_leaf")
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
#: A trial worse than the median of its predecessors is pruned once there are this many.
PRUNING_STARTS_AT_TRIAL = 8
RANDOM_TRIALS = 10
#: Of more clients a stratified sample is searched on: forty trials then take minutes.
#: Number of trees, threshold and model are still found on all of them.
MAX_TUNING_ROWS = 50_000


@dataclass(frozen=True)
class Tuned:
    """The best parameters, their out-of-fold cost a client, and how many trials it took.

    Or those of a bundle `taken_from`, of which no cost is known here.
    """

    parameters: dict[str, float | int]
    cost: float
    trials: int
    pruned: int
    taken_from: str = ""


def tune(
    rows: Rows, costs: Costs, *, seed: int, trials: int, folder: Path, tell: Callable[[int, float], None]
) -> Tuned:
    """Minimise the out-of-fold business cost at its best threshold over `trials` trials.

    The study is a journal in `folder`, named by everything it depends on: a run
    that was interrupted, or is repeated with more trials, goes on where it
    stopped and ends where one uninterrupted run ends. `tell` is called with the
    number of finished trials and the least cost so far. Raises `TrainingRefused`
    if another run is at work on the same study, if the journal cannot be written, or
    if these costs make one decision the cheapest for everybody.
    """
    name = fingerprint(rows, costs, seed)
    with closing(Journal(folder / f"train-{name}.log")) as journal:
        return _search(_open_study(journal, name), rows, costs, seed, trials, tell)


def _search(
    study: optuna.Study, rows: Rows, costs: Costs, seed: int, trials: int, tell: Callable[[int, float], None]
) -> Tuned:
    objective = _Objective(_sample(rows, seed), costs, seed)
    while (done := len(study.get_trials(deepcopy=False, states=FINISHED))) < trials:
        # A sampler per trial, seeded by its number: what is tried next depends on
        # the trials so far and on nothing that an interruption would lose.
        study.sampler = optuna.samplers.TPESampler(
            seed=derived(seed, SEARCH, done), n_startup_trials=RANDOM_TRIALS
        )
        study.optimize(objective, n_trials=1)
        tell(done + 1, study.best_value)
    tell(done, study.best_value)
    pruned = len(study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)))
    return Tuned(study.best_params, study.best_value, done, pruned)


def _sample(rows: Rows, seed: int) -> Rows:
    if len(rows) <= MAX_TUNING_ROWS:
        return rows
    every = np.arange(len(rows))
    sample, _ = train_test_split(every, train_size=MAX_TUNING_ROWS, stratify=rows.target, random_state=seed)
    return rows.take(np.sort(sample))


def fingerprint(rows: Rows, costs: Costs, seed: int) -> str:
    """A name for the study of these rows, costs and seed under this recipe and LightGBM."""
    recipe = json.dumps(
        [
            RECIPE,
            vars(costs),
            seed,
            fixed(rows.inputs),
            rows.inputs.unordered,
            dict(rows.inputs.missing),
            rows.inputs.max_leaves,
            START,
            MASK_EVERY,
            MAX_TUNING_ROWS,
            lightgbm.__version__,
            optuna.__version__,
        ]
    )
    digest = hashlib.sha256(recipe.encode())
    for array in (rows.features, rows.target, rows.complete):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _open_study(journal: Journal, name: str) -> optuna.Study:
    # Below ERROR it writes a traceback for every trial that Ctrl-C cuts off.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=PRUNING_STARTS_AT_TRIAL)
    study = optuna.create_study(
        storage=JournalStorage(journal), study_name=name, pruner=pruner, load_if_exists=True
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # it was cut off: an earlier run was interrupted
    if not study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.WAITING)):
        study.enqueue_trial(START)
    return study


class _Objective:
    """One trial: repeated cross-validation, reported as it goes on so that it can be pruned."""

    def __init__(self, rows: Rows, costs: Costs, seed: int) -> None:
        self._rows, self._costs, self._seed = rows, costs, seed
        self._repeats = repeats_for(rows)
        # A threshold tuned on the few rows of one small fold finds a low cost by
        # luck, which the pruner would take for the trial's best.
        self._report_every = FOLDS if self._repeats > 1 else 1

    def __call__(self, trial: optuna.Trial) -> float:
        rows = self._rows
        parameters = _suggest(trial, rows.inputs.max_leaves)
        target, scores = np.empty(0), np.empty(0)
        for step, fold in enumerate(score_folds(rows, parameters, self._seed, self._repeats), start=1):
            target = np.concatenate([target, rows.target[fold.rows]])
            scores = np.concatenate([scores, fold.scores])
            if step % self._report_every == 0:
                threshold, cost = cheapest(target, scores[np.newaxis], self._costs)
                trial.report(cost, step)
                if trial.should_prune():
                    raise optuna.TrialPruned
        if trial.params == START:
            refuse_one_decision(scores, threshold)
        return cost


def refuse_one_decision(scores: Vector, threshold: float) -> None:
    """Raise `TrainingRefused` for a threshold that decides the same about everybody."""
    refused = scores >= threshold
    if refused.all() or not refused.any():
        raise TrainingRefused(
            f"expected a threshold that refuses some and accepts others, got {threshold:g}, at which "
            f"{'nobody is accepted' if refused.all() else 'nobody is refused'}: "
            "choose other costs with --fn-cost and --fp-cost"
        )


def _suggest(trial: optuna.Trial, max_leaves: int) -> dict[str, Any]:
    return {
        "num_leaves": trial.suggest_int("num_leaves", 3, max_leaves),
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.15, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 20, 200, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
    }
