"""XGBoost: float32 from the row to the answer, equal to the bit or refused by name.

Numbers of pitfalls are the rows of the table in `docs/exact-export.md`.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import pytest
import xgboost

from export.errors import ExportRefused
from export.xgboost.json_model import parse_xgboost
from export.xgboost.model import convert_xgboost
from server.errors import UnacceptableRow
from server.model.predictor import Predictor
from tests.support.export_models import export, parity_report, rows, target, train_xgboost, xgboost_conversion
from tests.support.representatives import represented

EXACT: dict[str, tuple[dict[str, Any], str, str]] = {
    "binary": ({"objective": "binary:logistic"}, "binary", "binary"),
    "reg:logistic": ({"objective": "reg:logistic"}, "binary", "regression"),
    "squared": ({"objective": "reg:squarederror"}, "value", "regression"),
    "pseudo huber": ({"objective": "reg:pseudohubererror"}, "value", "regression"),
    "absolute": ({"objective": "reg:absoluteerror"}, "value", "regression"),
    "quantile": ({"objective": "reg:quantileerror", "quantile_alpha": 0.3}, "value", "regression"),
    "poisson": ({"objective": "count:poisson"}, "count", "regression"),
    "gamma": ({"objective": "reg:gamma"}, "count", "regression"),
    "tweedie": ({"objective": "reg:tweedie"}, "count", "regression"),
    "softprob": ({"objective": "multi:softprob", "num_class": 3}, "classes", "multiclass"),
    "softmax": ({"objective": "multi:softmax", "num_class": 3}, "classes", "multiclass"),
    "dart": ({"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.3}, "binary", "binary"),
    "parallel trees": (
        {"objective": "multi:softprob", "num_class": 3, "num_parallel_tree": 3, "subsample": 0.5},
        "classes",
        "multiclass",
    ),
}


@pytest.mark.parametrize("name", represented(EXACT, "binary", "squared", "softprob", "dart"))
def test_every_objective_is_exact_in_margin_and_answer(name: str, tmp_path: Path) -> None:
    """Pitfalls 3 and 4: float32, `<`, and XGBoost's own order of the sum."""
    parameters, kind, task = EXACT[name]
    booster = train_xgboost(parameters, kind, 120 if name == "binary" else 40)
    bundle = export(tmp_path, xgboost_conversion(booster))
    assert (bundle.task, bundle.exact, parity_report(bundle)["exact"]) == (task, True, True)
    assert bundle.manifest["precision"] == "float32"


def test_ubj_and_json_give_the_same_graph(tmp_path: Path) -> None:
    booster = train_xgboost({"objective": "binary:logistic"}, "binary", 20)
    graphs = [xgboost_conversion(booster, form).graph({}) for form in ("json", "ubj")]
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize("base_score", [0.5, 0.123, 1e-6])
def test_base_score_is_read_from_the_model(base_score: float, tmp_path: Path) -> None:
    """Pitfall 14: also where no feature ever splits."""
    parameters = {"objective": "binary:logistic", "base_score": base_score, "gamma": 1e9}
    bundle = export(tmp_path, xgboost_conversion(train_xgboost(parameters, "binary", 3)))
    assert parity_report(bundle)["exact"]


@pytest.mark.parametrize("text", ["3E-1", "[3E-1]"])
def test_base_score_of_1_and_of_3_is_understood(text: str) -> None:
    """Pitfall 14: a number in 1.x and 2.x, a vector in 3.x."""
    booster = train_xgboost({"objective": "binary:logistic", "base_score": 0.3}, "binary", 2)
    document = orjson.loads(bytes(booster.save_raw("json")))
    document["learner"]["learner_model_param"]["base_score"] = text
    assert parse_xgboost(orjson.dumps(document)).forest.base == pytest.approx((-0.8472978,))


def test_early_stopping_exports_the_best_iteration(tmp_path: Path) -> None:
    """Pitfall 15: read from the model that scikit-learn's wrapper saved."""
    matrix, classes = rows(), target(rows(), "classes").astype(int)
    model = xgboost.XGBClassifier(n_estimators=80, early_stopping_rounds=3, learning_rate=0.8, n_jobs=1)
    model.fit(matrix[:2000], classes[:2000], eval_set=[(matrix[2000:], classes[2000:])], verbose=False)
    bundle = export(tmp_path, xgboost_conversion(model.get_booster()))
    assert bundle.manifest["source"]["best_iteration"] == model.best_iteration < 79
    ours = Predictor(bundle).outputs(Predictor(bundle).margins(matrix[:50]))
    assert np.array_equal(np.array(ours, dtype=np.float32), model.predict_proba(matrix[:50]))


def test_what_is_not_proven_is_refused_by_name() -> None:
    booster = train_xgboost({"objective": "binary:hinge"}, "binary", 2)
    with pytest.raises(ExportRefused, match="binary:hinge"):
        xgboost_conversion(booster)


@pytest.mark.parametrize("objective", ["reg:squarederror", "binary:logistic", "multi:softprob"])
def test_gblinear_is_a_sum_in_its_order(objective: str, tmp_path: Path) -> None:
    several = {"num_class": 3} if objective.startswith("multi") else {}
    parameters = {"objective": objective, "booster": "gblinear", **several}
    booster = train_xgboost(parameters, "classes" if several else "binary", 5)
    bundle = export(tmp_path, xgboost_conversion(booster))
    assert bundle.exact
    assert parity_report(bundle)["exact"]


@pytest.mark.parametrize("one_hot", [1, 100], ids=["sets", "one category a split"])
def test_codes_of_categories_are_exact_for_every_code(one_hot: int, tmp_path: Path) -> None:
    matrix = rows(800).astype(np.float32)
    kinds = ["c" if i in (3, 4) else "q" for i in range(matrix.shape[1])]
    data = xgboost.DMatrix(matrix, target(matrix), feature_types=kinds, enable_categorical=True)
    parameters = {"objective": "binary:logistic", "max_cat_to_onehot": one_hot, "nthread": 1}
    conversion = xgboost_conversion(xgboost.train(parameters, data, 6), "ubj")
    assert conversion.codes == {3, 4}
    assert [feature.kind for feature in conversion.features][2:5] == ["number", "integer", "integer"]
    assert parity_report(export(tmp_path, conversion))["exact"]


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "int32", "int64"])
def test_categories_of_a_narrow_type_are_scored_in_theirs(kind: str, tmp_path: Path) -> None:
    """XGBoost refuses a frame whose categories are whole numbers of another type than in training."""
    frame = pd.DataFrame({"code": pd.Categorical(np.array([10, 20, 35] * 60, kind)), "x": rows(180)[:, 0]})
    data = xgboost.DMatrix(frame, np.arange(180) % 3, enable_categorical=True)
    conversion = xgboost_conversion(xgboost.train({"booster": "dart", "nthread": 1}, data, 3), "ubj")
    bundle = export(tmp_path, conversion)
    assert bundle.exact
    assert bundle.schema.features[0].categories == ("10", "20", "35")


def test_weights_of_dropout_are_found_where_each_version_has_them() -> None:
    """Up to XGBoost 3.2 beside a forest of its own, in 3.3 beside the trees, from 3.4 on among them."""
    booster = train_xgboost(
        {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.5}, "binary", 6
    )
    document = orjson.loads(booster.save_raw("json"))
    learner = document["learner"]
    kept = learner["gradient_booster"]
    model = kept.get("gbtree", kept)["model"]
    weights = model.pop("weight_drop", None) or kept["weight_drop"]
    assert set(weights) != {1.0}
    forests = []
    for form in (
        {"name": "dart", "gbtree": {"name": "gbtree", "model": model}, "weight_drop": weights},
        {"name": "gbtree", "model": model, "weight_drop": weights},
        {"name": "gbtree", "model": model | {"weight_drop": weights}},
    ):
        learner["gradient_booster"] = form
        forests.append(parse_xgboost(orjson.dumps(document)).forest)
    assert forests[0] == forests[1] == forests[2]
    learner["gradient_booster"] = {"name": "gbtree", "model": model}
    assert parse_xgboost(orjson.dumps(document)).forest != forests[0]


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_a_newer_file_is_exported_unless_something_of_it_is_left_out(form: str, tmp_path: Path) -> None:
    """XGBoost 3.2 reads a file with dropout of 3.4 without a word, and predicts as if none were dropped."""
    booster = train_xgboost({"objective": "binary:logistic"}, "binary", 3)
    content = bytes(booster.save_raw(form))
    length = b"L" + bytes(7) + b"%c"
    if form == "json":
        content = re.sub(rb'"version":\[\d+,\d+', b'"version":[99,1', content)
        version, unknown = b'"version"', b'"unheard_of":[1],'
    else:
        version, unknown = length % 7 + b"version", length % 10 + b"unheard_ofi\1"
        start = content.rindex(version) + len(version) + len(b"[#L" + bytes(8))
        content = content[:start] + b"i\x63i\1" + content[start + 4 :]
    assert export(tmp_path, convert_xgboost(content)).exact
    place = content.rindex(version)
    content = content[:place] + unknown + content[place:]
    with pytest.raises(ExportRefused, match=r"leaves unheard_of out of what 99\.1 wrote"):
        convert_xgboost(content)


def test_leaves_that_are_no_numbers_are_refused_by_their_cause() -> None:
    """The logarithm of a label, or a base, of 0."""
    with pytest.raises(ExportRefused, match=r"expected finite leaves, got .* without base_score=0"):
        xgboost_conversion(train_xgboost({"objective": "reg:tweedie", "base_score": 0.0}, "count", 2))


@pytest.mark.parametrize("strategy", ["one_output_per_tree", "multi_output_tree"])
def test_of_several_targets_one_is_served(strategy: str, tmp_path: Path) -> None:
    matrix = rows(500).astype(np.float32)
    both = np.c_[target(matrix, "value"), target(matrix, "count")]
    parameters = {"multi_strategy": strategy, "nthread": 1, "tree_method": "hist"}
    content = bytes(xgboost.train(parameters, xgboost.DMatrix(matrix, both), 3).save_raw("json"))
    with pytest.raises(ExportRefused, match="choose one by its number with --output"):
        convert_xgboost(content)
    with pytest.raises(ExportRefused, match="0 to 1"):
        convert_xgboost(content, target=2)
    for place in range(2):
        bundle = export(tmp_path / str(place), convert_xgboost(content, target=place))
        assert parity_report(bundle)["exact"]
        assert bundle.manifest["source"]["output"] == str(place)


@pytest.mark.parametrize("objective", ["survival:cox", "survival:aft", "binary:logitraw"])
def test_objectives_of_one_number_are_exact(objective: str, tmp_path: Path) -> None:
    data = xgboost.DMatrix(rows(500).astype(np.float32), target(rows(500), "binary") + 0.0)
    if objective == "survival:aft":
        for end in ("lower", "upper"):
            data.set_float_info(f"label_{end}_bound", target(rows(500), "count"))
    booster = xgboost.train({"objective": objective, "nthread": 1, "verbosity": 0}, data, 4)
    assert export(tmp_path, xgboost_conversion(booster)).exact


def test_a_column_that_was_boolean_takes_booleans() -> None:
    frame = pd.DataFrame(rows()[:, :2], columns=["a", "b"]).assign(late=rows()[:, 5] > 0)
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(frame, target(rows())), 3)
    schema = xgboost_conversion(booster).schema
    assert schema.encode({"a": 1, "b": 2, "late": True}) == schema.encode({"a": 1, "b": 2, "late": 1.0})
    with pytest.raises(UnacceptableRow, match="1 field"):
        schema.encode({"a": True, "late": 2.5})
