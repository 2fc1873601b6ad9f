"""CatBoost models to bundles: what is read without CatBoost, and equality with it where it is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import pytest

from export.catboost.json_model import parse_catboost
from export.errors import ExportRefused
from export.forest.evidence import Evidence
from export.load import LoadOptions, load
from server.model.predictor import Predictor
from tests.support.export_models import export, parity_report, rows, target

NEEDS = "CatBoost is not installed: `make catboost` installs it"


def document(**info: Any) -> bytes:
    """The JSON of a model of two oblivious splits, as CatBoost 1.2 writes it."""
    columns = [
        {"feature_index": i, "flat_feature_index": i, "feature_id": name, "nan_value_treatment": nan,
         "has_nans": nan != "AsIs", "borders": [0.5]}
        for i, (name, nan) in enumerate([("a", "AsFalse"), ("b", "AsIs")])
    ]  # fmt: skip
    splits = [{"border": 0.5, "float_feature_index": i, "split_type": "FloatFeature"} for i in (0, 1)]
    told = {"params": {"loss_function": {"type": "Logloss"}}, "class_params": {"class_names": ["no", "yes"]}}
    return orjson.dumps(
        {
            "features_info": {"float_features": columns, **info},
            "oblivious_trees": [{"splits": splits, "leaf_values": [1.0, 2.0, 3.0, 4.0]}],
            "scale_and_bias": [1, [0.25]],
            "model_info": told,
        }
    )


def test_an_oblivious_tree_is_a_tree_whose_last_split_is_the_root() -> None:
    model = parse_catboost(document(), lambda *_: {})
    (tree,) = model.forest.trees
    assert tree.leaves == (1.0, 2.0, 3.0, 4.0)
    assert [(split.feature, split.threshold, split.default_left) for split in tree.splits] == [
        (1, 0.5, True),
        (0, 0.5, True),
        (0, 0.5, True),
    ]
    assert (model.bias, model.classes, model.gaps) == ((0.25,), ("no", "yes"), frozenset({0}))


@pytest.mark.parametrize("kind", ["ctrs", "text_features", "embedding_features"])
def test_columns_of_other_kinds_are_refused_by_name(kind: str) -> None:
    with pytest.raises(ExportRefused, match="expected columns of numbers and of one-hot categories, got"):
        parse_catboost(document(**{kind: [{}]}), lambda *_: {})


def test_a_split_by_a_category_sends_it_right_and_whatever_is_none_left() -> None:
    column = {"feature_index": 0, "feature_id": "city", "flat_feature_index": 2, "values": [-5]}
    changed = orjson.loads(document(categorical_features=[column]))
    changed["oblivious_trees"][0]["splits"][0] = {
        "cat_feature_index": 0, "split_type": "OneHotFeature", "value": -5,
    }  # fmt: skip
    model = parse_catboost(orjson.dumps(changed), lambda *_: {"Oslo": 7, "Rome": -5, "Kyiv": 9})
    (tree,) = model.forest.trees
    asked = [split for split in tree.splits if split.members]
    assert [(split.feature, split.members, split.default_left) for split in asked] == [(2, (1,), False)] * 2
    assert model.categories == {2: ("Oslo", "Rome", "Kyiv")}
    with pytest.raises(ExportRefused, match="every category of city that the model splits by, got 1 that"):
        parse_catboost(orjson.dumps(changed), lambda *_: {"Oslo": 7})


def test_the_probability_threshold_of_the_file_is_read() -> None:
    told = orjson.loads(document())
    assert parse_catboost(document(), lambda *_: {}).threshold == 0.5
    told["model_info"]["binclass_probability_threshold"] = "0.3"
    assert parse_catboost(orjson.dumps(told), lambda *_: {}).threshold == 0.3


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_where_classes_tie_catboosts_own_class_is_answered(threshold: float, tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost", reason=NEEDS)
    fixed = {"iterations": 2, "depth": 2, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    matrix, outcome = np.tile([[0.0], [0.0], [1.0]], (40, 1)), np.tile([0, 1, 1], 40)
    model = catboost.CatBoostClassifier(**fixed, boost_from_average=False, l2_leaf_reg=0.0)
    model.fit(matrix, outcome).set_probability_threshold(threshold)
    model.save_model(str(tmp_path / "m.cbm"))
    assert (model.predict_proba(matrix)[:, 1] == 0.5).any()
    bundle = export(tmp_path, load(tmp_path / "m.cbm", LoadOptions()))
    predictor = Predictor(bundle)
    decided = [predictor.predict(row.tobytes())[1] for row in matrix]
    assert decided == model.predict(matrix).tolist()
    assert bundle.read_json("parity.json")["classes"]["ties_differ"] == 0


@pytest.mark.parametrize("content", [b'{"features_info":{}}', document()[:-40] + b"}"])
def test_a_damaged_file_is_one_sentence(content: bytes) -> None:
    with pytest.raises(ExportRefused, match="a whole CatBoost model"):
        parse_catboost(content, lambda *_: {})


PARAMETERS: dict[str, tuple[str, dict[str, Any]]] = {
    "logloss": ("binary", {"loss_function": "Logloss"}),
    "classes": ("classes", {"loss_function": "MultiClass"}),
    "value, largest for missing": ("value", {"loss_function": "RMSE", "nan_mode": "Max"}),
    "counts": ("count", {"loss_function": "Poisson"}),
    "amounts": ("count", {"loss_function": "Tweedie:variance_power=1.5"}),
    "focal": ("binary", {"loss_function": "Focal:focal_alpha=0.5;focal_gamma=2.0"}),
    "trees that are not oblivious": ("binary", {"loss_function": "Logloss", "grow_policy": "Lossguide"}),
}


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("form", ["cbm", "json"])
def test_a_model_is_equal_to_the_bit(name: str, form: str, tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost", reason=NEEDS)
    kind, parameters = PARAMETERS[name]
    fixed = {"iterations": 8, "depth": 4, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    model = catboost.CatBoost({**fixed, **parameters}).fit(rows(600), target(rows(600), kind))
    model.save_model(str(tmp_path / f"m.{form}"), format=form)
    bundle = export(tmp_path, load(tmp_path / f"m.{form}", LoadOptions()))
    assert parity_report(bundle)["total"]["margin_bits_differ"] == 0
    if parameters["loss_function"] in ("Poisson", "Tweedie:variance_power=1.5"):
        answers = [
            output for row in rows(600)[:50] for output in [Predictor(bundle).predict(row.tobytes())[0]]
        ]
        assert np.allclose(answers, model.predict(rows(600)[:50], "Exponent"), rtol=1e-12, atol=0.0)


def test_a_ranker_is_equal_to_the_bit(tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost", reason=NEEDS)
    fixed = {"iterations": 8, "depth": 4, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    model = catboost.CatBoostRanker(**fixed, loss_function="YetiRank")
    model.fit(rows(600), target(rows(600)), group_id=np.arange(600) // 20).save_model(str(tmp_path / "m.cbm"))
    bundle = export(tmp_path, load(tmp_path / "m.cbm", LoadOptions()))
    assert (bundle.exact, bundle.task) == (True, "ranking")


def test_several_targets_are_refused_with_what_to_do(tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost", reason=NEEDS)
    fixed = {"iterations": 2, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    both = np.stack([target(rows(600)), target(rows(600), seed=2)], axis=1)
    model = catboost.CatBoost({**fixed, "loss_function": "MultiLogloss"}).fit(rows(600), both)
    model.save_model(str(tmp_path / "m.cbm"))
    with pytest.raises(ExportRefused, match=r"expected one target, got several .*: train a model for each"):
        load(tmp_path / "m.cbm", LoadOptions())


def test_one_hot_categories_are_equal_to_the_bit(tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost", reason=NEEDS)
    random = np.random.default_rng(0)
    table = pd.DataFrame({
        "amount": random.normal(size=400), "city": random.choice(["Oslo", "Rome", "Kyiv"], 400),
        "code": random.choice([3, 7, 40], 400), "member": random.random(400) < 0.5,
    })  # fmt: skip
    bad = table.amount + 2 * (table.city == "Oslo") + (table.code == 7) + table.member > 1
    names = ["city", "code", "member"]
    fixed = {"iterations": 8, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    model = catboost.CatBoostClassifier(**fixed, one_hot_max_size=9, cat_features=names).fit(table, bad)
    model.save_model(str(tmp_path / "m.cbm"))
    with pytest.raises(ExportRefused, match=r"expected the categories of city.* give --data"):
        load(tmp_path / "m.cbm", LoadOptions())
    evidence = Evidence(values=lambda name: frozenset(map(str, table[name].unique())))
    bundle = export(tmp_path, load(tmp_path / "m.cbm", LoadOptions(evidence=evidence)))
    assert bundle.exact
    unseen = {"amount": 0.5, "city": "Bern", "code": "3", "member": "1"}
    row = np.frombuffer(bundle.schema.encode(unseen))
    theirs = model.predict(pd.DataFrame([unseen | {"code": 3, "member": True}]), "RawFormulaVal")
    assert Predictor(bundle).margins(row.reshape(1, -1)).tolist() == theirs.tolist()


def test_without_catboost_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.load.find_spec", lambda _: None)
    (tmp_path / "m.cbm").write_bytes(b"CBM1 and more")
    with pytest.raises(ExportRefused, match=r"uv pip install catboost.* or save the model with save_model"):
        load(tmp_path / "m.cbm", LoadOptions())
