"""`python -m loadtest bench compiled`: compiled trees beside ONNX Runtime, in CPU time a row, bits compared.

The rows lie at, beside and between the model's thresholds, which is what branches like
least, or are the golden rows, each many times with its numbers moved a little. ONNX
Runtime has them in the order of `server.model.row_order`, its best. `--families` prints a table
of the bits alone: of each family of forests one model, its margins compared around its thresholds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import xgboost
from sklearn.ensemble import RandomForestClassifier

from export.forest.conversion import Conversion
from export.lightgbm.model import convert_lightgbm
from export.sklearn.model import convert_sklearn
from export.xgboost.model import convert_xgboost
from loadtest.bench.export import LIGHTGBM, XGBOOST, data
from loadtest.harness.bodies import golden_matrix
from loadtest.harness.forests import bundle_of, families
from server.compiled.forest import NotCompilable
from server.compiled.graph import read_forest
from server.compiled.trees import compiled, parity_rows
from server.model.bundle import GRAPH_FILE, Bundle
from server.model.predictor import Predictor
from server.model.row_order import RowOrder
from server.model.schema import Matrix

FOREST_ROWS = 16_384
FORESTS = ("lightgbm", "xgboost", "sklearn")


class BenchmarkedForest(NamedTuple):
    """What is exported, its library's own predictor on one thread, and the rows that both score."""

    conversion: Conversion
    predict: Callable[[Matrix], Any]
    rows: Matrix


def forests(names: Sequence[str], rows: int) -> Iterator[tuple[str, BenchmarkedForest]]:
    """Train each of the models that are named."""
    (matrix, outcome), (drawn, _) = data(), data(rows)
    if "lightgbm" in names:
        booster = lightgbm.train(LIGHTGBM, lightgbm.Dataset(matrix, outcome), 200)
        own = BenchmarkedForest(
            convert_lightgbm(booster.model_to_string()), lambda m: booster.predict(m, num_threads=1), drawn
        )
        yield "LightGBM, 200 trees of 31 leaves", own
    if "xgboost" in names:
        extreme = xgboost.train(XGBOOST | {"max_depth": 6}, xgboost.DMatrix(matrix, outcome), 500)
        extreme.set_param({"nthread": 1})
        conversion = convert_xgboost(bytes(extreme.save_raw("json")))
        yield "XGBoost, 500 trees of depth 6", BenchmarkedForest(conversion, extreme.inplace_predict, drawn)
    if "sklearn" in names:
        matrix, drawn = np.nan_to_num(matrix), np.nan_to_num(drawn)
        forest = RandomForestClassifier(n_jobs=2, random_state=0).fit(matrix, outcome)
        forest.set_params(n_jobs=1)
        conversion = convert_sklearn(forest, "forest.skops", b"a forest")
        own = BenchmarkedForest(conversion, forest.predict_proba, drawn)
        yield "scikit-learn, RandomForestClassifier()", own


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--model", type=Path, action="append")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--forest", choices=FORESTS, action="append")
    parser.add_argument(
        "--families", nargs="?", const="", metavar="WORDS", help="all, or those whose name has these words"
    )


def main(options: argparse.Namespace) -> int:
    """Print the table; 0 when every margin is equal to the bit."""
    if options.families is not None:
        equal = list(_compare_families(options.rows, options.families))
    elif options.forest:
        made = forests(options.forest, FOREST_ROWS)
        equal = [_measure_forest(name, one, options.rounds) for name, one in made]
    else:
        models = options.model or [Path("models/credit")]
        equal = [_measure(model, options.rows, options.rounds) for model in models]
    return 0 if all(equal) else 1


def _measure(model: Path, count: int, rounds: int) -> bool:
    bundle = Bundle.load(model)
    predictor = Predictor(bundle)
    order, trees = RowOrder(predictor), compiled(bundle, predictor)
    print(f"{bundle.label}: {trees.note}")
    equal = True
    for name, rows in (
        ("golden rows, moved", golden_matrix(bundle, count)),
        ("rows around thresholds", parity_rows(read_forest(bundle.read(GRAPH_FILE)), count)),
    ):
        same = trees.margins(rows).tobytes() == np.ascontiguousarray(predictor.margins(rows)).tobytes()
        ours, theirs = _microseconds([trees.margins, order.margins], rows, rounds)
        bits = "equal to the bit" if same else "DIFFERENT"
        ratio = f"{theirs / ours:.1f} times ONNX Runtime's {theirs:.2f}"
        print(f"  {name:24} {ours:6.2f} us a row, {ratio}; {bits}")
        equal &= same
    return equal


def _measure_forest(name: str, forest: BenchmarkedForest, rounds: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundle_of(forest.conversion, Path(folder, "bundle"))
        predictor = Predictor(bundle)
        trees = compiled(bundle, predictor)
    rows = forest.rows
    same = trees.margins(rows).tobytes() == np.ascontiguousarray(predictor.margins(rows)).tobytes()
    calls = [trees.margins, RowOrder(predictor).margins, forest.predict]
    ours, onnx, own = _microseconds(calls, rows, rounds)
    print(
        f"{name}: {trees.note}\n  {ours:.2f} us a row; ONNX Runtime {onnx:.2f} ({onnx / ours:.1f} times), "
        f"the library {own:.2f} ({own / ours:.1f} times); {'equal to the bit' if same else 'DIFFERENT'}",
        flush=True,
    )
    return same


def _compare_families(count: int, words: str) -> Iterator[bool]:
    print("| forest | rows | margins that differ |\n| --- | --- | --- |")
    for name, convert in families():
        if words not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            bundle = bundle_of(convert(), Path(folder, "bundle"))
            predictor = Predictor(bundle)
            try:
                trees = compiled(bundle, predictor)
            except NotCompilable as reason:
                print(f"| {name} | | scored by ONNX Runtime: {reason} |", flush=True)
                continue
            rows = parity_rows(read_forest(bundle.read(GRAPH_FILE)), count)
        # As integers: of floats NaN would differ from itself, and 0.0 not from -0.0.
        ours, theirs = (
            np.ascontiguousarray(m).view(np.int64) for m in (trees.margins(rows), predictor.margins(rows))
        )
        differing = np.count_nonzero(ours != theirs)
        print(f"| {name} | {len(rows):,} | {differing} of {ours.size:,} |", flush=True)
        yield not differing


def _microseconds(calls: Sequence[Callable[[Matrix], Any]], rows: Matrix, rounds: int) -> list[float]:
    """The least CPU time of a row by each of these, called in turn."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            started = time.process_time()
            call(rows)
            best[i] = min(best[i], time.process_time() - started)
    return [seconds / len(rows) * 1e6 for seconds in best]
