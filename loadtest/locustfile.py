"""Users of the server, for Locust: `locust -f loadtest/locustfile.py --host http://127.0.0.1:8000`.

Alone it shows Locust's web page at http://localhost:8089. `python -m loadtest
run` starts it headless and sets what follows:

LOADTEST_PATH      where rows are sent, /predict unless it is a model by its name
LOADTEST_MODEL_PATH where that model is described, /model
LOADTEST_SHAPE     steady (default), ramp, spike or soak
LOADTEST_SECONDS   how long the shape lasts; afterwards its peak is held
LOADTEST_BUNDLE    a bundle whose golden rows are sent, varied
LOADTEST_BAD_SHARE the part of requests that must be refused
LOADTEST_FOLDER    where the figures of each second are written
"""

import os
import signal
import sys
import time
import urllib.request
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import Any

# Locust puts this file's folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gevent  # type: ignore[import-untyped]  # it comes with Locust
import locust.stats
import orjson
from locust import FastHttpUser, LoadTestShape, constant, constant_throughput, events, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import CSV_STATS_INTERVAL_SEC, StatsCSV, StatsEntry

from loadtest.harness.traffic import Prepared, Traffic
from loadtest.loop.blocks import Second, bucket_ms, write_seconds
from loadtest.loop.shapes import SOAK_REQUESTS_PER_USER_SECOND, users_at

PATH = os.environ.get("LOADTEST_PATH", "/predict")
MODEL_PATH = os.environ.get("LOADTEST_MODEL_PATH", "/model")
SHAPE = os.environ.get("LOADTEST_SHAPE", "steady")
SHAPE_SECONDS = float(os.environ.get("LOADTEST_SECONDS", "60"))
FOLDER = os.environ.get("LOADTEST_FOLDER")
#: Enough that no two seconds look alike, few enough to be drawn in a moment.
DISTINCT_REQUESTS = 5000
HEADERS = {"Content-Type": "application/json"}

# Locust's own rounding makes 0 of 0.3 ms, in its counts and once more in its CSV.
locust.stats.bucket_response_time = bucket_ms  # type: ignore[assignment]


def _percentiles(writer: StatsCSV, entry: StatsEntry, use_current: bool = False) -> list[Any]:
    percentile = (
        entry.get_current_response_time_percentile
        if use_current and entry.use_response_times_cache
        else entry.get_response_time_percentile
    )
    if not entry.num_requests:
        return writer.percentiles_na
    return [percentile(part) or 0.0 for part in writer.percentiles_to_report]


StatsCSV._percentile_fields = _percentiles  # type: ignore[assignment,method-assign]

_prepared: list[Prepared] = []
_turn = count()
_seconds: dict[int, Second] = defaultdict(Second)


class Client(FastHttpUser):
    """Sends one row after the other; a bad request that is refused as it should be is no failure."""

    wait_time = constant_throughput(SOAK_REQUESTS_PER_USER_SECOND) if SHAPE == "soak" else constant(0)
    network_timeout = connection_timeout = 10.0

    @task
    def predict(self) -> None:
        """Post the next row and compare its status with the expected one."""
        body, status = _prepared[next(_turn) % len(_prepared)]
        name = "/predict" if status == 200 else "/predict (bad request)"
        client: Any = self.client  # it takes bytes too, whatever its types say
        with client.post(PATH, data=body, headers=HEADERS, name=name, catch_response=True) as response:
            if response.status_code == status:
                response.success()
            else:
                response.failure(f"expected status {status}, got {response.status_code}")


if SHAPE in ("ramp", "spike"):

    class Shape(LoadTestShape):
        """The users of LOADTEST_SHAPE; `--users` is its peak."""

        use_common_options = True

        def tick(self) -> tuple[int, float] | None:
            """How many users now, and how many may start in a second: all of them."""
            shape: Any = self  # Locust types neither
            users = shape.runner.environment.parsed_options.num_users or 1
            return users_at(SHAPE, users, SHAPE_SECONDS, shape.get_run_time()), float(users)


def _listen(environment: Environment, **_: Any) -> None:
    """End on SIGUSR1 as after `--run-time`; on SIGTERM users still ask while the report is written."""
    if FOLDER and environment.runner is not None:
        gevent.signal_handler(signal.SIGUSR1, environment.runner.quit)


def _draw(environment: Environment, **_: Any) -> None:
    """Draw the requests of this load process, before its users start."""
    if isinstance(environment.runner, MasterRunner):
        return
    with urllib.request.urlopen(f"{environment.host}{MODEL_PATH}", timeout=10) as response:
        features = orjson.loads(response.read())["features"]
    # Each load process draws requests of its own, and the same ones in each run.
    seed = environment.runner.worker_index if isinstance(environment.runner, WorkerRunner) else 0
    _prepared[:] = _traffic(features, seed).draw(DISTINCT_REQUESTS)


def _count(name: str, response_time: float, exception: BaseException | None, **_: Any) -> None:
    if name.startswith("/predict"):
        _seconds[int(time.time())].add(response_time, failed=exception is not None)


def _say_started(**_: Any) -> None:
    if FOLDER:
        (Path(FOLDER) / "started").touch()


def _finish(environment: Environment, **_: Any) -> None:
    """Write the seconds, and let the CSV files have the last requests too."""
    if FOLDER and not isinstance(environment.runner, MasterRunner):
        write_seconds(_seconds, Path(FOLDER))
    if FOLDER and not isinstance(environment.runner, WorkerRunner):
        gevent.sleep(CSV_STATS_INTERVAL_SEC + 0.1)


def _traffic(features: list[dict[str, Any]], seed: int) -> Traffic:
    bundle = os.environ.get("LOADTEST_BUNDLE")
    golden = []
    if bundle:
        lines = (Path(bundle) / "golden.jsonl").read_bytes().splitlines()
        golden = [orjson.loads(line)["row"] for line in lines]
    share = float(os.environ.get("LOADTEST_BAD_SHARE", "0.02"))
    return Traffic(features, golden, bad_share=share, seed=seed)


_events: Any = events  # Locust does not type its hooks
_events.init.add_listener(_listen)
_events.test_start.add_listener(_draw)
_events.request.add_listener(_count)
_events.spawning_complete.add_listener(_say_started)
_events.quitting.add_listener(_finish)
