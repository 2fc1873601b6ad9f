"""`python -m loadtest bench exporting`: what the export of small and of large models costs.

Figures are seconds of CPU and peak memory of the command, libraries' imports included; the
models are made here, of the sizes that took minutes once. CPU seconds grow with what else
runs on the machine: compare those of one run.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import joblib  # type: ignore[import-untyped]  # ships no types
import lightgbm
import numpy as np

from server.cli import run

TRAINING = {"objective": "binary", "verbosity": -1, "num_threads": 1, "seed": 1}


class ExportCost(NamedTuple):
    """What a command used: seconds of CPU, and the largest resident memory in MB."""

    cpu_seconds: float
    peak_mb: float


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


def cost(source: Path, out: Path) -> ExportCost:
    """What `python -m export` of a model used. Raises `CalledProcessError` if it fails."""
    command = [sys.executable, "-m", "export", str(source), "--trust-pickle", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)  # of this command and its own children alone
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return ExportCost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main(arguments: Sequence[str]) -> int:
    """Make the models, export each, and print what it cost beside the small one."""
    parser = argparse.ArgumentParser(prog="python -m loadtest bench exporting", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=tuple(MODELS), metavar="NAME")
    costs: dict[str, ExportCost] = {}
    with tempfile.TemporaryDirectory() as text:
        for name in parser.parse_args(arguments).models:
            costs[name] = cost(MODELS[name](Path(text)), Path(text) / f"bundle-{name}")
            seconds, first = costs[name].cpu_seconds, next(iter(costs.values())).cpu_seconds
            ratio = f"({seconds / first:.1f} x)"
            print(f"{name:15} {seconds:6.1f} s CPU {ratio:9} {costs[name].peak_mb:6.0f} MB", flush=True)
    return 0


if __name__ == "__main__":
    run(main)
