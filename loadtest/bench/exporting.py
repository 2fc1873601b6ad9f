"""`python -m loadtest bench exporting`: what the export of small and of large models costs.

Figures are seconds of CPU and peak memory of the command, libraries' imports included; the
models are made here, of the sizes that took minutes once. CPU seconds grow with what else
runs on the machine: compare those of one run.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import joblib  # type: ignore[import-untyped]  # ships no types
import lightgbm
import numpy as np

from loadtest.harness.subject import CommandCost, cost_of, python

TRAINING = {"objective": "binary", "verbosity": -1, "num_threads": 1, "seed": 1}


def small(folder: Path) -> Path:
    """60 trees on 6 columns."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(2000, 6))
    data = lightgbm.Dataset(rows, rows[:, 0] + rows[:, 1] > 0)
    return _saved(lightgbm.train(TRAINING, data, 60), folder / "small.txt")


def one_hot(folder: Path) -> Path:
    """100 trees on 5,670 columns of zeros and ones."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 405, (6000, 14))
    rows = np.zeros((6000, 5670), dtype=np.float32)
    rows[np.arange(6000)[:, None], codes + 405 * np.arange(14)] = 1.0
    outcome = (codes % 7 == 3).sum(axis=1) + random.normal(size=6000) > 2
    data = lightgbm.Dataset(rows, outcome, params={"feature_pre_filter": False, "verbosity": -1})
    parameters = TRAINING | {"num_leaves": 15, "min_data_in_leaf": 5}
    return _saved(lightgbm.train(parameters, data, 100), folder / "one_hot.txt")


def many_trees(folder: Path) -> Path:
    """5,000 trees of 20 leaves."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(3000, 12))
    data = lightgbm.Dataset(rows, rows[:, :9].sum(axis=1) + random.normal(size=3000) > 0)
    parameters = TRAINING | {"num_leaves": 20, "learning_rate": 0.005, "max_bin": 63, "min_data_in_leaf": 5}
    return _saved(lightgbm.train(parameters, data, 5000), folder / "many_trees.txt")


def default_forest(folder: Path) -> Path:
    """RandomForestClassifier() of scikit-learn's defaults on 10,000 rows."""
    from sklearn.ensemble import RandomForestClassifier  # seconds to import, for this model alone

    random = np.random.default_rng(0)
    rows = random.normal(size=(10_000, 20))
    outcome = rows[:, :5].sum(axis=1) + random.normal(size=10_000) > 0
    joblib.dump(RandomForestClassifier(random_state=0).fit(rows, outcome), folder / "forest.joblib")
    return folder / "forest.joblib"


MODELS: dict[str, Callable[[Path], Path]] = {
    "small": small,
    "one_hot": one_hot,
    "default_forest": default_forest,
    "many_trees": many_trees,
}


def _saved(booster: lightgbm.Booster, path: Path) -> Path:
    booster.save_model(path)
    return path


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=tuple(MODELS), metavar="NAME")


def main(options: argparse.Namespace) -> int:
    """Make the models, export each, and print what it cost beside the small one."""
    costs: dict[str, CommandCost] = {}
    with tempfile.TemporaryDirectory() as text:
        for name in options.models:
            source, out = MODELS[name](Path(text)), Path(text) / f"bundle-{name}"
            costs[name] = cost_of(python("-m", "export", str(source), "--trust-pickle", "--out", str(out)))
            seconds, first = costs[name].cpu_seconds, next(iter(costs.values())).cpu_seconds
            ratio = f"({seconds / first:.1f} x)"
            print(f"{name:15} {seconds:6.1f} s CPU {ratio:9} {costs[name].peak_mb:6.0f} MB", flush=True)
    return 0
