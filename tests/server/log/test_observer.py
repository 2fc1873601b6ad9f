"""The process that writes the log: whoever is killed, every answer has its line, once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtest.harness.recording_client import Load
from loadtest.harness.reference_rows import ReferenceRow, batches, scored
from loadtest.harness.request_records import reconcile
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import Subject, has_ended, observer_of, workers_of
from monitoring.logs.verification import LogVerdict, verify
from server.model.bundle import Bundle
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.monitored import logged, monitored_bundle, send_all
from tests.support.servers import eventually, serving

pytestmark = pytest.mark.whole

ROWS = sample_rows(THREE_FEATURES, 100, seed=1)
#: `make ledger` kills 20 times.
ROUNDS = int(os.environ.get("LEDGER_ROUNDS", "3"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("observer") / "three")


@pytest.fixture(scope="module")
def rows(bundle: Bundle) -> list[ReferenceRow]:
    alone = scored([bundle], ROWS)
    return alone + batches(bundle, alone, 20, THREE_FEATURES.names, count=10)


@contextmanager
def loaded(
    bundle: Bundle, rows: list[ReferenceRow], folder: Path, workers: str, **settings: str
) -> Iterator[tuple[Subject, Load]]:
    with (
        serving(bundle.directory, folder, "--workers", workers, **settings) as subject,
        Load(subject.url, rows, pause=0.02) as clients,
    ):
        clients.wait_for(200)
        yield subject, clients


def _is_exact(clients: Load, logs: Path) -> None:
    found = reconcile(clients.records, logs)
    assert not found.lost
    assert not found.wrong
    assert not found.duplicates
    # A client whose connection broke may not have read its last answer.
    assert found.others <= len(clients.records.failures)


def test_killed_worker_loses_no_line(bundle: Bundle, rows: list[ReferenceRow], tmp_path: Path) -> None:
    with loaded(bundle, rows, tmp_path, "2") as (subject, clients):
        for i in range(ROUNDS):
            eventually(lambda: len(workers_of(subject.pid)) == 2)
            victim = workers_of(subject.pid)[i % 2]
            victim.kill()
            eventually(lambda: victim.pid not in {w.pid for w in workers_of(subject.pid)})  # noqa: B023
            clients.wait_for(len(clients.records.responses) + 100)
        subject.process.terminate()
        assert subject.process.wait(60) == 0
    _is_exact(clients, tmp_path / "logs")
    assert verify([tmp_path / "logs"]).verdict is LogVerdict.WHOLE


@pytest.mark.parametrize(("workers", "line_backend"), [("1", "python"), ("2", "auto")])
def test_killed_observer_loses_and_doubles_no_line(
    bundle: Bundle, rows: list[ReferenceRow], tmp_path: Path, workers: str, line_backend: str
) -> None:
    with loaded(bundle, rows, tmp_path, workers, line_backend=line_backend) as (subject, clients):
        for _ in range(ROUNDS):
            victim = observer_of(subject.pid)
            victim.kill()
            eventually(lambda: observer_of(subject.pid).pid != victim.pid)  # noqa: B023
            clients.wait_for(len(clients.records.responses) + 100)
        restarts = total(scrape(subject.url), "hotrow_observer_restarts_total")
        subject.process.terminate()
        assert subject.process.wait(60) == 0
    assert restarts >= ROUNDS
    said = (tmp_path / "server.log").read_text()
    assert "Traceback" not in said
    assert ("are made by compiled code" in said) == (line_backend == "auto")
    _is_exact(clients, tmp_path / "logs")
    assert verify([tmp_path / "logs"]).verdict is LogVerdict.WHOLE


def test_killed_server_leaves_an_observer_that_writes_the_rest_and_ends(
    bundle: Bundle, rows: list[ReferenceRow], tmp_path: Path
) -> None:
    with loaded(bundle, rows, tmp_path, "1") as (subject, clients):
        observer = observer_of(subject.pid)
        clients.wait_for(800)
        subject.process.kill()
        subject.process.wait(60)
        eventually(lambda: has_ended(observer.pid))
    _is_exact(clients, tmp_path / "logs")
    assert verify([tmp_path / "logs"]).verdict is LogVerdict.WHOLE


def test_server_started_at_once_after_a_kill_takes_the_files_over(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle.directory, tmp_path) as subject:
        ids = [answer["id"] for answer in send_all(subject.url, ROWS)]
        observer = observer_of(subject.pid)
        observer.suspend()
        subject.process.kill()
        port = subject.url.rpartition(":")[2]
        observer.resume()
    with serving(bundle.directory, tmp_path, port=port) as subject:
        ids += [answer["id"] for answer in send_all(subject.url, ROWS[:3])]
    assert [line["id"] for line in logged(tmp_path / "logs")] == ids


def test_signals_to_all_that_end_a_server_do_not_end_the_observer_before(
    bundle: Bundle, rows: list[ReferenceRow], tmp_path: Path
) -> None:
    with loaded(bundle, rows, tmp_path, "2") as (subject, clients):
        observer = observer_of(subject.pid)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(observer.pid, number)
        subject.process.terminate()
        assert subject.process.wait(60) == 0
        assert has_ended(observer.pid)
    _is_exact(clients, tmp_path / "logs")


def test_observer_that_stands_still_is_seen(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle.directory, tmp_path) as subject:
        observer = observer_of(subject.pid)
        observer.suspend()
        send_all(subject.url, ROWS[:5])
        names = (
            "hotrow_log_oldest_unwritten_seconds",
            "hotrow_observer_silent_seconds",
            "hotrow_log_queue_bytes",
        )
        eventually(lambda: all(total(scrape(subject.url), name) > 0.3 for name in names))
        observer.resume()
        eventually(lambda: total(scrape(subject.url), names[0]) == total(scrape(subject.url), names[2]) == 0)
    assert len(logged(tmp_path / "logs")) == 5


def test_drift_is_counted_of_every_row_at_full_load(
    bundle: Bundle, rows: list[ReferenceRow], tmp_path: Path
) -> None:
    # A window that a fast machine does not fill in this time either: what falls out of two is not shown.
    with loaded(bundle, rows, tmp_path, "2", drift_window_rows="1000000") as (subject, clients):
        clients.wait_for(5000)
        clients.stop()

        def all_counted() -> bool:
            samples = scrape(subject.url)
            return total(samples, "hotrow_drift_rows") == total(samples, "hotrow_predictions_total") > 5000

        eventually(all_counted)


def test_it_has_the_priority_of_a_worker(bundle: Bundle, tmp_path: Path) -> None:
    """With a lower one a busy machine leaves it no processor, and the rings fill."""
    with serving(bundle.directory, tmp_path) as subject:
        observer = observer_of(subject.pid).pid
        threads = [int(task.name) for task in Path(f"/proc/{observer}/task").iterdir()]
        worker = os.getpriority(os.PRIO_PROCESS, subject.pid)
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {worker}
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.sched_getscheduler(subject.pid)}
