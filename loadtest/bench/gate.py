"""`python -m loadtest gate`: fail if a response has become dearer than committed.

Three figures that hold still from machine to machine: server CPU over that of
Starlette's hello world of the same run; how often a response asks for memory; how
many functions it calls. `--update` writes what was measured to `gate.json`, of
the ratio only what a machine was quiet enough to tell.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import uvloop

from loadtest.bench.allocations import Counts, count
from loadtest.bench.servers import HOTROW, bench
from loadtest.harness.in_process import worker
from loadtest.harness.target import add_model
from loadtest.report.noise import MedianInterval, median_interval
from loadtest.report.terminal import console
from server.model.bundle import Bundle

GATE_FILE = Path(__file__).parents[1] / "gate.json"
PEER = "starlette_hello"
ROUNDS, SECONDS = 15, 1
#: A ratio is committed if its interval is narrower than this part of it.
SURE_SHARE = 0.06
#: Counts are exact; versions of libraries move them a little.
COUNT_TOLERANCE = 0.02


class Gate(NamedTuple):
    """What is committed: a ratio with its tolerance, and the counts of one response."""

    cpu_over_starlette_hello: float
    tolerance: float
    allocations: float
    function_calls: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--counts-only", action="store_true", help="no load and no clock: the counts alone")
    parser.add_argument("--update", action="store_true", help="commit to what is measured now")


def main(options: argparse.Namespace) -> int:
    """Measure and judge; 1 if anything has become dearer than allowed."""
    gate = read_gate()
    bundle = Bundle.load(options.model)
    counts = uvloop.run(count_responses(options.model))
    ratio = None if options.counts_only else cpu_ratio(bundle)
    if options.update:
        _write(gate, counts, ratio)
    sentences = judge_counts(counts, gate) + ([] if ratio is None else judge_ratio(ratio, gate))
    for sentence in sentences:
        console.print(sentence)
    if ratio is not None:
        console.print(
            f"CPU over that of Starlette's hello world: {ratio.median:.3f}, 95 % interval {ratio.low:.3f} to "
            f"{ratio.high:.3f} (committed {gate.cpu_over_starlette_hello:.3f})."
        )
    console.print(
        f"One response: {counts.allocations:.1f} allocations (committed {gate.allocations:.1f}), "
        f"{counts.function_calls:.1f} function calls (committed {gate.function_calls:.1f})."
    )
    return 1 if sentences and not options.update else 0


def read_gate() -> Gate:
    """The committed figures."""
    return Gate(**orjson.loads(GATE_FILE.read_bytes()))


async def count_responses(model: Path) -> Counts:
    """The counts of one connection of a worker in this process, metrics on and the log off.

    The log would add to them in between; its line is one more allocation.
    """
    with tempfile.TemporaryDirectory() as folder:
        async with worker(model, Path(folder), log_mode="off") as one:
            return count(one.protocol.data_received, one.requests)


def cpu_ratio(bundle: Bundle) -> MedianInterval:
    """Our CPU per request over Starlette's, of rounds side by side."""
    rounds = bench(bundle, (HOTROW, PEER), ROUNDS, SECONDS, 0).rounds
    pairs = zip(rounds[HOTROW], rounds[PEER], strict=True)
    return median_interval([ours.cpu_us_per_request / theirs.cpu_us_per_request for ours, theirs in pairs])


def is_sure(ratio: MedianInterval) -> bool:
    """Whether the rounds agree well enough to commit to them."""
    return ratio.high - ratio.low < SURE_SHARE * ratio.median


def judge_ratio(ratio: MedianInterval, gate: Gate) -> list[str]:
    """A sentence if the ratio is for certain above what is allowed."""
    allowed = gate.cpu_over_starlette_hello * (1 + gate.tolerance)
    if ratio.low <= allowed:
        return []
    return [
        f"expected at most {allowed:.3f} of the CPU of Starlette's hello world, got {ratio.median:.3f}: "
        "find what was added with `python -m loadtest run` and `compare`, or commit to it with --update"
    ]


def judge_counts(counts: Counts, gate: Gate) -> list[str]:
    """A sentence for each count that is above what is allowed."""
    found = (
        ("allocations", counts.allocations, gate.allocations),
        ("function calls", counts.function_calls, gate.function_calls),
    )
    return [
        f"expected at most {committed * (1 + COUNT_TOLERANCE):.1f} {what} for a response, got {now:.1f}: "
        "find what was added, or commit to it with `python -m loadtest gate --update`"
        for what, now, committed in found
        if now > committed * (1 + COUNT_TOLERANCE)
    ]


def _write(gate: Gate, counts: Counts, ratio: MedianInterval | None) -> None:
    figures: dict[str, Any] = gate._asdict() | counts._asdict()
    if ratio is not None and is_sure(ratio):
        figures["cpu_over_starlette_hello"] = round(ratio.median, 3)
    elif ratio is not None:
        console.print(
            "The ratio stays as it was: on this machine, now, the rounds differ too much from one another."
        )
    GATE_FILE.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
