"""What the recipe must reach on real clients (skipped where there are none)."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from export.evaluation.cost import Costs, cost_per_client
from server.model.bundle import Bundle
from tests.support.bundles import CREDIT
from tests.support.real_data import DATA, needs_real_data
from train.golden import encode, synthetic_rows
from train.study.fit import fit, model_text, out_of_fold
from train.study.model import split
from train.study.tune import START
from train.tables.data import load
from train.tables.features import INPUTS
from train.tables.rows import Rows
from train.tables.synthetic import draw_population

pytestmark = [pytest.mark.whole, needs_real_data]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return load(DATA)[0]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(CREDIT)


def test_the_real_files_are_read_whole(rows: Rows) -> None:
    assert rows.complete.sum() == 5000
    assert rows.target[rows.complete].mean() == pytest.approx(0.0772)
    assert len(rows) in (5000, 13_975)


def test_the_shipped_recipe_reaches_its_auc_in_cross_validation(rows: Rows, bundle: Bundle) -> None:
    provenance = bundle.manifest["provenance"]
    trees = provenance["parameters"]["trees"]
    unseen = out_of_fold(rows, provenance["tuned"], seed=0, repeats=1, trees=trees)
    assert roc_auc_score(unseen.target, unseen.scores[0]) >= 0.745


def test_the_shipped_model_is_what_its_provenance_trains(rows: Rows, bundle: Bundle) -> None:
    provenance = bundle.manifest["provenance"]
    if len(rows) != 13_975:
        pytest.skip("the shipped model was trained with application_train_sample.parquet")
    development = split(rows, provenance["seed"]).development
    again = fit(development, provenance["tuned"], provenance["seed"], provenance["parameters"]["trees"])
    assert model_text(again) == (bundle.directory / "model.txt").read_text()


def test_the_shipped_model_refuses_some_and_accepts_most(bundle: Bundle) -> None:
    held = bundle.manifest["evaluation"]["held_out"]
    assert 0.05 < held["refusal_rate"] < 0.5
    assert held["cost"]["model"] < min(held["cost"]["accept_all"], held["cost"]["refuse_all"])


def test_a_model_of_synthetic_clients_reaches_its_auc_on_real_ones(rows: Rows) -> None:
    count = 20_000
    target = draw_population(count, 0)["TARGET"].astype(np.float64)
    synthetic = Rows(encode(synthetic_rows(count, 0)), target, np.ones(count, dtype=bool), INPUTS)
    scores = np.asarray(fit(synthetic, START, seed=0, trees=200).predict(rows.features[rows.complete]))
    real = rows.target[rows.complete]
    assert roc_auc_score(real, scores) >= 0.72
    at_analytic = cost_per_client(real, scores, np.array([Costs().analytic_threshold]), Costs())[0]
    assert at_analytic < min(10 * real.mean(), 1 - real.mean())
