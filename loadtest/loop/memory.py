"""`python -m loadtest memory`: whether memory grows under load, and what stays.

First the server runs alone under load and its memory is read once a second: the
slope is the leak. Then it runs under memray, which is slow and has memory of its
own, and whose flame graph shows what was allocated and never given back.
"""

import argparse
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from scipy.stats import linregress  # type: ignore[import-untyped]  # SciPy ships no types

from loadtest.harness.bodies import golden_bodies, wrk_script
from loadtest.harness.closed_loop import drive
from loadtest.harness.subject import LoadTestError, python, resident_bytes, run_command
from loadtest.harness.target import add_model, hotrow
from loadtest.report.result_folder import add_results, new_folder
from loadtest.report.terminal import console
from server.model.bundle import Bundle

#: Buffers fill and code is loaded in the first seconds.
WARM_UP_SECONDS = 3
#: The log's queue is memory once it has been filled for the first time: this one is in the warm-up.
QUEUE_BYTES = 2**20
GRAPH_FILE = "memory.html"
#: A slope counts if it is this many times its standard error.
DEVIATIONS = 3.0
#: The log's segments and the allocator's pools come to less.
MIN_GROWN_MB = 2.0


class Slope(NamedTuple):
    """How resident memory moves: KiB for a million requests, its error, and the requests seen."""

    kib_per_million: float
    error: float
    requests: int
    mb_at_end: float

    @property
    def grown_mb(self) -> float:
        """By how much memory grew over the run, along the line."""
        return self.kib_per_million * self.requests / 1e6 / 1024

    @property
    def is_leak(self) -> bool:
        """Whether memory grows for certain, and by more than pools and buffers that fill."""
        return self.kib_per_million > DEVIATIONS * self.error and self.grown_mb > MIN_GROWN_MB


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--seconds", type=int, default=20, metavar="S", help="of load, each time [20]")
    parser.add_argument("--name", help="the folder in loadtest/results [date and time]")
    add_results(parser)


def main(options: argparse.Namespace) -> int:
    """Measure the slope, record what stays, and say both."""
    folder = new_folder(options.name or datetime.now().strftime("memory-%Y-%m-%d-%H%M%S"), options.results)
    bundle = Bundle.load(options.model)
    script = wrk_script(golden_bodies(bundle), folder / "post.lua")
    slope = measure_slope(bundle, script, options.seconds)
    console.print(
        f"Memory moved by {slope.kib_per_million:+,.0f} KiB for a million requests (standard error "
        f"{slope.error:,.0f}) over {slope.requests:,} requests, {slope.grown_mb:+.2f} MB in all, "
        f"to {slope.mb_at_end:.1f} MB: " + ("it grows." if slope.is_leak else "no leak to be seen.")
    )
    record_what_stays(bundle, script, options.seconds, folder)
    console.print(f"What stays: {folder / GRAPH_FILE}")
    return 0


def measure_slope(bundle: Bundle, script: Path, seconds: int) -> Slope:
    """Load a server for some seconds, one at a time, and fit a line through its memory."""
    points = []
    with hotrow(bundle.directory, log_queue_bytes=QUEUE_BYTES) as subject:
        drive(subject, "/predict", WARM_UP_SECONDS, script)
        requests = 0
        for _ in range(seconds):
            requests += drive(subject, "/predict", 1, script).requests
            points.append((requests, resident_bytes(subject.pid)))
    return fit(points)


def fit(points: Sequence[tuple[int, int]]) -> Slope:
    """Least squares through pairs of requests and resident bytes; three pairs at least."""
    if len(points) < 3:
        raise LoadTestError(f"expected --seconds of at least 3, got {len(points)}")
    line, (requests, resident), scale = linregress(*zip(*points, strict=True)), points[-1], 1e6 / 1024
    return Slope(float(line.slope * scale), float(line.stderr * scale), requests, resident / 2**20)


def record_what_stays(bundle: Bundle, script: Path, seconds: int, folder: Path) -> None:
    """Run the server under memray, load it, and draw what it had not given back at its end."""
    capture = folder / "memray.bin"
    under = python("-m", "memray", "run", "--quiet", "--trace-python-allocators", "-o", str(capture))
    with hotrow(bundle.directory, command=[*under, "-m", "server"], output=folder / "server.log") as subject:
        drive(subject, "/predict", seconds, script)
    time.sleep(0.2)
    drawing = ("-m", "memray", "flamegraph", "--leaks", "--no-web", "-f")
    run_command(python(*drawing, "-o", str(folder / GRAPH_FILE), str(capture)))
    capture.unlink()
