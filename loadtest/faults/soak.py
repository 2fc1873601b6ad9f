"""`python -m loadtest soak`: load for a long time, with kills, reloads, leavers and nonsense in between.

Two servers run side by side. One worker alone exchanges its models within the
process, so what its memory and descriptors do over all of the time is seen; the
workers of the other are killed and replaced, and its log is strict: nothing may
be lost.
"""

import argparse
import functools
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from loadtest.faults import inputs
from loadtest.faults.injection import Fault, add_results, run
from loadtest.faults.models import another
from loadtest.faults.namespaces import own_mounts
from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene, Served
from loadtest.faults.workers import connections_of
from loadtest.harness.recording_client import Load, Manners
from loadtest.harness.reference_rows import scored
from loadtest.harness.target import add_model
from loadtest.harness.watch import Watch, watching
from server.model.bundle import Bundle
from server.publish.publication import publish
from server.publish.running_server import RunningServer

RATE = 150.0
SLOPE_MB = 1.0
SLOPE_SECONDS = 600.0
#: Buffers fill and pools grow in the first part of the time.
WARM_UP_SHARE = 0.2
BETWEEN_SECONDS = 5.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--minutes", type=float, default=30.0, metavar="M", help="how long [30]")
    add_results(parser)


def main(options: argparse.Namespace) -> int:
    """Soak; 1 if something did not hold."""
    own_mounts()
    fault = Fault(
        "F25",
        "a long time of everything",
        f"{options.minutes:g} minutes of load with kills, reloads, leavers and nonsense.",
        functools.partial(soak, options.minutes * 60),
    )
    return run([fault], Bundle.load(options.model), options.results)


def soak(seconds: float, scene: Scene, outcome: FaultOutcome) -> None:
    """F25."""
    other = another(scene)
    rows = scored([scene.bundle, other], [row.fields for row in scene.rows])
    folders = [_folder(scene), _folder(scene)]
    with (
        scene.serve(model=folders[0]) as alone,
        scene.serve(workers=2, model=folders[1], log_mode="strict") as several,
    ):
        with (
            Load(alone.url, rows, clients=16, rate=RATE) as clients,
            Load(several.url, rows, clients=16, rate=RATE) as others,
            watching(alone.pid, alone=True, every_seconds=1.0) as watch,
            watching(several.pid, alone=True, every_seconds=1.0) as parent,
        ):
            kills = _Kills(several)
            harms: list[Callable[[], object]] = [
                lambda: _exchange(alone, folders[0], scene.bundle, other),
                kills.one,
                lambda: _leave(alone, scene),
                lambda: _nonsense(alone, rows[0].request),
                lambda: _exchange(several, folders[1], scene.bundle, other),
            ]
            harmed, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                harms[harmed % len(harms)]()
                harmed += 1
                time.sleep(min(BETWEEN_SECONDS, max(0.0, end - time.monotonic())))
        for served in (alone, several):
            outcome.expect("exit code 0", served.end() == 0)
    for records, served in ((clients.records, alone), (others.records, several)):
        outcome.add_logged(records, served.logs)
    outcome.figures["harms"] = f"{harmed}, of which {kills.count} kills"
    outcome.expect_none("requests failed of the server that is not killed", clients.records.failed)
    outcome.expect_at_most("requests failed by kills", len(others.records.failures), kills.connections)
    outcome.expect_exact_log()
    for name, looks in (("the worker alone", watch), ("the parent of the workers", parent)):
        _judge(outcome, name, looks)


def _judge(outcome: FaultOutcome, name: str, watch: Watch) -> None:
    slope_mb = watch.slope_mb(SLOPE_SECONDS, WARM_UP_SHARE)
    warm = watch.looks[int(len(watch.looks) * WARM_UP_SHARE) :]
    ends = warm[: len(warm) // 4], warm[-(len(warm) // 4) :]
    files = [min(look.files for look in part) for part in ends]
    outcome.figures[f"memory of {name}"] = f"{warm[0].rss_mb:.1f} MB to {warm[-1].rss_mb:.1f} MB"
    outcome.expect_at_most(f"growth of {name} in 10 minutes", slope_mb, SLOPE_MB, "MB", timed=True)
    outcome.expect_at_most(f"descriptors of {name} more at the end", files[1] - files[0], 2)


def _folder(scene: Scene) -> Path:
    folder = scene.new_folder() / "served"
    shutil.copytree(scene.bundle.directory, folder)
    return folder


def _exchange(served: Served, folder: Path, first: Bundle, second: Bundle) -> None:
    """Serve the model that is not served now."""
    now = Bundle.load(folder).label
    publish((second if now == first.label else first).directory, folder)
    RunningServer(served.pid, served.url).reload()


class _Kills:
    """Workers killed, and how many connections they had."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._random = random.Random(0)
        self.count = self.connections = 0

    def one(self) -> None:
        """Kill one worker."""
        victim = self._random.choice(self._served.workers())
        self.count += 1
        self.connections += connections_of(victim)
        os.kill(victim, signal.SIGKILL)


def _leave(served: Served, scene: Scene) -> None:
    with Load(served.url, scene.rows, clients=16, manners=Manners(leave=1.0)):
        time.sleep(1.0)


def _nonsense(served: Served, good: bytes) -> None:
    strings = list(inputs.byte_strings(good, 300, seed=time.monotonic_ns() % 1000))
    inputs.throw_bytes(served.url, strings)
