"""`python -m loadtest gate`: fail if an answer has become dearer than committed.

Three figures that hold still from machine to machine: server CPU over that of
Starlette's hello world of the same run; how often an answer asks for memory; how
many functions it calls. `--update` writes what was measured to `gate.json`.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from loadtest.allocations import Counts, count
from loadtest.bench import HOTROW, bench
from loadtest.progress import console
from loadtest.target import add_model
from server.bundle import Bundle

GATE_FILE = Path(__file__).with_name("gate.json")
PEER = "starlette_hello"
ROUNDS, SECONDS = 7, 2
#: Counts are exact; versions of libraries move them a little.
COUNT_TOLERANCE = 0.02


class Gate(NamedTuple):
    """What is committed: a ratio with its tolerance, and the counts of one answer."""

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
    counts = count(options.model)
    ratio = None if options.counts_only else cpu_ratio(bundle)
    if options.update:
        _write(gate, counts, ratio)
    sentences = judge_counts(counts, gate) + ([] if ratio is None else judge_ratio(ratio, gate))
    for sentence in sentences:
        console.print(sentence, soft_wrap=True)
    if ratio is not None:
        committed = gate.cpu_over_starlette_hello
        console.print(f"CPU over that of Starlette's hello world: {ratio:.3f} (committed {committed:.3f}).")
    console.print(
        f"One answer: {counts.allocations:.1f} allocations (committed {gate.allocations:.1f}), "
        f"{counts.function_calls:.1f} function calls (committed {gate.function_calls:.1f})."
    )
    return 1 if sentences and not options.update else 0


def read_gate(file: Path = GATE_FILE) -> Gate:
    """The committed figures."""
    return Gate(**orjson.loads(file.read_bytes()))


def cpu_ratio(bundle: Bundle) -> float:
    """Our CPU per request over Starlette's, the median of rounds side by side."""
    rounds = bench(bundle, (HOTROW, PEER), ROUNDS, SECONDS, 0).rounds
    pairs = zip(rounds[HOTROW], rounds[PEER], strict=True)
    ratios = sorted(ours.cpu_us_per_request / theirs.cpu_us_per_request for ours, theirs in pairs)
    return ratios[len(ratios) // 2]


def judge_ratio(ratio: float, gate: Gate) -> list[str]:
    """A sentence if the ratio is above what is allowed."""
    allowed = gate.cpu_over_starlette_hello * (1 + gate.tolerance)
    if ratio <= allowed:
        return []
    return [
        f"expected at most {allowed:.3f} of the CPU of Starlette's hello world, got {ratio:.3f}: "
        "find what was added with `python -m loadtest run` and `compare`, or commit to it with --update"
    ]


def judge_counts(counts: Counts, gate: Gate) -> list[str]:
    """A sentence for each count that is above what is allowed."""
    found = (
        ("allocations", counts.allocations, gate.allocations),
        ("function calls", counts.function_calls, gate.function_calls),
    )
    return [
        f"expected at most {committed * (1 + COUNT_TOLERANCE):.1f} {what} for an answer, got {now:.1f}: "
        "find what was added, or commit to it with `python -m loadtest gate --update`"
        for what, now, committed in found
        if now > committed * (1 + COUNT_TOLERANCE)
    ]


def _write(gate: Gate, counts: Counts, ratio: float | None) -> None:
    figures: dict[str, Any] = gate._asdict() | counts._asdict()
    if ratio is not None:
        figures["cpu_over_starlette_hello"] = round(ratio, 3)
    GATE_FILE.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
