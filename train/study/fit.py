"""LightGBM on rows of the credit model: one booster, or scores of rows it has not seen."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import lightgbm
import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedKFold

from export.evaluation.cost import Vector
from export.forest.evidence import lightgbm_names
from train.study import seeds
from train.study.masking import mask_rarely_missing
from train.study.missing import filled, routed
from train.study.seeds import derived
from train.tables.rows import Inputs, Rows

Parameters: TypeAlias = Mapping[str, float | int]

FOLDS = 5
MAX_TREES = 300
PATIENCE = 30
#: Small data are split again and again until about this many rows were scored: the
#: cost of one split of 4,000 clients moves by 3 % with the seed of the split alone.
ROWS_SCORED_PER_CANDIDATE = 16_000
MAX_REPEATS = 4

#: What is not tuned. `extra_trees` draws a threshold at random and keeps the best
#: feature: smoother than the best of all thresholds, and with the few defaults
#: there are worth +0.003 to +0.005 of AUC in cross-validation. No class weights:
#: they would break the calibration that the cost threshold rests on.
FIXED: dict[str, Any] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "extra_trees": True,
    "bagging_freq": 1,
    # The same data and seed give the same bytes: no order of sums is left to chance.
    "deterministic": True,
    "force_row_wise": True,
    # Trees this small cost more to hand out than to grow: two threads take five times
    # the processor time of one on 12,000 rows, and gain nothing on 300,000.
    "num_threads": 1,
    "verbosity": -1,
}


class Fold(NamedTuple):
    """Positions of the rows trained on and of those scored."""

    train: npt.NDArray[np.intp]
    scored: npt.NDArray[np.intp]


class ScoredFold(NamedTuple):
    """One fold's scored rows, their probabilities, and the number of trees that gave them."""

    rows: npt.NDArray[np.intp]
    scores: Vector
    trees: int


@dataclass(frozen=True)
class OutOfFold:
    """Scores of the n complete rows by boosters that did not see them.

    `target` is float64 [n], `scores` their probabilities, float64 [repeats, n],
    `trees` the mean number of trees of the folds' boosters.
    """

    target: Vector
    scores: Vector
    trees: int


def repeats_for(rows: Rows) -> int:
    """How often the folds are drawn anew: often for few rows, once for many."""
    return int(np.clip(ROWS_SCORED_PER_CANDIDATE // max(1, int(rows.complete.sum())), 1, MAX_REPEATS))


def folds(rows: Rows, seed: int, repeats: int) -> Iterator[Fold]:
    """Stratified folds over the complete rows; the other rows are in every training part.

    The others' missing secondary features mean "not looked up"; a score of theirs
    would say nothing about clients whose tables were.
    """
    complete, others = np.flatnonzero(rows.complete), np.flatnonzero(~rows.complete)
    for repeat in range(repeats):
        splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=derived(seed, seeds.FOLDS, repeat))
        for train, scored in splitter.split(complete, rows.target[complete]):
            yield Fold(np.concatenate([complete[train], others]), complete[scored])


def fit(rows: Rows, parameters: Parameters, seed: int, trees: int) -> lightgbm.Booster:
    """A booster of exactly `trees` trees on all rows."""
    booster = lightgbm.train(_parameters(rows, parameters, seed), _training_set(rows), trees)
    return routed(booster, rows.features, rows.inputs)


def fit_early(rows: Rows, fold: Fold, parameters: Parameters, seed: int) -> lightgbm.Booster:
    """A booster that stops once the scored rows of the fold gain nothing for `PATIENCE` trees."""
    learned = rows.take(fold.train)
    train = _training_set(learned)
    # Of all rows: beyond the scored rows' own values a stand-in could lie within the thresholds.
    scored = filled(rows.features, rows.inputs)[fold.scored]
    booster = lightgbm.train(
        _parameters(rows, parameters, seed),
        train,
        MAX_TREES,
        valid_sets=[train.create_valid(scored, rows.target[fold.scored])],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    return routed(booster, learned.features, rows.inputs)


def score_folds(
    rows: Rows, parameters: Parameters, seed: int, repeats: int, trees: int | None = None
) -> Iterator[ScoredFold]:
    """Fit a booster for each fold and score the rows it left out, fold by fold.

    With `trees` each booster has that many. Without, each stops early on the rows
    it then scores, which flatters the scores a little: good for choosing, not for
    reporting.
    """
    for fold in folds(rows, seed, repeats):
        if trees is None:
            booster = fit_early(rows, fold, parameters, seed)
        else:
            booster = fit(rows.take(fold.train), parameters, seed, trees)
        count = booster.best_iteration if booster.best_iteration > 0 else booster.num_trees()
        yield ScoredFold(fold.scored, np.asarray(booster.predict(rows.features[fold.scored])), count)


def out_of_fold(
    rows: Rows,
    parameters: Parameters,
    seed: int,
    repeats: int,
    trees: int | None = None,
    fitted: Callable[[], object] = lambda: None,
) -> OutOfFold:
    """Scores of every complete row by boosters of the other folds, `repeats` times; see `score_folds`.

    `fitted` is called after each booster.
    """
    index = np.flatnonzero(rows.complete)
    scores = np.full((repeats, len(rows)), np.nan)
    counts = []
    for number, scored in enumerate(score_folds(rows, parameters, seed, repeats, trees)):
        scores[number // FOLDS, scored.rows] = scored.scores
        counts.append(scored.trees)
        fitted()
    return OutOfFold(rows.target[index], scores[:, index], round(float(np.mean(counts))))


def model_text(booster: lightgbm.Booster) -> str:
    """The content of `model.txt`."""
    return str(booster.model_to_string(num_iteration=-1))


def fixed(inputs: Inputs) -> dict[str, Any]:
    """What is not tuned, with the directions that the inputs ask for."""
    return {**FIXED, "monotone_constraints": [inputs.monotone.get(name, 0) for name in inputs.schema.names]}


def _parameters(rows: Rows, parameters: Parameters, seed: int) -> dict[str, Any]:
    return {**fixed(rows.inputs), **parameters, "seed": seed}


def _training_set(rows: Rows) -> lightgbm.Dataset:
    inputs = rows.inputs
    features = mask_rarely_missing(filled(rows.features, inputs), rows.target, inputs)
    unordered = [inputs.schema.names.index(name) for name in inputs.unordered]
    return lightgbm.Dataset(
        features,
        rows.target,
        feature_name=list(lightgbm_names(inputs.schema.names)),
        categorical_feature=unordered,
    )
