"""`python -m loadtest bench pipelines`: one row through a pipeline beside the booster at its end alone.

Each line is a pipeline as people save it, exported, and the ratio is that of one row through
ONNX Runtime to one encoded row through the exported booster; both in one run, on one core.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]  # ships no types
import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # ships no types
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

from export.load import LoadOptions, load
from loadtest.bench.bare_run import bare_run_us
from loadtest.harness.forests import bundle_of

ROWS, TREES = 5000, 100
NUMBERS = [f"number{i}" for i in range(8)]
TEXTS = [f"text{i}" for i in range(6)]


def table() -> tuple[pd.DataFrame, Any]:
    """Made-up rows of 8 numbers and 6 texts of 3 to 30 values, and a noisy outcome."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(ROWS, len(NUMBERS))), columns=NUMBERS)
    for name, count in zip(TEXTS, (3, 4, 5, 8, 12, 30), strict=True):
        rows[name] = random.choice([f"value {i}" for i in range(count)], ROWS)
    odds = rows.number0 + rows.number1 * (rows.text5 < "value 2") + (rows.text3 == "value 1")
    return rows, (odds + random.logistic(size=ROWS) > 0).astype(int)


def light() -> Any:
    """A LightGBM classifier of 100 trees of 31 leaves."""
    return LGBMClassifier(n_estimators=TREES, verbose=-1, n_jobs=1)


def extreme() -> Any:
    """An XGBoost classifier of 100 trees of depth 5."""
    return XGBClassifier(n_estimators=TREES, max_depth=5, n_jobs=1)


def pipelines() -> dict[str, Pipeline]:
    """The pipelines by their name."""
    scaled = make_pipeline(SimpleImputer(), StandardScaler())
    return {
        "one-hot, LightGBM": _behind("passthrough", light()),
        "imputed, scaled, one-hot, LightGBM": _behind(scaled, light()),
        "one-hot, XGBoost": _behind("passthrough", extreme()),
        "imputed, scaled, one-hot, XGBoost": _behind(scaled, extreme()),
    }


def _behind(numbers: Any, model: Any) -> Pipeline:
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("numbers", numbers, NUMBERS), ("texts", encoder, TEXTS)])
    return Pipeline([("columns", columns), ("model", model)])


def row_us(model: Any, folder: Path) -> float:
    """What one row of an exported model takes ONNX Runtime, in us."""
    folder.mkdir()
    joblib.dump(model, folder / "model.joblib")
    made = load(folder / "model.joblib", LoadOptions(trust_pickle=True))
    return bare_run_us(bundle_of(made, folder / "bundle").directory)


def library_us(pipeline: Pipeline, rows: pd.DataFrame) -> float:
    """What `predict_proba` of one row takes in Python, in us."""
    one = [rows.iloc[[i]] for i in range(20)]
    started = time.perf_counter()
    for row in one:
        pipeline.predict_proba(row)
    return (time.perf_counter() - started) / len(one) * 1e6


def add_options(_: argparse.ArgumentParser) -> None:
    """None."""


def main(_: argparse.Namespace) -> int:
    """Fit, export and measure each, and print a line."""
    rows, outcome = table()
    print(f"{'pipeline':36} {'booster':>9} {'pipeline':>9} {'ratio':>6} {'predict_proba':>14}")
    with tempfile.TemporaryDirectory() as text, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows of the encoded matrix have no names
        for number, (name, pipeline) in enumerate(pipelines().items()):
            encoded = pipeline.fit(rows, outcome)[:-1].transform(rows)
            dense = encoded.toarray() if hasattr(encoded, "toarray") else encoded
            alone = clone(pipeline.steps[-1][1]).fit(dense, outcome)
            booster = row_us(alone, Path(text) / f"booster{number}")
            whole = row_us(pipeline, Path(text) / f"pipeline{number}")
            theirs = f"{library_us(pipeline, rows):11.0f} us"
            print(f"{name:36} {booster:6.1f} us {whole:6.1f} us {whole / booster:6.2f} {theirs}", flush=True)
    return 0
