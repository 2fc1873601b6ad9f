"""The last bits: where a library rounds in its own way."""

import math
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import orjson
import pytest
import xgboost
from sklearn.ensemble import HistGradientBoostingRegressor

from export.forest.conversion import Conversion
from export.lightgbm.model import convert_lightgbm
from export.lightgbm.text import atof
from export.sklearn.model import convert_sklearn
from export.xgboost.model import convert_xgboost
from server.errors import BundleError
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.bundles import edit
from tests.support.export_models import export

pytestmark = pytest.mark.whole

ROWS = np.random.default_rng(0).normal(size=(300, 3))
HALF = (ROWS[:, 0] > 0).astype(float)


def boosted(target: Any = HALF, rows: Any = ROWS, rounds: int = 4, **parameters: Any) -> Conversion:
    chosen = {"objective": "binary:logistic", "nthread": 1, "verbosity": 0} | parameters
    booster = xgboost.train(chosen, xgboost.DMatrix(rows, target), rounds)
    return convert_xgboost(bytes(booster.save_raw("json")))


def lightgbm_of(target: Any = HALF, rows: Any = ROWS, rounds: int = 4, **parameters: Any) -> Conversion:
    chosen = {"objective": "binary", "verbosity": -1, "num_threads": 1, "seed": 1} | parameters
    dataset = lightgbm.Dataset(rows, target, params={"verbosity": -1})
    return convert_lightgbm(lightgbm.train(chosen, dataset, rounds).model_to_string())


@pytest.mark.parametrize("target", [HALF * 0, HALF * 0 + 1], ids=["none", "all"])
def test_labels_of_one_class_leave_xgboosts_base_at_an_end(target: Any, tmp_path: Path) -> None:
    assert export(tmp_path, boosted(target)).exact


@pytest.mark.parametrize("score", [1e-7, 1e-30, 0.9999999])
def test_a_base_score_beyond_the_ends_is_clipped_as_xgboost_does(score: float, tmp_path: Path) -> None:
    assert export(tmp_path, boosted(base_score=score)).exact


def test_a_json_with_infinity_is_read(tmp_path: Path) -> None:
    rows = ROWS.astype(np.float32)
    rows[::3, 1] = np.nan
    rows[~np.isnan(rows[:, 1]), 1] = np.finfo(np.float32).max
    conversion = boosted(np.isnan(rows[:, 1]).astype(float), rows, tree_method="hist")
    assert b"Infinity" in conversion.content
    assert export(tmp_path, conversion).exact


def test_a_number_beyond_float32_is_infinity_as_for_inplace_predict(tmp_path: Path) -> None:
    booster = xgboost.train(
        {"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(ROWS, HALF), num_boost_round=4
    )
    predictor = Predictor(export(tmp_path, convert_xgboost(bytes(booster.save_raw("json")))))
    beyond = np.array([[1e300, 0.1, -0.2], [-1e39, 0.1, -0.2]])
    margins = booster.inplace_predict(beyond, predict_type="margin")
    assert predictor.margins(beyond).tolist() == margins.tolist()


def test_a_margin_of_minus_zero_is_zero(tmp_path: Path) -> None:
    rows = np.repeat([[0.0, 1.0], [1.0, 0.0]], 20, axis=0)
    target = np.r_[np.tile([0.0, 1.0], 10), np.ones(20)]
    assert export(tmp_path, boosted(target, rows, 1, base_score=0.5)).exact


@pytest.mark.parametrize("sigmoid", [0.7, 1.14, 2.37])
def test_sigmoid_is_read_as_lightgbm_reads_it(sigmoid: float, tmp_path: Path) -> None:
    bundle = export(tmp_path, lightgbm_of(sigmoid=sigmoid))
    assert bundle.read_json("parity.json")["exact"]


def test_decimals_are_lightgbms_own() -> None:
    assert atof("1.14") == 1.1400000000000001 != 1.14
    assert (atof("2"), atof("0.5"), atof("1e-3"), atof("-2.5e1")) == (2.0, 0.5, 0.001, -25.0)


@pytest.mark.parametrize("loss", ["gamma", "poisson"])
def test_amounts_of_money_are_compared_relatively(loss: str, tmp_path: Path) -> None:
    model = HistGradientBoostingRegressor(loss=loss, max_iter=10).fit(ROWS, np.exp(ROWS[:, 0]) * 1e5)
    assert export(tmp_path, convert_sklearn(model, "source.joblib", b"")).exact


def test_constant_trees_among_several_classes_with_categories(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    rows, target = random.integers(0, 12, (40, 2)).astype(float), random.integers(0, 5, 40)
    dataset = lightgbm.Dataset(rows, target, categorical_feature=[0, 1], params={"verbosity": -1})
    parameters = {"objective": "multiclass", "num_class": 6, "verbosity": -1, "num_threads": 1,
                  "min_data_in_leaf": 1, "min_data_per_group": 1, "cat_smooth": 0.1}  # fmt: skip
    text = lightgbm.train(parameters, dataset, 5).model_to_string()
    assert export(tmp_path, convert_lightgbm(text)).exact


def test_golden_row_of_a_class_that_is_not_as_likely_is_refused(tmp_path: Path) -> None:
    """Last bits that differ in the outputs excuse another class only if both are equally likely."""
    target = np.digitize(ROWS[:, 0], [-0.5, 0.5])
    bundle = export(tmp_path, lightgbm_of(target, objective="multiclass", num_class=3))
    first, *others = (bundle.directory / "golden.jsonl").read_bytes().splitlines(keepends=True)
    golden = orjson.loads(first)
    outputs = list(map(float.fromhex, golden["probabilities"]))
    least = min(range(3), key=outputs.__getitem__)
    golden["prediction"] = bundle.outcomes[least]
    golden["probabilities"][0] = math.nextafter(outputs[0], 1.0).hex()
    edit(bundle.directory, "golden.jsonl", b"\n".join([orjson.dumps(golden), b"".join(others)]))
    with pytest.raises(BundleError, match="the outcome"):
        Predictor(Bundle.load(bundle.directory)).check_golden_rows()
