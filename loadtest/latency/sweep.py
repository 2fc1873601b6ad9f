"""`python -m loadtest sweep`: latency against rate, up to where the server no longer follows.

The first point is a closed loop, which finds the peak; the others are fixed
rates up to somewhat more than that.
"""

import argparse
import itertools
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from loadtest.harness.bodies import golden_bodies, http_requests
from loadtest.harness.target import add_model, hotrow, keep_to, load_core
from loadtest.latency.open_loop import LatencyResult, closed_loop, open_loop
from loadtest.latency.sweep_plot import Series, draw_sweep
from loadtest.report import machine, pages
from loadtest.report.result_folder import INDEX_FILE, SUMMARY_FILE, add_results, new_folder
from loadtest.report.terminal import console, print_table
from server.model.bundle import Bundle

#: Parts of the peak; close together where the knee is to be expected.
STEPS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1)
PEAK_SECONDS = 2.0
PEAK_CONNECTIONS = 32
#: Beyond the knee p99 is more than this many times that of the lowest rate, or the
#: server answers less than this part of what is asked.
KNEE_TIMES, KNEE_KEPT = 5.0, 0.99
#: A sweep ends where less than this part is answered: further on only the queue grows.
FAR_BEYOND = 0.8
PLOT_FILE = "sweep.png"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--workers", type=_numbers, default=[1], metavar="N,…", help="numbers of workers [1]")
    parser.add_argument(
        "--log-modes", type=_words, default=["async"], metavar="M,…", help="off, async, strict [async]"
    )
    parser.add_argument("--rates", type=_numbers, metavar="R,…", help="requests a second [parts of the peak]")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each rate [3]")
    parser.add_argument("--name", help="the folder in loadtest/results [date and time]")
    add_results(parser)


def main(options: argparse.Namespace) -> int:
    """Sweep every configuration, print, and write JSON, PNG and HTML."""
    folder = new_folder(options.name or datetime.now().strftime("sweep-%Y-%m-%d-%H%M%S"), options.results)
    environment = machine.environment({"seconds": options.seconds})
    bundle = Bundle.load(options.model)
    series = [
        sweep(bundle, workers, log_mode, options.rates, options.seconds)
        for workers, log_mode in itertools.product(options.workers, options.log_modes)
    ]
    write_sweep(series, environment, folder)
    print_series(series)
    console.print(f"Plot: {folder / PLOT_FILE}\nPage: {folder / INDEX_FILE}")
    return 0


def sweep(
    bundle: Bundle, workers: int, log_mode: str, rates: Sequence[float] | None, seconds: float
) -> Series:
    """Measure one configuration at each rate."""
    requests = http_requests(golden_bodies(bundle), "127.0.0.1")
    with hotrow(bundle.directory, workers=workers, log_mode=log_mode) as subject, keep_to(load_core(workers)):
        if rates is None:
            peak = closed_loop(subject.url, requests, PEAK_SECONDS, PEAK_CONNECTIONS)["rate"]
            rates = [round(peak * step, -1) for step in STEPS]
        points = []
        for rate in sorted(rates):
            points.append(open_loop(subject.url, requests, rate, seconds, poisson=True))
            console.print(f"{workers} workers, log {log_mode}: {rate:,.0f}/s, {_point(points[-1])}")
            if points[-1].achieved < FAR_BEYOND * rate:
                break
    return Series(workers, log_mode, points, knee(points))


def knee(points: Sequence[LatencyResult]) -> int | None:
    """The index of the last rate that is served as the lowest is.

    None if all or none are, and if the generator spoiled a point before the bend.
    """
    base = points[0].corrected["p99_us"]
    for i, point in enumerate(points):
        if i and points[i - 1].limited:
            return None
        if point.corrected["p99_us"] > KNEE_TIMES * base or point.achieved < KNEE_KEPT * point.scheduled:
            return i - 1 if i else None
    return None


def print_series(series: Sequence[Series]) -> None:
    """A table of every point."""
    rows = []
    for one in series:
        for i, point in enumerate(one.points):
            note = "knee" if i == one.knee else "generator's limit" if point.limited else ""
            latencies = [f"{point.corrected[key] / 1000:,.2f}" for key in ("p50_us", "p99_us", "p999_us")]
            rows.append((one.label, f"{point.rate:,.0f}", f"{point.achieved:,.0f}", *latencies, note))
    headings = ("configuration", "asked/s", "achieved/s", "p50", "p99", "p99.9", "")
    print_table("Latency from the intended send time, ms", headings, rows)


def write_sweep(series: Sequence[Series], environment: dict[str, Any], folder: Path) -> None:
    """Write the figures as JSON, the plot, and the page."""
    document = {
        "environment": environment,
        "series": [one._asdict() | {"points": [point._asdict() for point in one.points]} for one in series],
    }
    (folder / SUMMARY_FILE).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    draw_sweep(series, folder / PLOT_FILE)
    (folder / INDEX_FILE).write_text(
        pages.render(
            "sweep.html",
            series=series,
            plot=pages.picture(folder / PLOT_FILE),
            machine=machine.sentence(environment),
        )
    )


def _point(point: LatencyResult) -> str:
    return f"p99 {point.corrected['p99_us'] / 1000:,.2f} ms, achieved {point.achieved:,.0f}/s"


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected whole numbers of at least 1, got {text!r}")
    return numbers


def _words(text: str) -> list[str]:
    words = text.split(",")
    if not set(words) <= {"off", "async", "strict"}:
        raise argparse.ArgumentTypeError(f"expected off, async or strict, got {text!r}")
    return words
