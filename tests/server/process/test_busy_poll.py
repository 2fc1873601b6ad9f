"""A loop that never sleeps: it keeps its timers, takes its signals, drains, and is refused where it harms."""

import os
import signal
import socket
from pathlib import Path

import orjson
import pytest

from loadtest.harness.instances import wait_until
from loadtest.harness.recording_client import Load
from loadtest.harness.reference_rows import ReferenceRow
from loadtest.harness.request_records import RESET, reconcile
from loadtest.harness.subject import cpu_seconds
from server.errors import SettingsError
from server.process.busy_poll import check_busy_poll, processors
from server.settings import Settings
from tests.server.wire.test_wire import read_until_closed
from tests.support.bundles import ROW
from tests.support.servers import address, exchange, post, run, serving


@pytest.mark.whole
@pytest.mark.parametrize("workers", ["1", "2"])
def test_timers_signals_and_draining_go_on(
    three: Path, three_rows: list[ReferenceRow], tmp_path: Path, workers: str
) -> None:
    if int(workers) > processors():
        pytest.skip("it is refused with more workers than processors")
    with (
        serving(
            three, tmp_path, "--workers", workers, busy_poll="on", request_timeout_seconds="0.5"
        ) as subject,
        socket.create_connection(address(subject.url), 60) as slow,
        Load(subject.url, three_rows, pause=0.01) as clients,
    ):
        slow.sendall(post("/predict", orjson.dumps(ROW))[:-1])
        assert read_until_closed(slow).startswith(b"HTTP/1.1 408 ")
        clients.wait_for(200)
        os.kill(subject.pid, signal.SIGHUP)
        before = len(clients.records.instances)
        wait_until(lambda: len(clients.records.instances) > before, "new models to answer", 120.0)
        subject.process.terminate()
        assert subject.process.wait(60) == 0
    # Connections that end with the server are no failures of an answer.
    assert not set(clients.records.failed) - {RESET}
    assert not reconcile(clients.records, tmp_path / "logs").faults


@pytest.mark.whole
def test_it_never_sleeps_and_is_off_unless_asked_for(three: Path, tmp_path: Path) -> None:
    used: dict[str, float] = {}
    for setting in ("off", "on"):
        folder = tmp_path / setting
        folder.mkdir()
        with serving(three, folder, busy_poll=setting, log_mode="off") as subject:
            before = cpu_seconds(subject.pid)
            for _ in range(50):
                exchange(subject.url, post("/predict", orjson.dumps(ROW)))
            if setting == "on":  # nothing is asked, and it uses ever more
                wait_until(lambda: cpu_seconds(subject.pid) - before > 2 * used["off"], "a busy worker", 60.0)  # noqa: B023
            used[setting] = cpu_seconds(subject.pid) - before
    assert Settings().busy_poll is False


def test_more_workers_than_processors_are_refused_in_one_sentence(three: Path) -> None:
    done = run("-m", "server", "--model", str(three), "--workers", "256", HOTROW_BUSY_POLL="on")
    assert done.returncode == 3
    assert "expected a processor for each worker with HOTROW_BUSY_POLL=on, got 256 workers and" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("limit", "have"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("50000 100000", 0.5), ("", None)]
)
def test_processors_of_a_container_are_as_many_as_its_share(
    tmp_path: Path, limit: str, have: float | None
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(limit)
    allowed = len(os.sched_getaffinity(0))
    assert processors(file) == (allowed if have is None else min(allowed, have))
    assert processors(tmp_path / "nowhere") == allowed


def test_one_worker_needs_a_whole_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.process.busy_poll.processors", lambda: 0.5)
    check_busy_poll(Settings())
    with pytest.raises(SettingsError, match=r"got 1 workers and 0\.5 processors"):
        check_busy_poll(Settings(busy_poll=True))
