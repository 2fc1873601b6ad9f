"""F14: the wall clock is set, by hours and years, while the server runs."""

import socket
import time
from pathlib import Path

import orjson

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import FaultSkipped, Scene
from loadtest.harness.http_bytes import address
from loadtest.harness.recording_client import Load

#: What the clock is set to, one after the other.
JUMPS = ("+0", "+3600", "-3600", "+86400", "-86400", "1970-01-02 00:00:00", "+0", "2038-01-20 00:00:00", "+0")
SMALL_FILE_BYTES = str(100_000)


def jumps(scene: Scene, outcome: FaultOutcome) -> None:
    """By libfaketime: hours, days, to 1970 and to 2038, with small log files."""
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
    if library is None:
        raise FaultSkipped("faketime is not installed")
    clock = scene.new_folder() / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    cut = 0
    # The load is low: the library opens its file at every look at the clock.
    # One worker: the sleep of gunicorn's parent fails under this libfaketime (EINVAL).
    with (
        scene.serve(environment=environment, log_file_bytes=SMALL_FILE_BYTES) as served,
        Load(served.url, scene.rows, clients=8, rate=100.0) as clients,
    ):
        for jump in JUMPS:
            with socket.create_connection(address(served.url), 10.0) as slow:
                request = scene.rows[0].request
                slow.sendall(request[:-5])
                _set(clock, jump)
                time.sleep(scene.times(3, 1))
                slow.sendall(request[-5:])
                cut += not slow.recv(65_536).startswith(b"HTTP/1.1 200")
    outcome.add_logged(clients.records, served.logs)
    lines = [
        orjson.loads(line) for file in served.logs.glob("*.jsonl") for line in file.read_bytes().splitlines()
    ]
    days = {line["ts"][:10] for line in lines}
    outcome.figures["days in the log"] = ", ".join(sorted(days))
    outcome.figures["files of the log"] = str(len(list(served.logs.glob("*.jsonl"))))
    outcome.expect("lines of at least 3 days, so the clock was set", len(days) >= 3, len(days))
    outcome.expect_none("requests failed", outcome.failed)
    outcome.expect_none("requests under way cut off", cut)
    outcome.expect_exact_log()
    outcome.expect_none("negative latencies", sum(line["duration_us"] < 0 for line in lines))


def _set(clock: Path, jump: str) -> None:
    """Replace the file at once: half a time is no time."""
    new = clock.with_suffix(".new")
    new.write_text(jump)
    new.replace(clock)
