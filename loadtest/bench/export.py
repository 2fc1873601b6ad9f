"""`python -m loadtest bench export`: exact graphs beside the stock converter and the libraries.

All figures of one run; ratios between them, not microseconds, are what to compare.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import onnxmltools
import onnxruntime
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from export.forest.conversion import Conversion
from export.forest.rows import RowMaker
from export.lightgbm.model import convert_lightgbm
from export.xgboost.model import convert_xgboost
from loadtest.harness.forests import bundle_of
from server.model.predictor import Predictor
from server.model.schema import Matrix

Array = npt.NDArray[np.float64]

FEATURES, BATCH_ROWS, BOUNDARY_ROWS = 120, 48_744, 20_000
LIGHTGBM = {"objective": "binary", "num_leaves": 31, "verbosity": -1, "num_threads": 2, "seed": 1}
XGBOOST = {"objective": "binary:logistic", "max_depth": 5, "nthread": 2, "seed": 1, "verbosity": 0}


def data(rows: int = 20_000) -> tuple[Matrix, Array]:
    """Normal values of 120 features, a tenth missing, and a noisy outcome."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(rows, FEATURES))
    outcome = (matrix[:, :20].sum(axis=1) + 3 * random.normal(size=rows) > 0).astype(float)
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    return matrix, outcome


def best_ms(call: Callable[[], Any], repeats: int = 5) -> float:
    """The shortest of several calls, in milliseconds."""
    return min(_timed(call) for _ in range(repeats)) * 1e3


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def p50_us(call: Callable[[], Any], calls: int) -> float:
    """The median call, in microseconds."""
    for _ in range(calls // 10 + 1):
        call()
    return float(np.median([_timed(call) for _ in range(calls)])) * 1e6


def session(graph: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session with this many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def differences(ours: Array, theirs: Array) -> str:
    """The largest difference of probabilities, the rows over 1e-5 and the decisions that flip."""
    apart = np.abs(ours - theirs)
    flips = int(np.sum((ours >= 0.5) != (theirs >= 0.5)))
    return (
        f"max {apart.max():.1e}, over 1e-5: {np.mean(apart > 1e-5):.1%} of rows, decisions flipped: {flips}"
    )


def show(title: str, *lines: str) -> None:
    """A heading and its lines."""
    print(f"\n{title}", *(f"  {line}" for line in lines), sep="\n", flush=True)


def boundary_rows(conversion: Conversion) -> Matrix:
    """Rows on a threshold, one float below and one above, each led to its split."""
    blocks: list[Matrix] = []
    for block in RowMaker(conversion.forest, conversion.schema, extremes=conversion.extremes).boundary():
        blocks.append(block)
        if sum(map(len, blocks)) >= BOUNDARY_ROWS:
            break
    return np.concatenate(blocks)[:BOUNDARY_ROWS]


def lightgbm_part(folder: Path, matrix: Matrix, outcome: Array, trees: int) -> None:
    """Ours, onnxmltools' default and LightGBM."""
    booster = lightgbm.train(LIGHTGBM, lightgbm.Dataset(matrix, outcome), trees)
    conversion = convert_lightgbm(booster.model_to_string())
    predictor = Predictor(bundle_of(conversion, folder / "lightgbm"))
    types = [("input", FloatTensorType([None, FEATURES]))]
    stock_graph = onnxmltools.convert_lightgbm(booster, initial_types=types, zipmap=False).SerializeToString()
    stock = session(stock_graph)

    def ours(rows: Matrix) -> Array:
        return predictor.output_array(predictor.margins(rows))

    def theirs(rows: Matrix) -> Array:
        scores = stock.run(["probabilities"], {"input": rows.astype(np.float32)})[0]
        return np.asarray(scores, dtype=np.float64)[:, 1]

    batch = np.ascontiguousarray(np.resize(matrix, (BATCH_ROWS, FEATURES)))
    boundary = boundary_rows(conversion)
    for kind, rows in (("ordinary", batch[:20_000]), ("boundary", boundary)):
        reference = np.asarray(booster.predict(rows, num_threads=1))
        show(
            f"LightGBM, {trees} trees x 31 leaves, {len(rows)} {kind} rows, against Booster.predict:",
            f"ours           {differences(ours(rows), reference)}",
            f"onnxmltools    {differences(theirs(rows), reference)}",
        )
    row, narrow = batch[0].tobytes(), batch[:1].astype(np.float32)
    one = {
        "ours (Predictor.margin)": p50_us(lambda: predictor.margin(row), 20_000),
        "onnxmltools (session.run)": p50_us(lambda: stock.run(["probabilities"], {"input": narrow}), 5000),
        "LightGBM Booster.predict": p50_us(lambda: booster.predict(batch[:1], num_threads=1), 2000),
    }
    _compared("One row, p50, microseconds", one, "ours (Predictor.margin)")
    for threads in (1, 2):
        other, cast = session(stock_graph, threads), batch.astype(np.float32)
        timed = {
            "ours": best_ms(_whole(conversion, batch, threads)),
            "ours, blocks of 256 rows": best_ms(_blocks(conversion, batch, threads)),
            "onnxmltools": best_ms(partial(other.run, ["probabilities"], {"input": cast})),
            "LightGBM Booster.predict": best_ms(partial(booster.predict, batch, num_threads=threads)),
        }
        _compared(
            f"{BATCH_ROWS} rows in one batch, {threads} thread(s), best of 5, milliseconds", timed, "ours"
        )


#: Rows that fit a processor's cache with the nodes they meet. Trees in several graphs, and nodes in the order
#: of their depth, were tried too: neither was faster.
BLOCK_ROWS = 256


def _whole(conversion: Conversion, rows: Matrix, threads: int) -> Callable[[], Any]:
    """The served graph, the whole batch in one call."""
    return partial(session(conversion.graph({}), threads).run, None, {"features": rows})


def _blocks(conversion: Conversion, rows: Matrix, threads: int) -> Callable[[], Any]:
    """The served graph, rows in blocks that fit a cache, shared out to Python threads."""
    run = session(conversion.graph({})).run
    parts = [rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS)]
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda part: run(None, {"features": part}), parts))


LAYOUTS = {"whole": _whole, f"blocks of {BLOCK_ROWS} rows": _blocks}


def xgboost_part(folder: Path, matrix: Matrix, outcome: Array, trees: int) -> None:
    """Ours and XGBoost, with the layouts that were tried for a batch."""
    narrow = matrix.astype(np.float32)
    booster = xgboost.train(XGBOOST, xgboost.DMatrix(narrow, outcome), trees)
    conversion = convert_xgboost(bytes(booster.save_raw("json")))
    predictor = Predictor(bundle_of(conversion, folder / "xgboost"))
    rows = boundary_rows(conversion)
    reference = conversion.source.margins(rows)
    differ = int(np.sum(predictor.margins(rows) != reference))
    show(f"XGBoost, {trees} trees of depth 5:", f"{differ} of {len(rows)} boundary margins differ by a bit")
    batch = np.ascontiguousarray(np.resize(narrow, (BATCH_ROWS, FEATURES)))
    wide = batch.astype(np.float64)
    row = wide[0].tobytes()
    booster.set_param({"nthread": 1})
    one = {
        "ours (Predictor.margin)": p50_us(lambda: predictor.margin(row), 20_000),
        "XGBoost inplace_predict": p50_us(lambda: booster.inplace_predict(batch[:1]), 2000),
        "XGBoost predict(DMatrix)": p50_us(lambda: booster.predict(xgboost.DMatrix(batch[:1])), 1000),
    }
    _compared("One row, p50, microseconds", one, "ours (Predictor.margin)")
    for threads in (1, 2):
        booster.set_param({"nthread": threads})
        timed = {
            "XGBoost inplace_predict": best_ms(lambda: booster.inplace_predict(batch)),
            "XGBoost predict(DMatrix)": best_ms(lambda: booster.predict(xgboost.DMatrix(batch)), 3),
        }
        for name, score in LAYOUTS.items():
            timed[f"ours, {name}"] = best_ms(score(conversion, wide, threads), 3)
        _compared(
            f"{BATCH_ROWS} rows in one batch, {threads} thread(s), milliseconds",
            timed,
            "XGBoost inplace_predict",
        )


def _compared(title: str, figures: dict[str, float], base: str) -> None:
    show(
        f"{title}:",
        *(f"{name:34} {value:9.1f}   {value / figures[base]:6.2f} x" for name, value in figures.items()),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--trees", type=int, default=200)


def main(options: argparse.Namespace) -> int:
    """Train both models and print every comparison."""
    trees = options.trees
    matrix, outcome = data()
    with tempfile.TemporaryDirectory() as folder:
        lightgbm_part(Path(folder), matrix, outcome, trees)
        xgboost_part(Path(folder), matrix, outcome, trees)
    sys.stdout.flush()
    return 0
