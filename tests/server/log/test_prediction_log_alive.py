"""The log cannot die quietly: what it lacks for a while delays its lines, and is seen from outside."""

import http.client
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import orjson
import psutil
import pytest

from loadtest.harness.scrape import scrape, total
from monitoring.logs.verification import verify
from server.metrics.process_usage import ProcessUsage
from server.model.bundle import Bundle
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.monitored import logged, monitored_bundle, send_all
from tests.support.servers import address, eventually, serving

pytestmark = pytest.mark.whole

ROWS = sample_rows(THREE_FEATURES, 20, seed=4)
#: What a line may take on a busy machine; without a living writer it never comes.
SOON_SECONDS = 60.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("alive") / "three")


@contextmanager
def no_descriptors(*pids: int) -> Iterator[None]:
    """The processes cannot open a file or accept a connection while the block runs."""
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    for pid, limit in limits.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limit[1]))
    yield
    for pid, limit in limits.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)


@contextmanager
def one_connection(url: str) -> Iterator[Callable[[object], str]]:
    """A function that sends a row over a connection that is there already; it gives the answer's id."""
    with closing(http.client.HTTPConnection(*address(url), timeout=20)) as connection:

        def ask(row: object) -> str:
            connection.request("POST", "/predict", orjson.dumps(row), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200, content
            return str(orjson.loads(content)["id"])

        connection.connect()
        yield ask


def _ids(folder: Path) -> list[str]:
    return [line["id"] for line in logged(folder)]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_lines_come_again_when_descriptors_do_and_none_is_lost(
    bundle: Bundle, tmp_path: Path, workers: str
) -> None:
    logs = tmp_path / "logs"
    with (
        serving(bundle.directory, tmp_path, "--workers", workers) as subject,
        one_connection(subject.url) as ask,
    ):
        ids = [ask(ROWS[0])]
        eventually(lambda: set(ids) <= set(_ids(logs)))  # all processes are there
        children = [child.pid for child in psutil.Process(subject.pid).children(recursive=True)]
        with no_descriptors(subject.pid, *children):
            # Over more than a second: what is renewed once a second needs a file, too.
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                ids += [ask(row) for row in ROWS]
                time.sleep(0.05)
        ids.append(ask(ROWS[0]))
        eventually(lambda: set(ids) <= set(_ids(logs)))
        os.kill(subject.pid, signal.SIGKILL)
    assert sorted(_ids(logs)) == sorted(ids)
    assert verify([logs]).lost == 0


def test_nothing_is_unwritten_at_rest(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle.directory, tmp_path) as subject:
        send_all(subject.url, ROWS)
        eventually(lambda: total(scrape(subject.url), "hotrow_log_oldest_unwritten_seconds") == 0.0)
        assert len(logged(tmp_path / "logs")) == len(ROWS)


def test_figures_of_use_are_read_without_a_free_descriptor() -> None:
    usage = ProcessUsage(os.getpid())
    with no_descriptors(os.getpid()):
        usage.sample()
    assert usage.rss_mb == pytest.approx(psutil.Process().memory_info().rss / 2**20, rel=0.2)
    usage.close()
    before = usage.rss_mb
    usage.sample()
    assert usage.rss_mb == before


def test_figures_of_no_process_are_zero() -> None:
    usage = ProcessUsage(2**22 + 1)
    assert (usage.cpu_percent, usage.rss_mb) == (0.0, 0.0)
