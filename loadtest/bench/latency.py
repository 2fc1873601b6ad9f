"""`python -m loadtest bench latency`: how long a response takes, with the log, without, and busy polling.

All servers are up at once and loaded in turn, closed loops of wrk first, then, if
asked for, fixed rates. All of a server is on one processor and the load on the
other, but for busy polling: there what writes the log is with the load, since the
processor of a worker that never sleeps is taken.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from loadtest.bench.nginx import has_nginx
from loadtest.bench.peers import hello_request
from loadtest.bench.servers import answered
from loadtest.bench.servers import started as compared
from loadtest.harness.bodies import golden_bodies, http_requests, wrk_script
from loadtest.harness.closed_loop import in_turn
from loadtest.harness.subject import Subject, observer_of
from loadtest.harness.target import add_model, keep_to, load_core, server_core, started
from loadtest.latency.open_loop import open_loop
from loadtest.report.terminal import print_machine, print_table, print_target
from server.model.bundle import Bundle

LOGGED, SILENT, BUSY, BUSY_SILENT = "log on", "log off", "busy polling, log on", "busy polling, log off"
ASGI, NGINX = "raw ASGI hello world", "nginx, a constant response"
_OURS = {
    LOGGED: {},
    SILENT: {"log_mode": "off"},
    BUSY: {"busy_poll": "on"},
    BUSY_SILENT: {"busy_poll": "on", "log_mode": "off"},
}


class Latency(NamedTuple):
    """Two percentiles of one round, in us."""

    p50: float
    p99: float


class Bound(NamedTuple):
    """What is promised of one figure at one connection: a server's over another's."""

    figure: str
    server: str
    other: str
    at_most: float


BOUNDS = (
    Bound("p99", LOGGED, SILENT, 1.1),
    Bound("p99", LOGGED, ASGI, 1.0),
    Bound("p50", BUSY, LOGGED, 0.65),
    Bound("p50", BUSY, NGINX, 1.0),
    Bound("p99", BUSY, NGINX, 1.0),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--connections", type=_numbers, default=[1, 2, 4, 8, 32], metavar="N,…")
    parser.add_argument("--rates", type=_numbers, default=[], metavar="R,…", help="requests a second [none]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="in turn [3]")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="of each [2]")


def main(options: argparse.Namespace) -> int:
    """Measure and print."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotrow-latency-")))
        bundle = Bundle.load(options.model)
        subjects = {name: stack.enter_context(server) for name, server in _servers(bundle, folder).items()}
        closed = {
            connections: _closed(subjects, bundle, folder, connections, options.rounds, options.seconds)
            for connections in options.connections
        }
        fixed = {rate: _fixed(subjects, bundle, rate, options.seconds) for rate in options.rates}
    _print(f"p50 / p99 in us by connections, closed loop, medians of {options.rounds} rounds", closed)
    if fixed:
        _print("p50 / p99 in us by requests a second, from the intended time", fixed)
    if 1 in closed:
        _print_bounds(closed[1])
    print_machine()
    return 0


def _servers(bundle: Bundle, folder: Path) -> dict[str, AbstractContextManager[Subject]]:
    servers: dict[str, AbstractContextManager[Subject]] = {
        name: _ours(bundle, folder / name, settings) for name, settings in _OURS.items()
    }
    servers[ASGI] = compared("asgi_hello", bundle, server_core(1))
    if has_nginx():
        servers[NGINX] = compared("nginx", bundle, server_core(1))
    return servers


@contextmanager
def _ours(bundle: Bundle, folder: Path, settings: Mapping[str, str]) -> Iterator[Subject]:
    folder.mkdir()
    is_busy = "busy_poll" in settings
    with started(
        bundle.directory, folder, settings=settings, core=None if is_busy else server_core(1)
    ) as subject:
        if is_busy:
            _pin(psutil.Process(subject.pid), server_core(1))
            if "log_mode" not in settings:
                _pin(observer_of(subject.pid), load_core(1))
        yield subject


def _pin(process: psutil.Process, core: int | None) -> None:
    if core is not None:
        for thread in process.threads():
            psutil.Process(thread.id).cpu_affinity([core])


def _closed(
    subjects: Mapping[str, Subject], bundle: Bundle, folder: Path, connections: int, rounds: int, seconds: int
) -> dict[str, Latency]:
    script = wrk_script(golden_bodies(bundle), folder / "post.lua")
    found: dict[str, list[Latency]] = {name: [] for name in subjects}
    for name in in_turn(list(subjects), rounds):
        with _awake(subjects, name):
            load = answered(subjects[name], script, seconds, load_core(1), connections)
        found[name].append(Latency(load.latencies[50], load.latencies[99]))
    return {name: Latency(*np.median(rounds, axis=0)) for name, rounds in found.items()}


@contextmanager
def _awake(subjects: Mapping[str, Subject], name: str) -> Iterator[None]:
    """Stop the others that never sleep: they would take the processor."""
    stopped = [psutil.Process(subjects[other].pid) for other in (BUSY, BUSY_SILENT) if other != name]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            process.resume()


def _fixed(subjects: Mapping[str, Subject], bundle: Bundle, rate: int, seconds: int) -> dict[str, Latency]:
    posts, gets = http_requests(golden_bodies(bundle), "127.0.0.1"), [hello_request()]
    found = {}
    for name, subject in subjects.items():
        with _awake(subjects, name), keep_to(load_core(1)):
            result = open_loop(subject.url, gets if name == ASGI else posts, rate, seconds)
        found[name] = Latency(result.corrected["p50_us"], result.corrected["p99_us"])
    return found


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _print(title: str, latencies: Mapping[int, Mapping[str, Latency]]) -> None:
    rows = (
        (name, *(f"{found[name].p50:,.0f} / {found[name].p99:,.0f}" for found in latencies.values()))
        for name in next(iter(latencies.values()))
    )
    print_table(title, ("server", *(f"{number:,}" for number in latencies)), rows)


def _print_bounds(latencies: Mapping[str, Latency]) -> None:
    for bound in BOUNDS:
        if bound.other in latencies:
            ours, theirs = (getattr(latencies[name], bound.figure) for name in (bound.server, bound.other))
            words = f"{bound.figure} at 1 connection, {bound.server} over {bound.other}"
            print_target(words, ours / theirs, bound.at_most, digits=2)
