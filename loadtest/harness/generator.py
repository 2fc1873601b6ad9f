"""Locust in processes of its own, headless, ended so that every response is counted."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson

from loadtest.harness.subject import LoadTestError, python, stop

LOCUSTFILE = Path(__file__).parents[1] / "locustfile.py"
SECONDS = "seconds"
START_SECONDS = 30.0
#: For requests under way and for the reports.
STOP_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 10


class Plan(NamedTuple):
    """What Locust is asked for."""

    url: str
    path: str
    model_path: str
    users: int
    shape: str
    seconds: int
    processes: int
    bad_share: float
    bundle: Path | None


@contextmanager
def locust(plan: Plan, folder: Path, core: int | None = None) -> Iterator[int]:
    """Run Locust, give its process id once all users have started, and end it.

    Afterwards `folder` holds `locust.html`, `locust.json` and `locust_*.csv`, and
    its subfolder `seconds` the figures of each second. Raises `LoadTestError` if it
    does not start.
    """
    (folder / SECONDS).mkdir()
    with open(folder / "locust.log", "wb") as output:
        process = subprocess.Popen(
            [*(["taskset", "-c", str(core)] if core is not None else []), *_command(plan, folder)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(plan, folder),
        )
    try:
        _wait_until_started(process, folder)
        yield process.pid
        # Users finish their request, then Locust writes its reports.
        process.send_signal(signal.SIGUSR1)
        process.wait(STOP_SECONDS)
    finally:
        stop(process)


def requests_by_status(folder: Path) -> dict[str, int]:
    """Locust's counts of good and bad requests and of failures."""
    entries = orjson.loads((folder / "locust.json").read_bytes())
    counts = {entry["name"]: entry["num_requests"] for entry in entries}
    return {
        "good": counts.get("/predict", 0),
        "bad": counts.get("/predict (bad request)", 0),
        "failed": sum(entry["num_failures"] for entry in entries),
    }


def _command(plan: Plan, folder: Path) -> list[str]:
    several = ["--processes", str(plan.processes)] if plan.processes > 1 else []
    return python(
        "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--host", plan.url,
        "--users", str(plan.users), "--spawn-rate", str(plan.users),
        "--html", str(folder / "locust.html"), "--csv", str(folder / "locust"),
        "--json-file", str(folder / "locust"), "--stop-timeout", str(STOP_TIMEOUT_SECONDS),
        "--only-summary", "--loglevel", "WARNING", *several,
    )  # fmt: skip


def _environment(plan: Plan, folder: Path) -> Mapping[str, str]:
    bundle = {"LOADTEST_BUNDLE": str(plan.bundle)} if plan.bundle else {}
    return {
        **os.environ,
        **bundle,
        "LOADTEST_PATH": plan.path,
        "LOADTEST_MODEL_PATH": plan.model_path,
        "LOADTEST_SHAPE": plan.shape,
        "LOADTEST_SECONDS": str(plan.seconds),
        "LOADTEST_BAD_SHARE": str(plan.bad_share),
        "LOADTEST_FOLDER": str(folder / SECONDS),
    }


def _wait_until_started(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if (folder / SECONDS / "started").exists():
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    last = (folder / "locust.log").read_text(errors="replace").strip().splitlines()[-1:] or ["no reason"]
    raise LoadTestError(f"expected Locust to start, got: {last[0]}")
