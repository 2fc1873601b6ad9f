"""`python -m loadtest bench compiled`: compiled trees beside ONNX Runtime, in CPU time a row, bits compared.

The rows lie at, beside and between the model's thresholds, which is what branches like
least, or are the golden rows, each many times with its numbers moved a little. ONNX
Runtime has them in the order of `server.model.row_order`, its best.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from server.compiled.forest import read_forest
from server.compiled.trees import compiled, parity_rows
from server.model.bundle import GRAPH_FILE, Bundle
from server.model.predictor import Predictor
from server.model.row_order import RowOrder
from server.model.schema import Matrix


def main(arguments: Sequence[str]) -> int:
    """Print the table; 0 when every margin is equal to the bit."""
    parser = argparse.ArgumentParser(prog="python -m loadtest bench compiled", description=__doc__)
    parser.add_argument("--model", type=Path, action="append")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    equal = [
        _measure(model, options.rows, options.rounds) for model in options.model or [Path("models/credit")]
    ]
    return 0 if all(equal) else 1


def _measure(model: Path, count: int, rounds: int) -> bool:
    bundle = Bundle.load(model)
    predictor = Predictor(bundle)
    order, trees = RowOrder(predictor), compiled(bundle, predictor)
    print(f"{bundle.label}: {trees.note}")
    equal = True
    for name, rows in (
        ("golden rows, moved", _moved(bundle, count)),
        ("rows around thresholds", parity_rows(read_forest(bundle.read(GRAPH_FILE)), count)),
    ):
        same = trees.margins(rows).tobytes() == np.ascontiguousarray(predictor.margins(rows)).tobytes()
        ours = _microseconds(trees.margins, rows, rounds)
        theirs = _microseconds(order.margins, rows, rounds)
        bits = "equal to the bit" if same else "DIFFERENT"
        ratio = f"{theirs / ours:.1f} times ONNX Runtime's {theirs:.2f}"
        print(f"  {name:24} {ours:6.2f} us a row, {ratio}; {bits}")
        equal &= same
    return equal


def _microseconds(score: Callable[[Matrix], Any], rows: Matrix, rounds: int) -> float:
    """The least CPU time of a row."""
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        score(rows)
        best = min(best, time.process_time() - started)
    return best / len(rows) * 1e6


def _moved(bundle: Bundle, count: int) -> Matrix:
    random = np.random.default_rng(0)
    golden = np.array([np.frombuffer(bundle.schema.encode(row.fields)) for row in bundle.golden_rows()])
    rows = golden[random.integers(0, len(golden), count)]
    numbers = [i for i, feature in enumerate(bundle.schema.features) if feature.kind == "number"]
    rows[:, numbers] *= random.uniform(0.9, 1.1, (count, len(numbers)))
    return rows
