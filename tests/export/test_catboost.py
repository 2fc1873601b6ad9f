"""CatBoost models to bundles: what is read without CatBoost, and equality with it where it is installed."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from export.catboost.json_model import parse_catboost
from export.errors import ExportRefused
from export.load import LoadOptions, load
from tests.support.export_models import export, rows, target


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


def test_an_oblivious_tree_is_a_tree_whose_first_split_is_the_lowest_bit() -> None:
    model = parse_catboost(document())
    (tree,) = model.forest.trees
    assert tree.leaves == (1.0, 3.0, 2.0, 4.0)
    assert [(split.feature, split.threshold, split.default_left) for split in tree.splits] == [
        (0, 0.5, True),
        (1, 0.5, True),
        (1, 0.5, True),
    ]
    assert (model.bias, model.classes, model.gaps) == ((0.25,), ("no", "yes"), frozenset({0}))


@pytest.mark.parametrize("kind", ["categorical_features", "ctrs", "text_features"])
def test_columns_of_other_kinds_are_refused_by_name(kind: str) -> None:
    with pytest.raises(ExportRefused, match="expected columns of numbers alone, got"):
        parse_catboost(document(**{kind: [{}]}))


@pytest.mark.parametrize("content", [b'{"features_info":{}}', document()[:-40] + b"}"])
def test_a_damaged_file_is_one_sentence(content: bytes) -> None:
    with pytest.raises(ExportRefused, match="a whole CatBoost model"):
        parse_catboost(content)


PARAMETERS: dict[str, tuple[str, dict[str, Any]]] = {
    "logloss": ("binary", {"loss_function": "Logloss"}),
    "classes": ("classes", {"loss_function": "MultiClass"}),
    "value, largest for missing": ("value", {"loss_function": "RMSE", "nan_mode": "Max"}),
    "trees that are not oblivious": ("binary", {"loss_function": "Logloss", "grow_policy": "Lossguide"}),
}


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("form", ["cbm", "json"])
def test_a_model_is_equal_to_the_bit(name: str, form: str, tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost", reason="needs CatBoost: uv pip install catboost")
    kind, parameters = PARAMETERS[name]
    fixed = {"iterations": 8, "depth": 4, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    model = catboost.CatBoost({**fixed, **parameters}).fit(rows(600), target(rows(600), kind))
    model.save_model(str(tmp_path / f"m.{form}"), format=form)
    assert export(tmp_path, load(tmp_path / f"m.{form}", LoadOptions())).exact


def test_without_catboost_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.load.find_spec", lambda _: None)
    (tmp_path / "m.cbm").write_bytes(b"CBM1 and more")
    with pytest.raises(ExportRefused, match=r"uv pip install catboost.* or save the model with save_model"):
        load(tmp_path / "m.cbm", LoadOptions())
