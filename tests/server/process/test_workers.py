"""Several workers: one set of figures, and replacements for those that die or hang."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from loadtest.harness.instances import wait_for_instances
from loadtest.harness.reference_rows import ReferenceRow
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import Subject, has_ended, workers_of
from server.process.arbiter import YOUNG_SECONDS
from tests.support.bundles import ROW
from tests.support.servers import address, eventually, exchange, post, run, serving

pytestmark = pytest.mark.whole

BODY = orjson.dumps(ROW)
GET_METRICS = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def two_workers(three: Path, tmp_path: Path) -> Iterator[Subject]:
    with serving(three, tmp_path, "--workers", "2") as subject:
        eventually(lambda: len({worker_of(subject) for _ in range(20)}) == 2)
        yield subject


def workers(subject: Subject) -> list[int]:
    return [child.pid for child in workers_of(subject.process.pid)]


def sample(subject: Subject, name: str) -> float:
    return total(scrape(subject.url), name)


def worker_of(subject: Subject) -> str:
    answers = exchange(subject.url, post("/predict", BODY))
    return str(orjson.loads(answers[0].body)["id"]).partition("-")[0] if answers else ""


def scored(subject: Subject) -> bool:
    answers = exchange(subject.url, post("/predict", BODY))
    return bool(answers) and answers[0].status == 200


def kill_and_wait(subject: Subject, worker: int) -> None:
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: worker not in workers(subject))
    eventually(lambda: len(workers(subject)) == 2)


def test_any_worker_answers_for_all(two_workers: Subject) -> None:
    before = sample(two_workers, "hotrow_predictions_total")
    for _ in range(40):
        assert scored(two_workers)
    assert {sample(two_workers, "hotrow_predictions_total") for _ in range(10)} == {before + 40}
    assert sample(two_workers, "hotrow_worker_resident_memory_bytes") > 2 * 2**20


def test_stop_while_a_worker_starts_answers_those_who_wait_for_it(
    three: Path, three_rows: list[ReferenceRow], tmp_path: Path
) -> None:
    with serving(three, tmp_path, "--workers", "2") as subject:
        wait_for_instances(subject.url, three_rows[0].request, 2)
        time.sleep(YOUNG_SECONDS)  # else it is replaced later
        victim = psutil.Process(workers(subject)[0])
        victim.kill()
        eventually(lambda: has_ended(victim.pid))
        waiting = [socket.create_connection(address(subject.url), 60) for _ in range(40)]
        for connection in waiting:
            connection.sendall(three_rows[0].request)
        subject.process.terminate()
        answers = [connection.recv(65_536) for connection in waiting]
        for connection in waiting:
            connection.close()
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert subject.process.wait(60) == 0


def test_every_worker_answers(two_workers: Subject) -> None:
    assert len({worker_of(two_workers) for _ in range(60)}) == 2


def test_killed_worker_is_replaced_and_no_counter_falls(two_workers: Subject) -> None:
    for _ in range(30):
        assert scored(two_workers)
    before = workers(two_workers)
    scored_before = sample(two_workers, "hotrow_predictions_total")
    cpu_before = sample(two_workers, "hotrow_worker_cpu_seconds_total")
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(set(workers(two_workers)) - set(before)) == 1)
    eventually(lambda: sample(two_workers, "hotrow_worker_restarts_total") == 1.0)
    assert sample(two_workers, "hotrow_predictions_total") == scored_before
    assert sample(two_workers, "hotrow_worker_cpu_seconds_total") >= cpu_before
    assert all(scored(two_workers) for _ in range(20))


def test_every_listener_has_a_worker_after_a_restart_and_deaths(two_workers: Subject) -> None:
    """A successor listens where the dead one did, else half of all connections would wait for ever."""
    before = workers(two_workers)
    os.kill(two_workers.pid, signal.SIGHUP)
    eventually(lambda: len(workers(two_workers)) == 2 and not set(workers(two_workers)) & set(before))
    for victim in reversed(workers(two_workers)):
        kill_and_wait(two_workers, victim)
        assert all(scored(two_workers) for _ in range(20))


def test_hung_worker_is_replaced(two_workers: Subject) -> None:
    """A stopped process turns its event loop no more, which its heartbeat shows."""
    before = workers(two_workers)
    os.kill(before[1], signal.SIGSTOP)
    eventually(lambda: before[1] not in workers(two_workers))
    eventually(lambda: len(workers(two_workers)) == 2)
    assert all(scored(two_workers) for _ in range(10))


def test_workers_end_with_their_parent(two_workers: Subject) -> None:
    pids = workers(two_workers)
    two_workers.process.kill()
    eventually(lambda: all(has_ended(pid) for pid in pids))


def test_workers_end_on_sigterm_with_their_logs_complete(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, "--workers", "2") as subject:
        ids = [orjson.loads(exchange(subject.url, post("/predict", BODY))[0].body)["id"] for _ in range(50)]
        subject.process.terminate()
        assert subject.process.wait(60) == 0
    lines = [line for file in (tmp_path / "logs").glob("*.jsonl") for line in file.read_bytes().splitlines()]
    assert sorted(orjson.loads(line)["id"] for line in lines) == sorted(ids)


def test_bad_bundle_stops_all_with_exit_3(three: Path, tmp_path: Path) -> None:
    result = run("-m", "server", "--model", str(tmp_path), "--workers", "2", "--port", "0")
    assert result.returncode == 3
    assert result.stderr.startswith("expected a model folder")
    assert "Traceback" not in result.stderr


def test_taken_log_stops_all_with_exit_3(three: Path, tmp_path: Path) -> None:
    """The fault shows only after the fork, in the workers."""
    with serving(three, tmp_path) as subject:
        port = subject.url.rpartition(":")[2]
        result = run(
            "-m", "server", "--model", str(three), "--workers", "2", "--host", "127.0.0.2", "--port", port,
            HOTROW_LOG_DIR=str(tmp_path / "logs"),
        )  # fmt: skip
    assert result.returncode == 3
    assert "another server writes" in result.stderr
    assert "Traceback" not in result.stderr
