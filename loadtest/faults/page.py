"""F24: the page, a process of its own beside the API, is flooded, hung and killed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene, needs_tool
from loadtest.harness.closed_loop import wrk
from loadtest.harness.recording_client import Load
from loadtest.harness.request_records import RequestRecords, reconcile
from loadtest.harness.subject import Subject, free_port, python, running

P99_RATIO = 1.05


def page(scene: Scene, outcome: FaultOutcome) -> None:
    """What happens to the page is nothing to the API's clients."""
    needs_tool("wrk")
    port, folder = free_port(), scene.new_folder()
    seconds = scene.times(8, 2)
    with (
        scene.serve() as served,
        running(
            "the page",
            python("-m", "ui", "--model", str(scene.bundle.directory), "--port", str(port)),
            f"http://127.0.0.1:{port}",
            "/readyz",
            environment={"HOTROW_LOG_DIR": str(folder / "logs")},
            log=folder / "page.log",
        ) as beside,
    ):
        p99_ms = {}
        with Load(served.url, scene.rows, rate=300.0) as clients:
            for name, harm in _harms(beside, seconds).items():
                began = time.monotonic()
                harm()
                time.sleep(max(0.0, began + seconds - time.monotonic()))
                p99_ms[name] = _p99_ms(clients.records, began)
    outcome.add(clients.records, reconcile(clients.records, served.logs))
    outcome.expect_none("requests failed", outcome.failed)
    outcome.expect_none("responses lost", outcome.lost)
    outcome.expect_none("responses or lines wrong", outcome.wrong)
    outcome.figures["p99"] = ", ".join(f"{name} {value:.2f} ms" for name, value in p99_ms.items())
    for name in ("hung", "killed"):
        ratio = p99_ms[name] / p99_ms["left alone"]
        outcome.expect_at_most(f"p99 with the page {name} over p99 beside it", ratio, P99_RATIO, timed=True)


def _harms(beside: Subject, seconds: int) -> dict[str, Callable[[], object]]:
    flood = wrk(beside.url + "/", seconds, 64)
    return {
        "left alone": lambda: None,
        "flooded": lambda: subprocess.run(flood, capture_output=True, check=True),
        "hung": lambda: os.kill(beside.pid, signal.SIGSTOP),
        "killed": lambda: os.kill(beside.pid, signal.SIGKILL),
    }


def _p99_ms(records: RequestRecords, since: float) -> float:
    return records.percentiles_ms(since)["p99_ms"]
