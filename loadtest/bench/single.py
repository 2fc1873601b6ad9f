"""`python -m loadtest bench single`: the code of single rows beside ONNX Runtime, a row at a time.

Rows are those around a model's thresholds, which is what branches like least; of the shipped model also its
golden rows, each moved a little. The margins are compared to the bit. `--families` compares one model of each
family of forests.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from loadtest.harness.bodies import golden_matrix
from loadtest.harness.forests import bundle_of, families
from loadtest.report.terminal import print_machine, print_table
from server.compiled.forest import NotCompilable
from server.compiled.row_code import margin_by
from server.compiled.row_compiler import row_code
from server.compiled.trees import forest_of, parity_rows
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.schema import Matrix, Row

#: Rows that are timed in a stretch, and stretches of which the shortest counts.
TIMED_ROWS, STRETCHES = 1000, 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--model", type=Path, action="append", help="[models/credit]")
    parser.add_argument("--rows", type=int, default=50_000, metavar="N", help="compared [50,000]")
    parser.add_argument("--families", action="store_true", help="one model of each family of forests")


def main(options: argparse.Namespace) -> int:
    """Print the table; 0 when every margin is equal to the bit."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            line for name, bundle in _asked(options, Path(folder)) for line in _lines(name, bundle, options)
        ]
    print_table(
        f"One row as a call of Python, us: the shortest stretch, in turn; {options.rows:,} rows compared",
        ("model", "rows", "compiled", "ONNX", "times", "differ"),
        lines,
    )
    print_machine()
    return 0 if all(line[-1] in ("0", "") for line in lines) else 1


def _asked(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Bundle]]:
    if options.families:
        for number, (name, convert) in enumerate(families()):
            yield name, bundle_of(convert(), folder / str(number))
    else:
        for model in options.model or [Path("models/credit")]:
            yield str(model), Bundle.load(model)


def _lines(name: str, bundle: Bundle, options: argparse.Namespace) -> Iterator[Sequence[str]]:
    predictor = Predictor(bundle)
    try:
        code = row_code(bundle)
    except NotCompilable as reason:
        yield name, f"not compiled: {reason}", "", "", "", ""
        return
    calls = [margin_by(code, Predictor(bundle)), predictor.margin]
    kinds: dict[str, Matrix] = {"thresholds": parity_rows(forest_of(bundle), options.rows)}
    if not options.families:
        kinds["golden, moved"] = golden_matrix(bundle, options.rows)
    for kind, matrix in kinds.items():
        rows = [row.tobytes() for row in matrix]
        # As integers: of floats NaN would differ from itself, and 0.0 not from -0.0.
        found = np.array([calls[0](row) for row in rows]).view(np.int64)
        expected = np.ascontiguousarray(predictor.margins(matrix)).view(np.int64)
        ours, theirs = _microseconds(calls, rows[:TIMED_ROWS])
        figures = (f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}")
        yield name, kind, *figures, str(np.count_nonzero(found != expected))


def _microseconds(calls: Sequence[Callable[[Row], float]], rows: Sequence[Row]) -> list[float]:
    best = [float("inf")] * len(calls)
    for _ in range(STRETCHES):
        for i, call in enumerate(calls):
            began = time.perf_counter_ns()
            for row in rows:
                call(row)
            best[i] = min(best[i], (time.perf_counter_ns() - began) / len(rows) / 1000)
    return best
