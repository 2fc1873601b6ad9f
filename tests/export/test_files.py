"""Model files by whatever name and in whatever form people have them, recognised by their content."""

import io
import os
import pickle
import re
import zipfile
import zlib
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]  # ships no types
import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import pytest
import sklearn.base
import xgboost
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from xgboost import XGBClassifier

from export.errors import ExportRefused
from export.load import LoadOptions, load, model_file
from export.unguarded import main
from tests.support.export_models import export, rows, target, train_lightgbm, train_xgboost
from tests.support.servers import run

ALLOWED = LoadOptions(trust_pickle=True)


@pytest.fixture(scope="module")
def text() -> bytes:
    return train_lightgbm({"objective": "binary"}, "binary", 5).encode()


@pytest.fixture(scope="module")
def booster() -> xgboost.Booster:
    return train_xgboost({"objective": "binary:logistic"}, "binary", 5)


@pytest.mark.parametrize("name", ["m.txt", "model.lgb", "model.model", "0a1b2c", "model.json"])
def test_lightgbm_by_any_name(name: str, text: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text)
    assert load(tmp_path / name, ALLOWED).family == "lightgbm"


@pytest.mark.parametrize("form", ["json", "ubj"])
@pytest.mark.parametrize("name", ["model.xgb", "model.bst", "xgboost-model", "model.json", "model.ubj"])
def test_xgboost_by_any_name(name: str, form: str, booster: xgboost.Booster, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(booster.save_raw(form))
    conversion = load(tmp_path / name, ALLOWED)
    assert (conversion.family, conversion.file) == ("xgboost", f"model.{form}")


def test_line_ends_of_windows_and_a_byte_order_mark_do_not_matter(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert load(tmp_path / "m.txt", ALLOWED).content == text


def test_a_link_to_a_blob_of_a_hub_is_followed(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "0a1b2c").write_bytes(text)
    (tmp_path / "model.txt").symlink_to("0a1b2c")
    assert load(tmp_path / "model.txt", ALLOWED).family == "lightgbm"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"tree_info": [], "name": "tree"}', "dump_model.*save_model"),
        (b'{"learner": {"learner_train_param": {}}}', "save_config.*save_model"),
        (b"binf\x00\x00", r"old binary format.*m\.json"),
        (bytes(136) + b"\x0f" + bytes(7) + b"binary:logistic", r"old binary format.*m\.json"),
        (b'[{"nodeid": 0, "leaf": 1}]', "dump_model.*save_model"),
        (b"booster[0]:\n0:leaf=1\n", "dump_model.*save_model"),
        (b"[1]", "whose content is none of these"),
        (b"", "whose content is none of these"),
        (b"<html>", "whose content is none of these"),
        (b"PK\x03\x04", "damaged"),
    ],
)
def test_other_files_are_refused_with_what_to_do(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(ExportRefused, match=words):
        load(tmp_path / "model.bin", ALLOWED)


@pytest.mark.parametrize("name", ["model.lgb", "model.txt"])
def test_a_folder_of_mlflow_holds_one_model(name: str, text: bytes, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}")
    (tmp_path / name).write_bytes(text)
    assert model_file(tmp_path) == tmp_path / name
    (tmp_path / "model.pkl").write_bytes(b"")
    with pytest.raises(ExportRefused, match=r"model\.pkl: name the model file itself"):
        model_file(tmp_path)


def test_an_address_is_no_file() -> None:
    with pytest.raises(ExportRefused, match="download it first"):
        load(Path("https://example.com/m.txt"), ALLOWED)


def saved(folder: Path, model: Any) -> Path:
    joblib.dump(model, folder / "m.joblib")
    return folder / "m.joblib"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (LGBMClassifier(), "a fitted model, got LGBMClassifier before its fit"),
        (LogisticRegression(), "a fitted model"),
        (xgboost.XGBClassifier(), "a fitted model"),
        ({"model": Ridge()}, "got a dict that holds Ridge"),
        ([1, 2], "got a list that holds no model"),
        (np.arange(3), "ndarray"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_fitted_model_is_refused(model: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match=words):
        load(saved(tmp_path, model), ALLOWED)


@pytest.mark.parametrize("form", ["joblib", "skops"])
def test_a_model_of_another_version_is_refused_with_both(
    form: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = LogisticRegression().fit(np.eye(4), [0, 1, 0, 1])
    with monkeypatch.context() as patch:
        patch.setattr(sklearn.base, "__version__", "1.3.2")
        (joblib if form == "joblib" else import_module("skops.io")).dump(model, tmp_path / f"m.{form}")
    with pytest.raises(ExportRefused, match=rf"scikit-learn {sklearn.__version__}.*1\.3\.2.*save it again"):
        load(tmp_path / f"m.{form}", ALLOWED)


def test_a_pickle_of_a_newer_xgboost_is_refused(tmp_path: Path) -> None:
    """XGBoost reads what it knows of it, with a warning or without one."""
    content = pickle.dumps(train_xgboost({"objective": "binary:logistic"}, "binary", 3))
    version = re.escape(b"version[#L" + bytes(7) + b"\x03i")
    older, newer = (re.sub(b"(?s)(%b)." % version, rb"\g<1>" + to, content) for to in (b"\x02", b"\x63"))
    assert older != content != newer
    (tmp_path / "older.pkl").write_bytes(older)
    assert load(tmp_path / "older.pkl", ALLOWED).family == "xgboost"
    for name, written in (("newer.pkl", newer), ("newer.joblib", zlib.compress(newer))):
        (tmp_path / name).write_bytes(written)
        with pytest.raises(ExportRefused, match=r"pickle of XGBoost .* or older, got one of 99\..*--python"):
            load(tmp_path / name, ALLOWED)


def test_a_skops_of_a_newer_xgboost_is_refused(tmp_path: Path) -> None:
    """It restores a booster of the same bytes as a pickle does."""
    content = import_module("skops.io").dumps(XGBClassifier(n_estimators=2).fit(np.eye(4), [0, 1, 0, 1]))
    (tmp_path / "same.skops").write_bytes(content)
    assert load(tmp_path / "same.skops", ALLOWED).family == "xgboost"
    version = re.escape(b"version[#L" + bytes(7) + b"\x03i")
    newer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(newer, "w") as new:
        for name in old.namelist():
            new.writestr(name, re.sub(b"(?s)(%b)." % version, rb"\g<1>" + b"\x63", old.read(name)))
    (tmp_path / "newer.skops").write_bytes(newer.getvalue())
    with pytest.raises(
        ExportRefused, match=r"\.skops or pickle of XGBoost .* or older, got one of 99\..*--python"
    ):
        load(tmp_path / "newer.skops", ALLOWED)


def test_skops_of_an_imputer_holds_a_dtype(tmp_path: Path) -> None:
    matrix = rows(200)
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(matrix, target(matrix))
    (tmp_path / "m.skops").write_bytes(import_module("skops.io").dumps(model))
    assert load(tmp_path / "m.skops", ALLOWED).task == "binary"


def test_skops_of_columns_that_were_categories_holds_a_function(tmp_path: Path) -> None:
    """The encoder of HistGradientBoosting's own has `partial(check_array, …)`; what it is of is looked at."""
    frame = pd.DataFrame({"job": pd.Categorical(["a", "b", "c"] * 40), "age": range(120)})
    model = HistGradientBoostingClassifier(max_iter=2).fit(frame, frame.age % 2)
    (tmp_path / "m.skops").write_bytes(import_module("skops.io").dumps(model))
    assert load(tmp_path / "m.skops", ALLOWED).features[0].categories == ("a", "b", "c")
    odd = make_pipeline(FunctionTransformer(partial(os.system, "true")), LogisticRegression())
    (tmp_path / "odd.skops").write_bytes(import_module("skops.io").dumps(odd))
    with pytest.raises(ExportRefused, match=r"got posix\.system of posix"):
        load(tmp_path / "odd.skops", ALLOWED)


@pytest.mark.parametrize(
    "booster", [LGBMClassifier(n_estimators=2, verbose=-1), XGBClassifier(n_estimators=2)]
)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "behind a scaler"])
def test_skops_holds_a_booster(booster: Any, alone: bool, tmp_path: Path) -> None:
    """As MLflow 3 saves what has scikit-learn's interface."""
    matrix = rows(200)
    model = (clone(booster) if alone else make_pipeline(StandardScaler(), clone(booster))).fit(
        matrix, target(matrix)
    )
    (tmp_path / "m.skops").write_bytes(import_module("skops.io").dumps(model))
    conversion = load(tmp_path / "m.skops", ALLOWED)
    expected = model.predict_proba(matrix)[:, 1]
    assert np.array_equal(conversion.source.outputs(matrix), expected)


def test_two_targets_are_refused(tmp_path: Path) -> None:
    model = Ridge().fit(np.eye(4), np.eye(4)[:, :2])
    with pytest.raises(ExportRefused, match="one target, got 2"):
        load(saved(tmp_path, model), ALLOWED)


def test_an_unexpected_exception_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Odd(Ridge):  # type: ignore[misc]  # scikit-learn ships no types
        def __reduce__(self) -> Any:
            return (io.BytesIO, ())

    path = saved(tmp_path, Odd().fit(np.eye(3), [1.0, 2.0, 3.0]))
    monkeypatch.setattr("export.load.from_object", lambda *_: 1 / 0)
    assert main([str(path), "--trust-pickle", "--out", str(tmp_path / "out")]) == 1
    said = capfd.readouterr().err
    assert "got ZeroDivisionError" in said
    assert said.count("\n") == 1


TRAINED_BEFORE = """
import sys
import lightgbm, numpy
from export.__main__ import main
rows = numpy.random.default_rng(0).normal(size=(2000, 4))
data = lightgbm.Dataset(rows, rows[:, 0] > 0)
booster = lightgbm.train({"objective": "binary", "num_threads": 2, "verbosity": -1}, data, 3)
booster.save_model(sys.argv[1])
sys.exit(main([sys.argv[1], "--out", sys.argv[2]]))
"""


@pytest.mark.whole
def test_who_trained_in_this_process_exports_in_it(tmp_path: Path) -> None:
    """OpenMP has threads then, which a fork of the process would wait for in vain."""
    paths = [str(tmp_path / "m.txt"), str(tmp_path / "out")]
    done = run("-c", TRAINED_BEFORE, *paths, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    assert "equal to the bit" in done.stdout


def test_missing_of_the_wrapper_is_missing_for_the_server(tmp_path: Path) -> None:
    matrix = np.where(np.isnan(rows(600)), -999.0, rows(600))
    model = xgboost.XGBClassifier(n_estimators=8, max_depth=3, missing=-999.0).fit(matrix, target(matrix))
    conversion = load(saved(tmp_path, model), ALLOWED)
    bundle = export(tmp_path, conversion)
    assert bundle.exact
    names = list(bundle.schema.names)
    sent = [dict(zip(names, row, strict=True)) for row in matrix[:50].tolist()]
    expected = model.predict_proba(matrix[:50])[:, 1].astype(float)
    assert conversion.source.predictions(sent, bundle.schema).tolist() == expected.tolist()


def test_rounds_after_the_best_are_left_out_unless_asked_for() -> None:
    booster = train_xgboost({"objective": "binary:logistic"}, "binary", 9)
    booster.set_attr(best_iteration="3")
    from export.xgboost.model import convert_xgboost

    content = bytes(booster.save_raw("json"))
    best, whole = convert_xgboost(content), convert_xgboost(content, rounds="all")
    assert (best.record["best_iteration"], best.record["rounds_trained"]) == (3, 9)
    assert (best.record["iterations"], whole.record["iterations"], whole.record["rounds"]) == (4, 9, "all")
