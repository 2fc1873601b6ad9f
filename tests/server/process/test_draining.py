"""A stop that no client notices: no reset, nothing lost, every answer in the log."""

import os
import signal
import socket
from pathlib import Path

import pytest

from loadtest.harness.instances import wait_for_instances, wait_until
from loadtest.harness.recording_client import Load
from loadtest.harness.reference_rows import ReferenceRow
from loadtest.harness.request_records import RequestRecords, reconcile
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import Subject
from tests.support.servers import address, serving

pytestmark = pytest.mark.whole

ROUNDS = int(os.environ.get("DRAIN_ROUNDS", "1"))


def load(subject: Subject, rows: list[ReferenceRow], number: signal.Signals, workers: int) -> RequestRecords:
    """Eight clients, a signal in the middle of their work, and the records of all."""
    with Load(subject.url, rows, pause=0.01) as clients:
        before = wait_for_instances(subject.url, rows[0].request, workers)
        clients.wait_for(100)
        os.kill(subject.pid, number)
        if number is signal.SIGTERM:
            assert subject.process.wait(60) == 0
        else:
            wait_for_instances(subject.url, rows[0].request, workers, known=before)
            wait_until(lambda: not _reloading(subject), "those before them to end", 120.0)
            clients.wait_for(clients.records.ok + 100)
    return clients.records


def _reloading(subject: Subject) -> bool:
    return total(scrape(subject.url), "hotrow_model_reload_in_progress") > 0


def check(records: RequestRecords, folder: Path) -> None:
    """Every request answered, rightly, and every answer in the log once."""
    assert not records.failed
    assert records.ok == records.sent
    found = reconcile(records, folder / "logs")
    assert not found.faults


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("fast_path", ["on", "off"])
def test_sigterm_under_load_loses_nothing(
    three: Path, three_rows: list[ReferenceRow], tmp_path: Path, workers: str, fast_path: str
) -> None:
    for round_ in range(ROUNDS):
        folder = tmp_path / str(round_)
        folder.mkdir()
        with serving(three, folder, "--workers", workers, fast_path=fast_path) as subject:
            records = load(subject, three_rows, signal.SIGTERM, int(workers))
        check(records, folder)


def test_rolling_restart_loses_nothing(three: Path, three_rows: list[ReferenceRow], tmp_path: Path) -> None:
    """SIGHUP: new workers take over, the old ones finish."""
    with serving(three, tmp_path, "--workers", "2") as subject:
        records = load(subject, three_rows, signal.SIGHUP, 2)
    check(records, tmp_path)


def test_half_sent_request_does_not_hold_the_stop(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, drain_seconds="2", request_timeout_seconds="600") as subject:
        halves = [socket.create_connection(address(subject.url)) for _ in range(20)]
        for half in halves:
            half.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        subject.process.terminate()
        assert subject.process.wait(60) == 0  # long before the halves would be given up
        for half in halves:
            half.close()
