"""`--python`: a pickle that another interpreter reads, and what it says when that one cannot."""

import os
import pickle
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]  # ships no types
import numpy as np
import orjson
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import pytest
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

from export.assemble import write_conversion
from export.errors import ExportRefused
from export.interpreter import conversation
from export.load import LoadOptions, load
from server.model.bundle import Bundle
from server.model.decoder import row_decoder
from server.model.predictor import Predictor

ROWS = 300
R = np.random.default_rng(5)
TABLE = pd.DataFrame(
    {
        "income": R.lognormal(10, 0.5, ROWS).round(2),
        "age": R.integers(18, 80, ROWS),
        "city": R.choice([f"city {i}" for i in range(15)], ROWS),
        "note": [f"client {i}" for i in range(ROWS)],
    }
)
GAPS = TABLE.assign(
    income=TABLE.income.where(R.random(ROWS) > 0.1), city=TABLE.city.where(R.random(ROWS) > 0.1)
)
BAD = (np.log(TABLE.income) + TABLE.age / 40 + R.normal(size=ROWS) > 11.3).astype(int)
BAND = np.digitize(TABLE.age, [30, 50])
NUMBERS = ["income", "age"]


def behind(model: Any, numbers: Any) -> Pipeline:
    """A pipeline that drops `note`."""
    texts = OneHotEncoder(handle_unknown="ignore")
    return Pipeline(
        [("p", ColumnTransformer([("n", numbers, NUMBERS), ("t", texts, ["city"])])), ("m", model)]
    )


def light() -> Any:
    return LGBMClassifier(n_estimators=5, num_leaves=6, verbose=-1, n_jobs=1)


def extreme() -> Any:
    return XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1)


#: A model, its rows and its target, and the file that the bundle keeps.
MODELS: dict[str, tuple[Callable[[], Any], pd.DataFrame, Any, str]] = {
    "forest of three classes": (
        lambda: RandomForestClassifier(4, max_depth=4), TABLE[NUMBERS], BAND, "source.json",
    ),
    "boosting": (lambda: GradientBoostingClassifier(n_estimators=4), TABLE[NUMBERS], BAD, "source.json"),
    "boosting that ties": (
        lambda: GradientBoostingClassifier(init="zero", n_estimators=1, min_samples_split=999),
        TABLE[NUMBERS], np.arange(len(TABLE)) % 2, "source.json",
    ),
    "histogram, Poisson": (
        lambda: HistGradientBoostingRegressor(max_iter=4, loss="poisson"), GAPS[NUMBERS], BAND, "source.json",
    ),
    "search of LightGBM": (
        lambda: GridSearchCV(light(), {"num_leaves": [3, 4]}, cv=2), TABLE[NUMBERS], BAD, "model.txt",
    ),
    "sparse, XGBoost": (lambda: behind(extreme(), "passthrough"), TABLE, BAD, "source.json"),
}  # fmt: skip
SCALED = behind(light(), make_pipeline(SimpleImputer(), StandardScaler()))


def exported(model: Any, rows: pd.DataFrame, target: Any, folder: Path) -> tuple[Bundle, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        joblib.dump(model.fit(rows, target), folder / "m.joblib")
    options = LoadOptions(trust_pickle=True, python=Path(sys.executable))
    conversion = load(folder / "m.joblib", options)
    bundle = write_conversion(
        folder / "b", conversion, schema=conversion.schema, name="m", version="1", ordinary_rows=300
    )
    return bundle, model


def answers(bundle: Bundle, rows: pd.DataFrame) -> list[Any]:
    predictor, decode = Predictor(bundle), row_decoder(bundle.schema, others=True)
    records = rows.astype(object).where(rows.notna(), None).to_dict("records")
    sent = [orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY) for record in records]
    return [predictor.predict(decode(row)) for row in sent]


@pytest.mark.whole
def test_a_pipeline_is_read_where_it_was_trained_and_answers_as_there(tmp_path: Path) -> None:
    bundle, model = exported(SCALED, GAPS, BAD, tmp_path)
    assert bundle.exact
    assert not [path for path in bundle.directory.iterdir() if path.suffix in (".joblib", ".pkl")]
    assert bundle.manifest["ignored"] == ["note"]
    assert bundle.manifest["source"]["read_by"].startswith("lightgbm ")
    assert [p for p, _ in answers(bundle, GAPS[:60])] == model.predict_proba(GAPS[:60])[:, 1].tolist()


@pytest.mark.whole
@pytest.mark.parametrize("name", MODELS)
def test_models_are_read_where_they_were_trained(name: str, tmp_path: Path) -> None:
    make, rows, target, file = MODELS[name]
    bundle, model = exported(make(), rows, target, tmp_path)
    assert bundle.exact
    assert bundle.manifest["source"]["file"] == file
    theirs = model.predict_proba(rows[:50]) if hasattr(model, "classes_") else model.predict(rows[:50])
    theirs = theirs[:, 1] if theirs.ndim == 2 and theirs.shape[1] == 2 else theirs
    found = answers(bundle, rows[:50])
    assert np.abs(np.array([output for output, _ in found]) - theirs).max() <= 1e-12
    if hasattr(model, "classes_"):
        decided = [str(model.classes_[place]) for _, place in found]
        assert decided == list(map(str, model.predict(rows[:50])))


def refusal(path: Path, python: Path | str, *, trust_pickle: bool = True) -> str:
    with pytest.raises(ExportRefused) as refused:
        load(path, LoadOptions(trust_pickle=trust_pickle, python=Path(python)))
    return str(refused.value)


def test_our_folder_hides_no_module_of_the_other_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model may be made with a `train` of its own; the command tells its processes where ours is."""
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(1))
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$PYTHONPATH" > "$0.paths"\nexit 3\n')
    python.chmod(0o755)
    ours = str(Path(conversation.__file__).parents[2])
    for paths, left in (([ours, str(tmp_path)], str(tmp_path)), ([ours], "")):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
        assert "got: it ended" in refusal(tmp_path / "m.pkl", python)
        assert (tmp_path / "python.paths").read_text() == f"{left}\n"


def test_a_skops_file_is_read_there_without_trust_and_without_strangers(tmp_path: Path) -> None:
    skops = import_module("skops.io")
    model = behind(RandomForestClassifier(4, max_depth=3), "passthrough").fit(TABLE, BAD)
    skops.dump(model, tmp_path / "m.skops")
    conversion = load(tmp_path / "m.skops", LoadOptions(python=Path(sys.executable)))
    assert conversion.record["estimator"] == "ColumnTransformer + RandomForestClassifier"
    odd = make_pipeline(FunctionTransformer(os.getpid), RandomForestClassifier(2))
    skops.dump(odd, tmp_path / "odd.skops")
    assert "got posix.getpid in a .skops file" in refusal(tmp_path / "odd.skops", sys.executable)


def test_what_cannot_be_read_is_one_sentence_with_a_way_out(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression().fit(TABLE[NUMBERS], BAD), tmp_path / "m.joblib")
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    assert "give the interpreter of the environment" in refusal(tmp_path / "m.joblib", tmp_path / "none")
    assert "got: it ended: is it the environment" in refusal(tmp_path / "m.joblib", broken)
    assert "say --trust-pickle" in refusal(tmp_path / "m.joblib", sys.executable, trust_pickle=False)
    said = refusal(tmp_path / "m.joblib", sys.executable)
    assert "got LogisticRegression of sklearn at the end: save it with the versions that are here" in said
    (tmp_path / "m.txt").write_text("tree\nversion=v4\n")
    assert "a pickle or a .skops for --python to read" in refusal(tmp_path / "m.txt", sys.executable)
