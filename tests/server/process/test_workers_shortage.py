"""What a system lacks for a while ends no worker that serves, and no signal ends what it should not."""

import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from loadtest.harness.subject import Subject, has_ended, python
from loadtest.harness.target import started
from tests.server.process.test_workers import GET_METRICS, kill_and_wait, sample, scored, workers
from tests.support.servers import eventually, exchange, serving

pytestmark = pytest.mark.whole

#: A user that nobody is: its processes are counted apart from those of others.
NOBODY = 12345


@contextmanager
def _limited(pid: int, kind: int, limit: int) -> Iterator[None]:
    limits = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (limit, limits[1]))
    yield
    resource.prlimit(pid, kind, limits)


def _kill_one_and_wait_for_a_failed_start(subject: Subject) -> int:
    victim, survivor = workers(subject)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: _start_failures(subject) >= 2)
    assert workers(subject) == [survivor]
    # The kernel spreads connections over the sockets: those of the one that ended go to the other.
    assert all(scored(subject) for _ in range(20))
    return survivor


def _start_failures(subject: Subject) -> int:
    """As the worker that is left tells; who came to the other's socket before it was parked is reset."""
    for answer in exchange(subject.url, GET_METRICS, timeout=0.5):
        found = re.search(rb"^hotrow_worker_start_failures_total (\d+)", answer.body, re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def _is_whole_again(subject: Subject, survivor: int) -> None:
    eventually(lambda: len(workers(subject)) == 2)
    assert survivor in workers(subject)
    eventually(lambda: all(scored(subject) for _ in range(20)))
    assert subject.process.poll() is None


def test_worker_that_no_descriptor_is_left_for_is_started_later(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, "--workers", "2") as subject:
        with _limited(subject.pid, resource.RLIMIT_NOFILE, 3):
            survivor = _kill_one_and_wait_for_a_failed_start(subject)
        _is_whole_again(subject, survivor)
    log = (tmp_path / "server.log").read_text()
    assert log.count("A worker cannot be started: Too many open files; it is tried again.") == 1


def test_worker_that_no_process_is_left_for_is_started_later(three: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can start a server of another user, with setpriv")
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to others
        folder = Path(name)
        shutil.copytree(three, folder / "three")
        folder.chmod(0o755)
        (folder / "logs").mkdir()
        os.chown(folder / "logs", NOBODY, NOBODY)
        with started(
            folder / "three", folder, ["--workers", "2"], command=[*as_nobody, *python("-m", "server")]
        ) as subject:
            limit = [*as_nobody, "prlimit", "--pid", str(subject.pid)]
            parent = psutil.Process(subject.pid)
            files = parent.num_fds()
            subprocess.run([*limit, "--nproc=1:"], check=True)
            survivor = _kill_one_and_wait_for_a_failed_start(subject)
            assert parent.num_fds() <= files  # each try had left one
            subprocess.run([*limit, f"--nproc={'unlimited' if hard < 0 else hard}:"], check=True)
            _is_whole_again(subject, survivor)


def test_stopped_worker_ends_with_its_parent_and_leaves_the_port(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, "--workers", "2") as subject:
        pids = workers(subject)
        os.kill(pids[0], signal.SIGSTOP)
        subject.process.kill()
        eventually(lambda: all(has_ended(pid) for pid in pids))


def test_woken_worker_of_a_living_parent_goes_on(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, "--workers", "2") as subject:
        before = workers(subject)
        for pid in before:
            os.kill(pid, signal.SIGCONT)
        assert all(scored(subject) for _ in range(20))
        assert workers(subject) == before


@pytest.mark.parametrize("count", ["1", "2"])
def test_user_signals_and_a_hangup_of_the_whole_group_end_nothing(
    three: Path, tmp_path: Path, count: str
) -> None:
    with serving(three, tmp_path, "--workers", count) as subject:
        family = [subject.pid, *workers(subject)]
        for pid in family:
            os.kill(pid, signal.SIGUSR1)
        for pid in family[1:]:
            os.kill(pid, signal.SIGHUP)
        assert all(scored(subject) for _ in range(20))
        assert [subject.pid, *workers(subject)] == family
        assert sample(subject, "hotrow_worker_restarts_total") == 0.0


def test_workers_start_where_no_file_can_be_in_dev_shm(three: Path, tmp_path: Path) -> None:
    probe = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("a mount of its own needs root and CAP_SYS_ADMIN")
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o ro tmpfs /dev/shm && exec "$0" "$@"']
    command = [*hidden, *python("-m", "server")]
    with started(three, tmp_path, ["--workers", "2"], command=command) as subject:
        kill_and_wait(subject, workers(subject)[0])
        assert all(scored(subject) for _ in range(10))


@pytest.mark.parametrize("workers", [1, 2])
def test_limit_of_open_files_that_no_worker_fits_in_is_said_at_the_start(three: Path, workers: int) -> None:
    limited = ["prlimit", "--nofile=24:24", *python("-m", "server", "--model", str(three), "--port", "0")]
    ended = subprocess.run(
        [*limited, "--workers", str(workers)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 3
    assert ended.stderr.count("\n") == 1
    assert "open files (ulimit -n)" in ended.stderr
    assert "got 24" in ended.stderr
