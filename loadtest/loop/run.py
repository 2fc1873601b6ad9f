"""`python -m loadtest run`: start the server, load it, record it, and write what was seen.

The first seconds are measured; then, under the same load, py-spy records. It
stops the server for every sample, so no second of a recording is measured.
"""

import argparse
import os
import shutil
import time
import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtest.harness import counts
from loadtest.harness.generator import SECONDS, Plan, locust, requests_by_status
from loadtest.harness.sampler import sampling
from loadtest.harness.subject import LoadTestError, workers_of
from loadtest.harness.target import Target, TargetRequest, add_target, load_core, target
from loadtest.loop import stacks
from loadtest.loop.blocks import read_seconds
from loadtest.loop.flame_graph import write_flame_graph
from loadtest.loop.py_spy import record
from loadtest.loop.shapes import SHAPES
from loadtest.loop.summary import second_rows, totals
from loadtest.loop.timeline import draw_timeline
from loadtest.report import machine, result_folder
from loadtest.report.limits import add_limits, broken_limits
from loadtest.report.pages import write_index
from loadtest.report.progress import Progress, print_summary
from loadtest.report.result_folder import add_results

#: Of a run's seconds, how many are measured before the rest is recorded.
MEASURED_SHARE = 0.6
#: Connections open and caches fill in the first of them.
WARM_UP_SECONDS = 1
MIN_SECONDS = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_target(parser)
    parser.add_argument(
        "--users", type=int, default=32, metavar="N", help="connections that ask in turn [32]"
    )
    parser.add_argument(
        "--seconds", type=int, default=20, metavar="S", help="3 in 5 measured, then recorded [20]"
    )
    parser.add_argument("--shape", choices=SHAPES, default="steady")
    parser.add_argument(
        "--bad-share", type=float, default=0.02, metavar="P", help="requests to be refused [0.02]"
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help="load processes [processors but one, at most 4]"
    )
    parser.add_argument("--name", help="the folder in loadtest/results [date and time]")
    add_results(parser)
    parser.add_argument("--open", action="store_true", help="show the page of results in a browser")
    parser.add_argument("--no-profile", action="store_true", help="measure all seconds, record none")
    add_limits(parser)


def main(options: argparse.Namespace) -> int:
    """Run, write the results, print the table; 1 if a stated limit is broken."""
    if options.seconds < MIN_SECONDS:
        raise LoadTestError(f"expected --seconds of at least {MIN_SECONDS}, got {options.seconds}")
    folder = result_folder.new_folder(options.name, options.results)
    settings = {k: str(v) for k, v in vars(options).items() if v is not None and k != "command"}
    summary: dict[str, Any] = {
        "name": folder.name,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": machine.environment(settings),
    }
    asked = TargetRequest.of(options)
    with target(asked, folder / "server.log") as server:
        plan = Plan(
            url=server.url,
            path=server.path,
            model_path=server.model_path,
            users=options.users,
            shape=options.shape,
            seconds=options.seconds if options.no_profile else round(options.seconds * MEASURED_SHARE),
            processes=options.processes or max(1, min(4, len(os.sched_getaffinity(0)) - 1)),
            bad_share=options.bad_share,
            bundle=None if asked.url else asked.model,
        )
        summary |= _load(server, plan, folder, options.seconds, load_core(asked.workers))
    summary["broken_limits"] = broken_limits(summary["totals"], options)
    result_folder.write_summary(summary, folder)
    draw_timeline(summary, folder / result_folder.TIMELINE_FILE)
    write_index(summary, folder)
    print_summary(summary, folder)
    if options.open and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        webbrowser.open((folder / result_folder.INDEX_FILE).resolve().as_uri())
    return 1 if summary["broken_limits"] else 0


def _load(server: Target, plan: Plan, folder: Path, seconds: int, core: int | None) -> dict[str, Any]:
    """Measure the server as long as is planned, record for the rest, compare the counts of both sides."""
    measured = plan.seconds
    before = counts.answered(server.url, server.path)
    with (
        locust(plan, folder, core) as generator,
        sampling(server.pid, generator) as samples,
    ):
        progress = Progress(samples, folder)
        time.sleep(WARM_UP_SECONDS)
        first = int(time.time()) + 1
        progress.wait("measuring", first + measured - time.time())
        profile = {"problem": "not asked for"}
        if measured < seconds:
            profile = _record(server, seconds - measured, folder, progress)
    after = counts.answered(server.url, server.path)
    told = read_seconds(folder / SECONDS)
    shutil.rmtree(folder / SECONDS)
    cores = len(os.sched_getaffinity(0))
    rows = second_rows(told, samples, range(first, first + measured), cores)
    return {
        "totals": totals(told, rows),
        "profile": profile,
        "counts": _compared(requests_by_status(folder), after - before),
        "seconds": rows,
    }


def _record(server: Target, seconds: float, folder: Path, progress: Progress) -> dict[str, Any]:
    """Record stacks and draw them; what hinders it is reported, not raised."""
    if server.pid is None:
        return {
            "problem": "expected the server's own process on this machine, got an address elsewhere, "
            "behind a proxy or of another user: run beside it, as root or as its user"
        }
    speedscope = folder / result_folder.SPEEDSCOPE_FILE
    try:
        with progress.during("recording stacks", seconds):
            native = record(server.pid, seconds, speedscope, subprocesses=bool(workers_of(server.pid)))
    except LoadTestError as error:
        return {"problem": str(error)}
    found = stacks.from_speedscope(speedscope)
    stacks.write(found, folder / result_folder.STACKS_FILE)
    write_flame_graph(found, folder / result_folder.FLAME_GRAPH_FILE)
    return {"native": native, "samples": found.total(), "seconds": seconds}


def _compared(locust_counts: dict[str, int], server_counts: dict[str, int]) -> dict[str, Any]:
    good = server_counts.get("200", 0)
    bad = sum(server_counts.values()) - good
    equal = (locust_counts["good"], locust_counts["bad"]) == (good, bad)
    return {"locust": locust_counts, "server": dict(server_counts), "equal": equal}
