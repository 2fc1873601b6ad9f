"""`python -m loadtest.bench_ray`: what Ray Serve's way to a replica costs, beside `python -m server`.

Both serve the same bundle with the same code, one replica and one worker, each on
the same processor while the other idles, in turns. CPU time is that of all
processes of a server: of Ray its proxy, controller, raylet and agents too; what
these use while nothing is asked is measured first and not counted. Latencies are
those at one fixed rate, from the intended send time.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from loadtest import machine
from loadtest.bench import median, two_cores
from loadtest.bodies import golden_bodies, http_requests, wrk_script
from loadtest.closed_loop import Load, drive
from loadtest.open_loop import open_loop
from loadtest.progress import console
from loadtest.subject import LoadTestError, Subject, free_port, running
from loadtest.target import add_model, hotrow, keep_to
from server.bundle import Bundle
from server.cli import run

PYTHON = Path(".venv-ray/bin/python")
IDLE_SECONDS = 5.0


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and write the figures."""
    options = _parser().parse_args(arguments)
    bundle = Bundle.load(options.model)
    settings = {"rounds": options.rounds, "seconds": options.seconds, "rate": options.rate}
    document: dict[str, Any] = {"environment": machine.environment(settings)}
    server_core, load_core = two_cores()
    with ExitStack() as stack:
        subjects = {
            "hotrow": stack.enter_context(hotrow(bundle.directory)),
            "ray_serve": stack.enter_context(ray_serve(bundle.directory, server_core)),
        }
        idle = {name: _idle_share(subject) for name, subject in subjects.items()}
        loads = _rounds(subjects, bundle, options.rounds, options.seconds, load_core)
        requests = http_requests(golden_bodies(bundle), "127.0.0.1")
        with keep_to(load_core):
            for name, subject in subjects.items():
                done = open_loop(subject.url, requests, options.rate, options.seconds)
                document[name] = _figures(loads[name], idle[name]) | {"at_rate": done._asdict()}
    _print(document, options.rate)
    if options.json:
        options.json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    return 0


@contextmanager
def ray_serve(model: Path, core: int | None) -> Iterator[Subject]:
    """One replica behind Ray Serve on a cluster of its own; raises `LoadTestError` without Ray."""
    if not PYTHON.exists():
        raise LoadTestError(f"expected Ray in {PYTHON.parents[1]}, got none: run `make ray`")
    port, logs = free_port(), Path(tempfile.mkdtemp(prefix="hotrow-ray-"))
    served = ["--model", str(model), "--port", str(port), "--address", "local"]
    try:
        with running(
            "ray_serve",
            [str(PYTHON), "-W", "ignore", "-m", "deploy.ray_serve", *served],
            f"http://127.0.0.1:{port}",
            "/readyz",
            core=core,
            environment={"HOTROW_LOG_DIR": str(logs)},
            start_seconds=180.0,
        ) as subject:
            yield subject
    finally:
        shutil.rmtree(logs, ignore_errors=True)


def _rounds(
    subjects: dict[str, Subject], bundle: Bundle, rounds: int, seconds: int, core: int | None
) -> dict[str, list[Load]]:
    loads: dict[str, list[Load]] = {name: [] for name in subjects}
    with tempfile.TemporaryDirectory() as folder:
        script = wrk_script(golden_bodies(bundle), Path(folder, "post.lua"))
        for _ in range(rounds + 1):
            for name, subject in subjects.items():
                loads[name].append(drive(subject, "/predict", seconds, script, core))
    for name, done in loads.items():
        del done[0]  # warm-up
        if failed := sum(load.failed for load in done):
            raise LoadTestError(f"expected answers with status 200 from {name}, got {failed} others")
    return loads


def _idle_share(subject: Subject) -> float:
    """Of a core, while nothing is asked."""
    before = subject.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    return (subject.cpu_seconds() - before) / IDLE_SECONDS


def _figures(loads: Sequence[Load], idle_share: float) -> dict[str, Any]:
    cpu = [(load.cpu_seconds - idle_share * load.seconds) / load.requests * 1e6 for load in loads]
    return {
        "cpu_us_per_request": float(np.median(cpu)),
        "cpu_us_rounds": cpu,
        "requests_per_second": median(loads, "requests_per_second"),
        "idle_share_of_a_core": idle_share,
    }


def _print(document: dict[str, Any], rate: float) -> None:
    ours, ray = document["hotrow"], document["ray_serve"]
    console.print(f"{'':32} {'server':>10} {'Ray Serve':>10} {'ratio':>8}")
    for label, of_ours, of_ray in (
        ("CPU us a request", ours["cpu_us_per_request"], ray["cpu_us_per_request"]),
        *((f"{p} at {rate:,.0f} requests/s", _at(ours, p), _at(ray, p)) for p in ("p50_us", "p99_us")),
        ("requests/s, closed loop of 32", ours["requests_per_second"], ray["requests_per_second"]),
    ):
        console.print(f"{label:32} {of_ours:10,.1f} {of_ray:10,.1f} {of_ray / of_ours:8.2f}")
    console.print(
        f"while nothing is asked, of a core: {ours['idle_share_of_a_core']:.1%} and "
        f"{ray['idle_share_of_a_core']:.1%}"
    )
    limited = [name for name in ("hotrow", "ray_serve") if document[name]["at_rate"]["limited"]]
    if limited:
        console.print(f"The generator was the limit for {', '.join(limited)}: no latencies of the server.")
    console.print(machine.sentence(document["environment"]), soft_wrap=True, style="dim")


def _at(figures: dict[str, Any], percentile: str) -> float:
    return float(figures["at_rate"]["corrected"][percentile])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench_ray", description=__doc__)
    add_model(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds in turn [5]")
    parser.add_argument("--seconds", type=int, default=3, metavar="S", help="of each server in each [3]")
    parser.add_argument("--rate", type=float, default=100.0, metavar="N", help="of the latencies [100]")
    return parser


if __name__ == "__main__":
    run(main)
