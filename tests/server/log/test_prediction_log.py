"""The prediction log: answers and lines agree, whatever ends the server or fills its disk."""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from loadtest.harness.recording_client import Load
from loadtest.harness.reference_rows import ReferenceRow, scored
from loadtest.harness.request_records import RequestRecords, reconcile
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import observer_of, workers_of
from monitoring.logs.verification import LogVerdict, verify
from server.model.bundle import Bundle
from tests.support.bundles import ROW, THREE_FEATURES, sample_rows
from tests.support.monitored import logged, monitored_bundle, send_all
from tests.support.servers import eventually, exchange, post, serving

pytestmark = pytest.mark.whole

ROWS = sample_rows(THREE_FEATURES, 200, seed=1)
#: `make ledger` sends the signal 20 times.
ROUNDS = int(os.environ.get("LEDGER_ROUNDS", "3"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("log") / "three")


@pytest.fixture(scope="module")
def rows(bundle: Bundle) -> list[ReferenceRow]:
    return scored([bundle], ROWS)


def test_a_line_has_what_the_contract_names(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle.directory, tmp_path) as subject:
        (answer,) = send_all(subject.url, [ROW])
    (line,) = logged(tmp_path / "logs")
    (journal,) = (tmp_path / "logs").glob("*.ledger")
    opened = orjson.loads(journal.read_bytes().splitlines()[0])
    assert opened["digests"] == {line["id"].partition("-")[0]: bundle.digest}
    names = "ts id seq margin model input probability decision duration_us cpu_percent rss_mb"
    assert set(line) == set(names.split())
    assert line["input"] == ROW
    assert {name: line[name] for name in ("id", "probability", "decision", "model")} == answer
    assert line["seq"] == 1
    assert line["ts"][10] == "T"
    assert line["ts"][26:] == "Z"


def test_sigterm_under_load_loses_no_line_and_adds_none(
    bundle: Bundle, rows: list[ReferenceRow], tmp_path: Path
) -> None:
    for i in range(ROUNDS):
        folder = tmp_path / str(i)
        folder.mkdir()
        with serving(bundle.directory, folder) as subject, Load(subject.url, rows, pause=0.002) as clients:
            clients.wait_for(100 + 37 * (i % 7))
            os.kill(subject.pid, signal.SIGTERM)
            subject.process.wait(timeout=60)
        found = reconcile(clients.records, folder / "logs")
        assert not found.lost
        assert not found.wrong
        # A client whose connection closed may not have read its last answer.
        assert found.others <= len(clients.records.failures)
        assert verify([folder / "logs"]).whole


def test_sigkill_in_strict_mode_loses_nothing(
    bundle: Bundle, rows: list[ReferenceRow], tmp_path: Path
) -> None:
    records = _kill_under_load(bundle, rows, tmp_path, "strict")
    found = reconcile(records, tmp_path / "logs")
    assert not found.lost
    assert not found.wrong


def _kill_under_load(bundle: Bundle, rows: list[ReferenceRow], folder: Path, mode: str) -> RequestRecords:
    with (
        serving(bundle.directory, folder, log_mode=mode) as subject,
        Load(subject.url, rows, pause=0.002) as clients,
    ):
        clients.wait_for(800)
        os.kill(subject.pid, signal.SIGKILL)
        subject.process.wait(timeout=60)
    return clients.records


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("mounting a tmpfs needs root and CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _wait_for_lines(folder: Path, lines: int, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while len(logged(folder)) < lines and time.monotonic() < end:
        time.sleep(0.02)
    assert len(logged(folder)) == lines


def test_strict_mode_answers_503_while_the_disk_is_full_and_leaves_no_gap(
    bundle: Bundle, small_disk: Path
) -> None:
    settings = {"log_dir": str(small_disk / "logs"), "log_mode": "strict"}
    with serving(bundle.directory, small_disk.parent, **settings) as subject:
        before = send_all(subject.url, ROWS[:5])
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"x" * 2**20)
        statuses = {exchange(subject.url, post("/predict", b'{"income": 1}'))[0].status for _ in range(40)}
        filler.unlink()
        after = send_all(subject.url, ROWS[:5])
    assert 503 in statuses
    lines = logged(small_disk / "logs")
    assert {answer["id"] for answer in before + after} <= {line["id"] for line in lines}
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))


def test_a_deleted_folder_is_written_again(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle.directory, tmp_path) as subject:
        send_all(subject.url, ROWS[:3])
        _wait_for_lines(tmp_path / "logs", 3)
        while (tmp_path / "logs").exists():  # the observer may write its journal just now
            shutil.rmtree(tmp_path / "logs", ignore_errors=True)
        answers = send_all(subject.url, ROWS[:3])
    assert [line["id"] for line in logged(tmp_path / "logs")] == [answer["id"] for answer in answers]


def test_files_are_closed_by_size_and_the_oldest_deleted_above_the_total(
    bundle: Bundle, tmp_path: Path
) -> None:
    settings = {"log_file_bytes": "4000", "log_total_bytes": "20000"}
    with serving(bundle.directory, tmp_path, **settings) as subject:
        for start in range(0, 200, 20):
            send_all(subject.url, ROWS[start : start + 20])
            _wait_for_lines(tmp_path / "logs", start + 20)
    files = sorted((tmp_path / "logs").glob("*.jsonl"))
    assert len(files) > 5
    assert len(logged(tmp_path / "logs")) == 200
    with serving(bundle.directory, tmp_path, **settings) as subject:
        # Another server: its port, and so its files, are others; these stay.
        send_all(subject.url, ROWS[:2])
    assert sorted((tmp_path / "logs").glob("*.jsonl"))[: len(files)]
    assert verify([tmp_path / "logs"]).whole


def test_a_full_queue_drops_the_newest_and_counts_each(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle.directory, tmp_path, log_queue_bytes=str(2**16)) as subject:
        observer = observer_of(subject.pid)
        observer.suspend()
        answers = send_all(subject.url, ROWS * 3)
        dropped = total(scrape(subject.url), "hotrow_log_dropped_total", reason="queue_full")
        observer.resume()
        subject.process.terminate()
        assert subject.process.wait(60) == 0
    lines = [line["id"] for line in logged(tmp_path / "logs")]
    assert lines == [answer["id"] for answer in answers][: len(lines)]
    assert len(answers) - len(lines) == dropped > 0
    checked = verify([tmp_path / "logs"])
    assert (checked.verdict, checked.lost) == (LogVerdict.MISSING, dropped)


@pytest.mark.parametrize("is_killed", [False, True])
def test_drops_are_in_the_journal_though_the_queue_is_full_to_the_end(
    bundle: Bundle, tmp_path: Path, is_killed: bool
) -> None:
    """What a worker could not say any more, or was killed before it said, is told of it nevertheless."""
    with serving(bundle.directory, tmp_path, "--workers", "2", log_queue_bytes=str(2**16)) as subject:
        observer, workers = observer_of(subject.pid), workers_of(subject.pid)
        observer.suspend()
        answers = send_all(subject.url, ROWS * 3)
        dropped = total(scrape(subject.url), "hotrow_log_dropped_total", reason="queue_full")
        if is_killed:
            for worker in workers:
                worker.kill()
            eventually(lambda: len({w.pid for w in workers_of(subject.pid)} - {w.pid for w in workers}) == 2)
        else:
            subject.process.terminate()
            eventually(lambda: not workers_of(subject.pid))
        observer.resume()
        subject.process.terminate()
        assert subject.process.wait(60) == 0
    assert len(answers) - len(logged(tmp_path / "logs")) == dropped > 0
    checked = verify([tmp_path / "logs"])
    assert (checked.verdict, checked.lost) == (LogVerdict.MISSING, dropped)


def test_a_strict_batch_is_written_whole_or_answered_503_and_not_counted(
    bundle: Bundle, tmp_path: Path
) -> None:
    """Of its several lines the first would fit into the file, whose size is limited."""
    rows = [{"income": 2500.5, "contract": "fixed-term", "owner": True}] * 3000
    batch = post("/predict/batch", orjson.dumps({"rows": rows}))
    with serving(bundle.directory, tmp_path, log_mode="strict") as subject:
        (before,) = exchange(subject.url, batch)
        written = (tmp_path / "logs").glob("*.jsonl").__next__().stat().st_size
        resource.prlimit(subject.pid, resource.RLIMIT_FSIZE, (written + 100_000, resource.RLIM_INFINITY))
        (refused,) = exchange(subject.url, batch)
        counted = total(scrape(subject.url), "hotrow_predictions_total")
        resource.prlimit(subject.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        (after,) = exchange(subject.url, batch)
    assert (before.status, refused.status, after.status) == (200, 503, 200)
    assert counted == 3000
    lines = logged(tmp_path / "logs")
    assert len(lines) > 4
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    ids = {line["id"].partition(".")[0] for line in lines}
    assert ids == {orjson.loads(answer.body)["id"] for answer in (before, after)}
