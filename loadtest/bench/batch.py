"""`python -m loadtest bench batch`: a scored file, ours beside the script most people write.

And beside the script of who knows what is fast: polars reads and writes, ONNX Runtime scores the
bundle's own graph on all cores. All score the same rows on the same cores, one after the other in
turns, from CSV and from Parquet; the table gives rows per second, CPU seconds and peak memory of each
whole process, the best of the rounds, and the ratios. Decisions are not compared: the scripts know no policy.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl

from loadtest.bench.ray import PYTHON as RAY
from loadtest.harness.subject import CommandCost, cost_of
from loadtest.harness.target import add_model
from server.model.bundle import Bundle

#: The script most people write: read, encode the categories, predict, write.
SCRIPT = """
import json, sys
import lightgbm, pandas
source, target, folder = sys.argv[1:]
features = json.load(open(folder + "/bundle.json"))["features"]
decision = json.load(open(folder + "/bundle.json"))["decision"]
frame = pandas.read_csv(source)
rows = frame[[f["name"] for f in features]].copy()
for f in features:
    if f["kind"] == "category":
        rows[f["name"]] = rows[f["name"]].map({word: i for i, word in enumerate(f["categories"])})
rows = rows.astype("float64")
frame["probability"] = lightgbm.Booster(model_file=folder + "/model.txt").predict(rows)
frame["decision"] = (frame["probability"] >= decision["threshold"]).map(
    {False: decision["below"], True: decision["otherwise"]})
frame.to_csv(target, index=False)
"""

#: What is faster, with the same graph; its probabilities may differ in the last bit (NumPy's `exp`).
POLARS_SCRIPT = """
import json, sys
import numpy, onnxruntime, polars
source, target, folder = sys.argv[1:]
bundle = json.load(open(folder + "/bundle.json"))
decision = bundle["decision"]
is_parquet = source.endswith(".parquet")
frame = polars.read_parquet(source) if is_parquet else polars.read_csv(source)
rows = frame.select(
    polars.col(f["name"]).cast(polars.Enum(f["categories"]), strict=False).to_physical()
    if f["kind"] == "category" else f["name"] for f in bundle["features"]
).cast(polars.Float64).fill_null(float("nan")).to_numpy(order="c")
session = onnxruntime.InferenceSession(folder + "/model.onnx")
margins = session.run(None, {"features": rows})[0].ravel()
frame = frame.with_columns(probability=1 / (1 + numpy.exp(-margins)))
frame = frame.with_columns(
    decision=polars.when(polars.col("probability") >= decision["threshold"])
    .then(polars.lit(decision["otherwise"])).otherwise(polars.lit(decision["below"]))
)
frame.write_parquet(target) if is_parquet else frame.write_csv(target)
"""


def write_rows(bundle: Bundle, path: Path, rows: int) -> None:
    """A CSV file of `rows` rows drawn from the golden rows, each number moved a little."""
    random = np.random.default_rng(0)
    golden = [row.fields for row in bundle.golden_rows()]
    names = bundle.schema.names
    table = pl.DataFrame([{n: r.get(n) for n in names} for r in golden], infer_schema_length=None)
    table = table[random.integers(0, len(table), rows)]
    moved = [
        (pl.col(f.name) * pl.Series(random.uniform(0.9, 1.0, rows))).clip(*f.form_range).round(4)
        for f in bundle.schema.features
        if f.kind == "number"
    ]
    table.with_columns(moved).with_row_index("row").write_csv(path)


def _write_both(model: Path, source: Path, table: Path, rows: int) -> None:
    write_rows(Bundle.load(model), source, rows)
    pl.read_csv(source).write_parquet(table)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)


def main(options: argparse.Namespace) -> int:
    """Print the table; 0 when both wrote the same answers."""
    with tempfile.TemporaryDirectory() as folder:
        source, ours, theirs = (Path(folder) / name for name in ("rows.csv", "ours.csv", "theirs.csv"))
        table = source.with_suffix(".parquet")
        # Of a process that is started the kernel counts what its parent has held by then, too.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(_write_both, options.model, source, table, options.rows).result()
        python, model = sys.executable, str(options.model)
        batch = [python, "-m", "server.batch", "--model", model]
        commands = {
            "server.batch, CSV": [*batch, str(source), str(ours)],
            "server.batch, Parquet": [*batch, str(table), str(ours.with_suffix(".parquet"))],
            "polars + ONNX Runtime, CSV": [python, "-c", POLARS_SCRIPT, str(source), str(theirs), model],
            "polars + ONNX Runtime, Parquet": [
                *(python, "-c", POLARS_SCRIPT, str(table)),
                *(str(theirs.with_suffix(".parquet")), model),
            ],
            "pandas + LightGBM, CSV": [python, "-c", SCRIPT, str(source), str(theirs), model],
        }
        costs: dict[str, list[CommandCost]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                costs[name].append(cost_of(command))
        _print(costs, options.rows)
        equal = _equal(ours, theirs)
        if RAY.exists():
            ray = cost_of([str(RAY), *batch[1:], "--engine", "ray", str(source), str(Path(folder, "shards"))])
            # Its processes are none of the command's: the kernel tells of their CPU and memory elsewhere.
            print(
                f"server.batch --engine ray, CSV: {options.rows / ray.seconds:,.0f} rows/s, once, "
                f"{ray.seconds:.1f} s with the start of its cluster"
            )
        return 0 if equal else 1


def _print(costs: dict[str, list[CommandCost]], rows: int) -> None:
    rounds = len(next(iter(costs.values())))
    print(f"{rows:,} rows, {len(os.sched_getaffinity(0))} cores; the best of {rounds}")
    best = {name: CommandCost(*map(min, zip(*found, strict=True))) for name, found in costs.items()}
    *_, script = best.values()
    for name, cost in best.items():
        print(
            f"{name:30} {rows / cost.seconds:10,.0f} rows/s {cost.cpu_seconds:6.1f} s of CPU "
            f"{cost.peak_mb:6,.0f} MB; "
            f"{script.seconds / cost.seconds:5.2f} times the script's "
            f"rows/s, {script.cpu_seconds / cost.cpu_seconds:5.2f} times less CPU"
        )


def _equal(ours: Path, theirs: Path) -> bool:
    """Whether the probabilities are equal to the bit."""
    equal = pl.read_csv(ours, columns=["probability"]).equals(pl.read_csv(theirs, columns=["probability"]))
    print("the probabilities are equal to the bit" if equal else "the probabilities differ")
    return equal
