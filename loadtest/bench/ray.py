"""`python -m loadtest bench ray`: what Ray Serve's way to a replica costs, beside `python -m server`.

Both serve the same bundle with the same code, one replica and one worker, each on
the same processor while the other idles, in turns. CPU time is that of all
processes of a server: of Ray its proxy, controller, raylet and agents too; what
these use while nothing is asked is measured first and not counted. Latencies are
those of one connection that asks again when it is answered: the way there and back,
without a queue.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from loadtest.bench.servers import load_in_turn, median, two_cores
from loadtest.harness.bodies import golden_bodies, http_requests, wrk_script
from loadtest.harness.closed_loop import LoadRun
from loadtest.harness.subject import LoadTestError, Subject, free_port, running
from loadtest.harness.target import add_model, hotrow, keep_to
from loadtest.latency.open_loop import closed_loop
from loadtest.report import machine
from loadtest.report.terminal import console, print_machine
from server.cli import output_file
from server.model.bundle import Bundle

PYTHON = Path(".venv-ray/bin/python")
IDLE_SECONDS = 5.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write the figures there too")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds in turn [5]")
    parser.add_argument("--seconds", type=int, default=3, metavar="S", help="of each server in each [3]")


def main(options: argparse.Namespace) -> int:
    """Measure, print, and write the figures."""
    bundle = Bundle.load(options.model)
    settings = {"rounds": options.rounds, "seconds": options.seconds}
    document: dict[str, Any] = {"environment": machine.environment(settings)}
    server_core, load_core = two_cores()
    with ExitStack() as stack:
        subjects = {
            "hotrow": stack.enter_context(hotrow(bundle.directory)),
            "ray_serve": stack.enter_context(ray_serve(bundle.directory, server_core)),
        }
        idle = {name: _idle_share(subject) for name, subject in subjects.items()}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotrow-ray-")))
        script = wrk_script(golden_bodies(bundle), folder / "post.lua")
        load_in_turn(subjects, script, 1, options.seconds, load_core)  # they warm up
        loads = load_in_turn(subjects, script, options.rounds, options.seconds, load_core)
        with keep_to(load_core):
            latencies = _latencies(subjects, bundle, options.rounds, options.seconds)
    document |= {name: _figures(loads[name], idle[name]) | latencies[name] for name in subjects}
    _print(document)
    if options.json:
        options.json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    return 0


@contextmanager
def ray_serve(model: Path, core: int | None) -> Iterator[Subject]:
    """One replica behind Ray Serve on a cluster of its own; raises `LoadTestError` without Ray."""
    if not PYTHON.exists():
        raise LoadTestError(f"expected Ray in {PYTHON.parents[1]}, got none: run `make ray`")
    port = free_port()
    served = ["--model", str(model), "--port", str(port), "--address", "local"]
    with (
        tempfile.TemporaryDirectory(prefix="hotrow-ray-", ignore_cleanup_errors=True) as logs,
        running(
            "ray_serve",
            [str(PYTHON), "-W", "ignore", "-m", "deploy.ray_serve", *served],
            f"http://127.0.0.1:{port}",
            "/readyz",
            core=core,
            environment={"HOTROW_LOG_DIR": logs},
        ) as subject,
    ):
        yield subject


def _latencies(
    subjects: dict[str, Subject], bundle: Bundle, rounds: int, seconds: int
) -> dict[str, dict[str, float]]:
    """The medians over the rounds of p50 and p99 in us."""
    requests = http_requests(golden_bodies(bundle), "127.0.0.1")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, subject in subjects.items():
            found[name].append(closed_loop(subject.url, requests, seconds, 1))
    return {
        name: {key: float(np.median([one[key] for one in ones])) for key in ("p50_us", "p99_us")}
        for name, ones in found.items()
    }


def _idle_share(subject: Subject) -> float:
    """Of a core, while nothing is asked."""
    before = subject.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    return (subject.cpu_seconds() - before) / IDLE_SECONDS


def _figures(loads: Sequence[LoadRun], idle_share: float) -> dict[str, Any]:
    cpu = [(load.cpu_seconds - idle_share * load.seconds) / load.requests * 1e6 for load in loads]
    return {
        "cpu_us_per_request": float(np.median(cpu)),
        "cpu_us_rounds": cpu,
        "requests_per_second": median(loads, "requests_per_second"),
        "idle_share_of_a_core": idle_share,
    }


def _print(document: dict[str, Any]) -> None:
    ours, ray = document["hotrow"], document["ray_serve"]
    console.print(f"{'':32} {'server':>10} {'Ray Serve':>10} {'ratio':>8}")
    for label, of_ours, of_ray in (
        ("CPU us a request", ours["cpu_us_per_request"], ray["cpu_us_per_request"]),
        ("p50 us, one connection", ours["p50_us"], ray["p50_us"]),
        ("p99 us, one connection", ours["p99_us"], ray["p99_us"]),
        ("requests/s, closed loop of 32", ours["requests_per_second"], ray["requests_per_second"]),
    ):
        console.print(f"{label:32} {of_ours:10,.1f} {of_ray:10,.1f} {of_ray / of_ours:8.2f}")
    console.print(
        f"while nothing is asked, of a core: {ours['idle_share_of_a_core']:.1%} and "
        f"{ray['idle_share_of_a_core']:.1%}"
    )
    print_machine(document["environment"])
