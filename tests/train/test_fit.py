from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from lightgbm import Booster
from sklearn.metrics import log_loss, roc_auc_score

import train.study.fit
import train.study.tune
from export.evaluation.cost import Costs
from export.forest.monotone import missing_report
from export.lightgbm.model import convert_lightgbm
from train.errors import TrainingRefused
from train.golden import encode, synthetic_rows
from train.study.fit import Fold, ScoredFold, fit, fit_early, fixed, folds, model_text, out_of_fold
from train.study.masking import mask_rarely_missing
from train.study.missing import filled, routed
from train.study.model import fit_model, split
from train.study.seeds import derived
from train.study.tune import START, fingerprint, tune
from train.tables.features import INPUTS, MONOTONE, SCHEMA
from train.tables.rows import Inputs, Rows
from train.tables.synthetic import draw_population

pytestmark = pytest.mark.whole

CLIENTS = 1500
SEED = 4


def clients(count: int, seed: int) -> Rows:
    """Synthetic clients, encoded by the server's schema, without the way through files."""
    features = encode(synthetic_rows(count, seed))
    target = draw_population(count, seed)["TARGET"].astype(np.float64)
    return Rows(features, target, np.ones(count, dtype=bool), INPUTS)


@pytest.fixture(autouse=True)
def one_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated folds lower the noise of a real search; here they would only cost time."""
    monkeypatch.setattr(train.study.fit, "MAX_REPEATS", 1)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return clients(CLIENTS, SEED)


def search(rows: Rows, folder: Path, trials: int) -> train.study.tune.Tuned:
    return tune(rows, Costs(), seed=0, trials=trials, folder=folder, tell=lambda *_: None)


def test_the_same_data_and_seed_give_the_same_bytes_of_the_model(rows: Rows, tmp_path: Path) -> None:
    texts = []
    for name in ("first", "second"):
        tuned = search(rows, tmp_path / name, trials=2)
        texts.append(model_text(fit_model(rows, tuned.parameters, Costs(), seed=0).booster))
    assert texts[0] == texts[1]
    assert texts[0] != model_text(fit_model(rows, START, Costs(), seed=1).booster)


def test_an_interrupted_study_goes_on_to_the_same_end(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(rows, tmp_path / "whole", trials=4)

    calls = iter(range(7))
    ordinary = train.study.fit.score_folds

    def interrupted(*arguments: object) -> object:
        for scored in ordinary(*arguments):  # type: ignore[arg-type]  # passed on as they came
            if next(calls, None) is None:
                raise KeyboardInterrupt
            yield scored

    with monkeypatch.context() as patched:
        patched.setattr(train.study.tune, "score_folds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(rows, tmp_path / "cut", trials=4)
    resumed = search(rows, tmp_path / "cut", trials=4)
    assert resumed == whole
    assert search(rows, tmp_path / "cut", trials=3) == whole  # nothing left to try


def test_the_study_of_other_data_costs_or_seed_is_another(rows: Rows) -> None:
    names = {
        fingerprint(rows, Costs(), 0),
        fingerprint(rows, Costs(), 1),
        fingerprint(rows, Costs(missed_default=5), 0),
        fingerprint(rows.take(np.arange(1000)), Costs(), 0),
    }
    assert len(names) == 4


def test_two_seeds_share_no_trial_and_no_fold(rows: Rows) -> None:
    drawn = [derived(seed, stream, number) for seed in range(4) for stream in (1, 2) for number in range(40)]
    assert len(set(drawn)) == len(drawn)
    first, second = ({fold.scored.tobytes() for fold in folds(rows, seed, repeats=4)} for seed in (0, 1))
    assert len(first) == len(second) == 20
    assert not first & second


def test_costs_that_decide_the_same_about_everybody_are_refused_at_the_first_trial(
    rows: Rows, tmp_path: Path
) -> None:
    costs, told = Costs(missed_default=1, refused_good=10), []
    with pytest.raises(TrainingRefused, match=r"nobody is refused: choose other costs"):
        tune(rows, costs, seed=1, trials=9, folder=tmp_path, tell=lambda *done: told.append(done))
    assert told == []


def test_bad_trials_are_pruned(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = iter(range(1, 10_000))
    monkeypatch.setattr(
        train.study.tune,
        "score_folds",
        lambda *_: iter([ScoredFold(np.arange(9), np.linspace(0.1, 0.9, 9), 1)]),
    )
    monkeypatch.setattr(train.study.tune, "cheapest", lambda *_: (0.5, float(next(costs))))
    monkeypatch.setattr(train.study.tune, "FOLDS", 1)
    tuned = search(rows, tmp_path, trials=12)
    assert tuned.cost == 1
    assert tuned.pruned == 12 - train.study.tune.PRUNING_STARTS_AT_TRIAL


def test_a_folder_that_cannot_hold_the_study_is_one_sentence(rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingRefused, match="expected to keep the study in"):
        search(rows, tmp_path / "file", trials=1)


def test_clients_without_secondary_tables_are_trained_on_and_never_scored(rows: Rows) -> None:
    complete = np.arange(CLIENTS) % 3 != 0
    mixed = Rows(rows.features, rows.target, complete, INPUTS)
    scored = []
    for fold in folds(mixed, seed=0, repeats=1):
        assert not set(fold.train) & set(fold.scored)
        assert set(np.flatnonzero(~complete)) <= set(fold.train)
        scored += list(fold.scored)
    assert sorted(scored) == list(np.flatnonzero(complete))
    parts = split(mixed, seed=0)
    assert parts.held_out.complete.all()
    assert len(parts.development) + len(parts.held_out) == CLIENTS


def test_out_of_fold_scores_are_of_boosters_with_the_trees_asked_for(rows: Rows) -> None:
    unseen = out_of_fold(rows, START, seed=0, repeats=2, trees=20)
    assert unseen.scores.shape == (2, CLIENTS)
    assert not np.isnan(unseen.scores).any()
    assert unseen.trees == 20
    assert roc_auc_score(unseen.target, unseen.scores[0]) > 0.6
    # A booster that has seen its rows does much better on them: these have not.
    seen = fit(rows, START, 0, 20).predict(rows.features)
    assert roc_auc_score(rows.target, seen) > roc_auc_score(unseen.target, unseen.scores[0])


def test_risk_moves_with_a_monotone_feature_in_one_direction(rows: Rows) -> None:
    booster = fit(rows, START, seed=0, trees=60)
    for name, sign in MONOTONE.items():
        column = SCHEMA.names.index(name)
        values = np.unique(rows.features[:, column][~np.isnan(rows.features[:, column])])
        varied = np.repeat(rows.features[:50], len(values), axis=0)
        varied[:, column] = np.tile(values, 50)
        margins = np.asarray(booster.predict(varied, raw_score=True)).reshape(50, len(values))
        assert (sign * np.diff(margins) >= -1e-12).all()


def test_a_missing_value_gives_the_highest_risk_of_all(rows: Rows) -> None:
    names = ("EXT_SOURCE_1", "EXT_SOURCE_3", "CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean", "YEARS_EMPLOYED")
    inputs = replace(rows.inputs, missing=dict.fromkeys(names, "highest"))
    booster = fit(replace(rows, inputs=inputs), START, seed=0, trees=60)
    for name in names:
        column = SCHEMA.names.index(name)
        values = np.unique(rows.features[:, column])  # NaN is the last
        varied = np.repeat(rows.features[:50], len(values), axis=0)
        varied[:, column] = np.tile(values, 50)
        margins = np.asarray(booster.predict(varied, raw_score=True)).reshape(50, len(values))
        assert (margins[:, -1:] >= margins).all()
        assert np.isnan(varied[:, column]).any()


def test_routed_trees_answer_as_the_grown_ones_do_of_stand_ins(rows: Rows) -> None:
    inputs = replace(rows.inputs, missing={"EXT_SOURCE_3": "lowest", "YEARS_EMPLOYED": "highest"})
    parameters = {**fixed(inputs), **START, "seed": 1}
    stand_ins = filled(rows.features, inputs)
    data = lightgbm.Dataset(stand_ins, rows.target, feature_name=list(SCHEMA.names))
    grown = lightgbm.train(parameters, data, 40)
    answered = np.asarray(routed(grown, rows.features, inputs).predict(rows.features, raw_score=True))
    assert answered.tolist() == np.asarray(grown.predict(stand_ins, raw_score=True)).tolist()
    assert np.isnan(rows.features[:, SCHEMA.names.index("EXT_SOURCE_3")]).any()
    text = model_text(routed(grown, rows.features, inputs))
    report = missing_report(
        convert_lightgbm(text).forest,
        [replace(f, missing=inputs.missing.get(f.name, "")) for f in SCHEMA.features],
    )
    assert [entry["against"] for entry in report.values()] == [0, 0]


def test_early_stopping_sees_missing_values_where_the_trees_send_them(rows: Rows) -> None:
    """The scored rows know small values alone: beyond those, others were trained on."""
    column = SCHEMA.names.index("YEARS_EMPLOYED")
    inputs = replace(rows.inputs, monotone={**rows.inputs.monotone, "YEARS_EMPLOYED": 1})
    inputs = replace(inputs, missing={"YEARS_EMPLOYED": "highest"})
    random = np.random.default_rng(2)
    value = random.uniform(0, 30, CLIENTS)
    target = (random.random(CLIENTS) < np.where(value > 20, 0.9, 0.1)).astype(np.float64)
    features = rows.features.copy()
    features[:, column] = np.where(value > 27, np.nan, value)
    told = Rows(features, target, rows.complete, inputs)
    is_scored = (value < 5) | (random.random(CLIENTS) < 0.3) & (value > 27)
    fold = Fold(np.flatnonzero(~is_scored), np.flatnonzero(is_scored))
    booster, longer = fit_early(told, fold, START, 1), fit(told.take(fold.train), START, 1, 60)
    losses = [
        log_loss(target[fold.scored], longer.predict(features[fold.scored], num_iteration=trees))
        for trees in range(1, 61)
    ]
    assert log_loss(target[fold.scored], booster.predict(features[fold.scored])) <= min(losses)


def mean_margins(booster: Booster, rows: Rows, name: str, codes: list[float]) -> list[float]:
    """The mean margin of 500 clients when all are given each of these codes."""
    given = np.repeat(rows.features[:500], len(codes), axis=0)
    given[:, SCHEMA.names.index(name)] = np.tile(codes, 500)
    margins = np.asarray(booster.predict(given, raw_score=True)).reshape(500, len(codes))
    return [float(mean) for mean in margins.mean(axis=0)]


@pytest.mark.parametrize("name", ["NAME_EDUCATION_TYPE", "NAME_INCOME_TYPE", "FLAG_DOCUMENT_3"])
def test_a_gap_that_the_data_never_have_is_not_scored_as_the_first_category(name: str) -> None:
    rows = clients(6000, SEED)
    rows = replace(rows, inputs=replace(rows.inputs, missing={}))
    found = np.unique(rows.features[:, SCHEMA.names.index(name)]).tolist()
    margins = mean_margins(fit(rows, START, 0, 100), rows, name, [*found, np.nan])
    assert min(margins[:-1]) < margins[-1] < max(margins[:-1])


def test_masking_hides_a_tenth_with_the_same_share_of_defaults_and_leaves_the_rest(rows: Rows) -> None:
    masked = mask_rarely_missing(rows.features, rows.target, Inputs(SCHEMA))
    hidden = np.isnan(masked) & ~np.isnan(rows.features)
    for column, feature in enumerate(SCHEMA.features):
        if not feature.nullable or np.isnan(rows.features[:, column]).mean() > 0.01:
            assert not hidden[:, column].any()
        else:
            assert hidden[:, column].mean() == pytest.approx(0.1, abs=0.005)
            defaults = rows.target[hidden[:, column]].mean()
            assert defaults == pytest.approx(rows.target.mean(), abs=0.01)
    np.testing.assert_array_equal(masked[~hidden], rows.features[~hidden])


def test_too_few_defaults_are_refused_in_one_sentence(rows: Rows) -> None:
    with pytest.raises(TrainingRefused, match=r"at least 60 rows of either outcome, got \d+ with 1 and"):
        split(rows.take(np.arange(300)), seed=0)


def test_an_unseen_booster_scores_less_than_seventy_eight_on_synthetic_clients() -> None:
    """A synthetic set that is easier than the real one would teach nothing about real ones."""
    booster = fit(clients(20_000, 1), START, seed=0, trees=200)
    fresh = clients(10_000, 2)
    assert 0.73 < roc_auc_score(fresh.target, booster.predict(fresh.features)) < 0.78


def test_of_many_clients_a_sample_is_searched_on(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, object]] = []

    def scores(sample: Rows, *_: object) -> Iterator[ScoredFold]:
        seen.append((len(sample), float(sample.target.mean())))
        both = np.concatenate([np.flatnonzero(sample.target == outcome)[:9] for outcome in (0, 1)])
        yield ScoredFold(both, np.repeat([0.1, 0.9], 9), 1)

    monkeypatch.setattr(train.study.tune, "MAX_TUNING_ROWS", 1000)
    monkeypatch.setattr(train.study.tune, "score_folds", scores)
    search(rows, tmp_path, trials=1)
    assert seen == [(1000, pytest.approx(rows.target.mean(), abs=0.001))]
