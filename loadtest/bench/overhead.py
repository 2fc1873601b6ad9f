"""`python -m loadtest overhead`: what metrics and the log add to a response.

The server as it ships against one that counts and logs nothing (`silent.py`), in
turn and in one run: rounds that lie beside each other meet the same machine, so
the median of their differences holds still where either side alone does not.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import uvloop

from loadtest.bench.servers import load_in_turn
from loadtest.bench.uncounted import uncounted
from loadtest.harness.bodies import golden_bodies, wrk_script
from loadtest.harness.closed_loop import in_turn
from loadtest.harness.in_process import Worker, worker
from loadtest.harness.subject import python
from loadtest.harness.target import add_model, hotrow, keep_to, load_core, server_core
from loadtest.report.noise import MedianInterval, median_interval
from loadtest.report.terminal import print_machine, print_table, print_target
from server.model.bundle import Bundle

#: What both may add together, worker and observer, and what of it the worker.
AT_MOST_US, AT_MOST_IN_WORKER_US = 2.5, 1.0
#: Calls of a round in process: a tenth of a second.
CALLS = 5000
#: Then the observer gets a turn.
PAUSE_SECONDS = 0.03
WARM_UP_SECONDS = 4
OFF, ON = "off", "on"


class Rounds(NamedTuple):
    """CPU of a response in us, all threads together, in rounds beside each other; what they may add."""

    name: str
    off: list[float]
    on: list[float]
    at_most_us: float

    @property
    def added(self) -> MedianInterval:
        """Of the differences."""
        return median_interval([on - off for on, off in zip(self.on, self.off, strict=True)])


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="of each side, in turn [20]")
    parser.add_argument("--in-process", action="store_true", help="no server: bytes in, bytes out")


def main(options: argparse.Namespace) -> int:
    """Measure and print; 1 if they add more than they may for certain."""
    with keep_to(server_core(1)), tempfile.TemporaryDirectory() as folder:
        found = [uvloop.run(in_process(options.model, Path(folder), options.rounds))]
    if not options.in_process:
        found += of_servers(Bundle.load(options.model), options.rounds)
    print_rounds(found)
    return 1 if any(rounds.added.low > rounds.at_most_us for rounds in found) else 0


async def in_process(model: Path, folder: Path, rounds: int) -> Rounds:
    """Two workers in this process, one connection each."""
    async with AsyncExitStack() as stack:
        with uncounted():
            silent = await stack.enter_async_context(worker(model, folder / "silent", log_mode="off"))
        full = await stack.enter_async_context(worker(model, folder / "full"))
        ended = time.monotonic() + WARM_UP_SECONDS
        while time.monotonic() < ended:
            for side in (silent, full):
                await _round(side)
        sides, found = {OFF: silent, ON: full}, {OFF: list[float](), ON: list[float]()}
        for name in in_turn(list(sides), rounds):
            found[name].append(await _round(sides[name]))
    return Rounds("in process, without the observer", found[OFF], found[ON], AT_MOST_IN_WORKER_US)


async def _round(side: Worker) -> float:
    requests = list(itertools.islice(itertools.cycle(side.requests), CALLS))
    began = time.process_time_ns()
    for request in requests:
        side.protocol.data_received(request)
    await asyncio.sleep(PAUSE_SECONDS)
    return (time.process_time_ns() - began) / CALLS / 1000


def of_servers(bundle: Bundle, rounds: int) -> list[Rounds]:
    """Two servers under full load, a second each in turn: the worker alone, and all processes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotrow-overhead-")))
        script = wrk_script(golden_bodies(bundle), folder / "post.lua")
        command = python("-m", "loadtest.bench.silent")
        sides = {
            OFF: stack.enter_context(hotrow(bundle.directory, log_mode="off", command=command)),
            ON: stack.enter_context(hotrow(bundle.directory)),
        }
        load_in_turn(sides, script, 1, WARM_UP_SECONDS, load_core(1))
        loads = load_in_turn(sides, script, rounds, 1, load_core(1))
    off, on = loads[OFF], loads[ON]
    return [
        Rounds(
            name, [getattr(load, figure) for load in off], [getattr(load, figure) for load in on], at_most_us
        )
        for name, figure, at_most_us in (
            ("worker under full load", "worker_us_per_request", AT_MOST_IN_WORKER_US),
            ("worker and observer under full load", "cpu_us_per_request", AT_MOST_US),
        )
    ]


def print_rounds(found: Sequence[Rounds]) -> None:
    """The table, and whether what was promised is kept."""
    rows = []
    for rounds in found:
        added, low, high = rounds.added
        sides = (f"{np.median(rounds.off):.2f}", f"{np.median(rounds.on):.2f}")
        rows.append((rounds.name, *sides, f"{added:+.2f}", f"{low:+.2f} to {high:+.2f}"))
    headings = ("", "both off", "both on", "added", "95 % interval")
    print_table("CPU of a response, us: medians, and what metrics and log add", headings, rows)
    for rounds in found:
        print_target(f"Added, {rounds.name}", rounds.added.median, rounds.at_most_us, digits=2, unit=" us")
    print_machine()
