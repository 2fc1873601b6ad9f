"""`python -m loadtest bench log`: what a report, a check, a replay and outcomes of a long log take.

The log is made with the server's own lines, of varied golden rows with their real
answers, one a millisecond; each command then reads it as a user would call it.
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from loadtest.harness.subject import CommandCost, cost_of, python
from loadtest.harness.target import add_model
from loadtest.harness.traffic import Traffic
from loadtest.report.terminal import print_machine, print_table
from server.log.line import LineMaker
from server.log.ring import LoggedResponse
from server.metrics.process_usage import ProcessUsage
from server.model.bundle import Bundle
from server.scoring.one_row import make_scorer

DISTINCT_ROWS = 20_000
LINES_AT_ONCE = 1000
GAP_NS = 1_000_000
SLOWEST_NS = 60_000
INSTANCE = b"b0a710ad0000"
OUTCOMES = "outcomes.csv"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--lines", type=int, default=1_000_000, metavar="N", help="[1,000,000]")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where the log is written [a temporary one]"
    )
    parser.add_argument(
        "--commands", default="report,drift,verify-log", metavar="C,…", help="[report,drift,verify-log]"
    )


def main(options: argparse.Namespace) -> int:
    """Write the log, run the commands, print what they took."""
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="hotrow-log-") as name:
        folder = Path(name)
        file = write_log(Bundle.load(options.model), folder / "predictions-8000-0.jsonl", options.lines)
        size_gb = file.stat().st_size / 1e9
        if "performance" in options.commands:
            write_outcomes(folder / OUTCOMES, options.lines)
        costs = {name: measure(name, options.model, folder) for name in options.commands.split(",")}
    print_table(
        f"{options.lines:,} lines, {size_gb:.2f} GB",
        ("command", "seconds", "CPU seconds", "peak memory, MiB"),
        (
            (command, f"{cost.seconds:.1f}", f"{cost.cpu_seconds:.1f}", f"{cost.peak_mb:,.0f}")
            for command, cost in costs.items()
        ),
    )
    print_machine()
    return 0


def write_log(bundle: Bundle, file: Path, lines: int) -> Path:
    """A log of so many lines, as the server writes them, without a gap."""
    maker = LineMaker(ProcessUsage(os.getpid()))
    answered = _answered(bundle, lines)
    with open(file, "wb") as log:
        while block := list(itertools.islice(answered, LINES_AT_ONCE)):
            log.write(maker.lines(block))
    return file


def write_outcomes(file: Path, lines: int) -> None:
    """An outcome of every tenth answer."""
    with open(file, "w", encoding="ascii") as outcomes:
        outcomes.write("id,outcome\n")
        outcomes.writelines(f"{INSTANCE.decode()}-{n},{n % 130 == 0:d}\n" for n in range(10, lines + 1, 10))


def _answered(bundle: Bundle, lines: int) -> Iterator[LoggedResponse]:
    responses = _answers(bundle)
    began_ns = time.perf_counter_ns() - lines * GAP_NS
    for number in range(1, lines + 1):
        body, rest, margin = responses[number % len(responses)]
        took_ns = 25_000 + number * 7919 % (SLOWEST_NS - 25_000)
        content = b'{"id":"%b-%d%b' % (INSTANCE, number, rest)
        yield began_ns, began_ns + took_ns, content, number, margin, body
        began_ns += GAP_NS


def _answers(bundle: Bundle) -> list[tuple[bytes, bytes, float]]:
    """Bodies, the response to each after its id, and its margin."""
    golden = [row.fields for row in bundle.golden_rows()]
    traffic = Traffic([feature.to_dict() for feature in bundle.schema.features], golden)
    scorer = make_scorer(bundle, count=lambda *_: None)
    found = []
    for _ in range(DISTINCT_ROWS):
        body = orjson.dumps(traffic.row())
        sent: list[bytes] = []
        scorer.respond(body, sent.append, 0)
        found.append((body, b'",' + sent[0].partition(b'",')[2], scorer.predictor.last_margin[0]))
    return found


def measure(command: str, model: Path, folder: Path) -> CommandCost:
    """Run one command of `python -m monitoring` on a folder."""
    page = ["--html", str(folder / "report.html")] if command == "report" else []
    if command == "performance":
        page = ["--outcomes", str(folder / OUTCOMES)]
    bundle = [] if command == "verify-log" else ["--model", str(model)]
    # 3: there is drift.
    return cost_of(python("-m", "monitoring", command, str(folder), *page, *bundle), good=(0, 3))
