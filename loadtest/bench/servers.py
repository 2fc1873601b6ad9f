"""`python -m loadtest bench`: what a response costs, beside other servers, in one run.

All servers are up at once, each alone at work: rounds in turn, so that what the
machine does meanwhile meets all of them. CPU time per request is the figure to
watch; requests a second depend on the load generator and on the neighbours.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from loadtest.bench.bare_run import bare_run_us
from loadtest.bench.nginx import constant_response, has_nginx
from loadtest.bench.peers import command as peer_command
from loadtest.bench.peers import hello_request, is_hello
from loadtest.bench.report import print_report
from loadtest.harness.bodies import golden_bodies, http_requests, wrk_script
from loadtest.harness.closed_loop import CONNECTIONS, LoadRun, drive, in_turn
from loadtest.harness.sampler import machine_cpu_seconds
from loadtest.harness.subject import LoadTestError, Subject, free_port, running
from loadtest.harness.target import add_model, hotrow, keep_to
from loadtest.latency.open_loop import LatencyResult, open_loop
from loadtest.report import machine
from loadtest.report.terminal import console
from server.cli import output_file
from server.model.bundle import Bundle

HOTROW = "hotrow"
NGINX = "nginx"
DEFAULT = (HOTROW, "asgi_hello", "starlette_hello", "fastapi_lightgbm")
PEERS = (HOTROW, "fastapi_onnx", "robyn", "blacksheep")
#: Of the peak that wrk reached, the rate of the open loop.
OPEN_LOOP_SHARE = 0.5
WARM_UP_SECONDS = 1


class Bench(NamedTuple):
    """The rounds of each server, what other work took of the machine meanwhile, and the open-loop runs."""

    rounds: dict[str, list[LoadRun]]
    others_cpu_share: float
    open_loop: dict[str, LatencyResult]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write the figures there too")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds in turn [5]")
    parser.add_argument(
        "--seconds", type=int, default=3, metavar="S", help="of each server in each round [3]"
    )
    parser.add_argument(
        "--open-seconds", type=int, default=10, metavar="S", help="of each fixed-rate run [10]"
    )
    parser.add_argument(
        "--peers", action="store_true", help="other model servers instead: " + ", ".join(PEERS[1:])
    )


def main(options: argparse.Namespace) -> int:
    """Measure, print, and write the figures."""
    names = PEERS if options.peers else (*DEFAULT, *((NGINX,) if has_nginx() else ()))
    bundle = Bundle.load(options.model)
    console.print(f"{options.rounds} rounds of {options.seconds} s for each of {', '.join(names)} ...")
    environment = machine.environment({"rounds": options.rounds, "seconds": options.seconds})
    measured = bench(
        bundle, names, options.rounds, options.seconds, 0 if options.peers else options.open_seconds
    )
    document = report(measured, environment)
    if NGINX in names:
        document["bare_run_us"] = bare_run_us(options.model)
    print_report(document)
    if options.json:
        options.json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    return 0


def bench(bundle: Bundle, names: Sequence[str], rounds: int, seconds: int, open_seconds: int) -> Bench:
    """Run all servers in turn, then ours and the bare protocol at half of our peak."""
    server_core, load_core = two_cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotrow-bench-")))
        script = wrk_script(golden_bodies(bundle), folder / "post.lua")
        subjects = {name: stack.enter_context(started(name, bundle, server_core)) for name in names}
        load_in_turn(subjects, script, 1, WARM_UP_SECONDS, load_core)
        before = _clocks()
        done = load_in_turn(subjects, script, rounds, seconds, load_core)
        others = _others_share(before, _clocks(), done)
        if not open_seconds:
            return Bench(done, others, {})
        peak = median(done[HOTROW], "requests_per_second")
        posts = http_requests(golden_bodies(bundle), "127.0.0.1")
        runs = {HOTROW: posts, "asgi_hello": [hello_request()]}
        with keep_to(load_core):
            return Bench(
                done,
                others,
                {
                    name: open_loop(subjects[name].url, requests, peak * OPEN_LOOP_SHARE, open_seconds)
                    for name, requests in runs.items()
                },
            )


def load_in_turn(
    subjects: Mapping[str, Subject], script: Path, rounds: int, seconds: int, core: int | None
) -> dict[str, list[LoadRun]]:
    """The rounds of each server, so many seconds each, the load on one core."""
    done: dict[str, list[LoadRun]] = {name: [] for name in subjects}
    for name in in_turn(list(subjects), rounds):
        done[name].append(answered(subjects[name], script, seconds, core))
    return done


def answered(
    subject: Subject, script: Path, seconds: int, core: int | None, connections: int = CONNECTIONS
) -> LoadRun:
    """Load one of the servers, a hello world without rows; raises `LoadTestError` for any answer but 200."""
    path, used = ("/", None) if is_hello(subject.name) else ("/predict", script)
    done = drive(subject, path, seconds, used, core, connections)
    if done.failed:
        raise LoadTestError(
            f"expected responses with status 200 from {subject.name}, got {done.failed} others"
        )
    return done


class _Clocks(NamedTuple):
    wall_seconds: float
    machine_seconds: float
    load_seconds: float


def _clocks() -> _Clocks:
    wrk = resource.getrusage(resource.RUSAGE_CHILDREN)
    return _Clocks(time.monotonic(), machine_cpu_seconds(), wrk.ru_utime + wrk.ru_stime)


def _others_share(before: _Clocks, after: _Clocks, done: Mapping[str, Sequence[LoadRun]]) -> float:
    """The part of the machine that neither the servers nor wrk used."""
    passed = _Clocks(*(b - a for a, b in zip(before, after, strict=True)))
    servers = sum(load.cpu_seconds for loads in done.values() for load in loads)
    others = passed.machine_seconds - passed.load_seconds - servers
    return max(0.0, others) / passed.wall_seconds / (os.cpu_count() or 1)


def two_cores() -> tuple[int | None, int | None]:
    """A processor for the server and one for the load; nothing is pinned where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


@contextmanager
def started(name: str, bundle: Bundle, core: int | None) -> Iterator[Subject]:
    """One of the servers, with metrics and log on where it has them."""
    if name == HOTROW:
        with hotrow(bundle.directory) as subject:
            yield subject
        return
    if name == NGINX:
        with tempfile.TemporaryDirectory() as folder, constant_response(Path(folder), core) as subject:
            yield subject
        return
    port = free_port()
    with running(
        name, peer_command(name, port, bundle.directory), f"http://127.0.0.1:{port}", core=core
    ) as subject:
        yield subject


def median(loads: Sequence[LoadRun], figure: str) -> float:
    """The median of a figure over rounds."""
    return float(np.median([getattr(load, figure) for load in loads]))


def report(measured: Bench, environment: Mapping[str, Any]) -> dict[str, Any]:
    """The document of `--json`: the keys of the specification, and `details` with every round."""
    cpu = {name: median(loads, "cpu_us_per_request") for name, loads in measured.rounds.items()}
    document: dict[str, Any] = {"cpu_us_per_request": cpu}
    if measured.open_loop:
        ours = measured.open_loop[HOTROW]
        kept = ("p50_us", "p99_us", "p999_us")
        document["open_loop"] = {"rate": ours.rate, **{key: ours.corrected[key] for key in kept}}
    document["environment"] = dict(environment)
    document["details"] = {
        "rounds": {
            name: [
                {
                    "cpu_us_per_request": load.cpu_us_per_request,
                    "requests_per_second": load.requests_per_second,
                }
                for load in loads
            ]
            for name, loads in measured.rounds.items()
        },
        "others_cpu_share": measured.others_cpu_share,
        "open_loop": {name: result._asdict() for name, result in measured.open_loop.items()},
    }
    return document
