"""The log cannot die quietly: what it lacks for a while delays its lines, and is seen from outside."""

import http.client
import mmap
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
from loadtest.harness.subject import has_ended, observer_of, runs
from monitoring.logs.verification import verify
from server.log import observer_process
from server.log.challengers import Challengers
from server.log.channel import Descriptions
from server.log.compiled.code import LineCodes
from server.log.observer_process import ObserverProcess
from server.log.prediction_log import SharedLog
from server.log.stream import DescriptionReader, Pace, Stream, Tallies
from server.metrics.process_usage import ProcessUsage
from server.metrics.row_counter import RowCounter
from server.model.bundle import Bundle
from server.scoring.served_model import ServedModel
from server.scoring.service import open_worker, share_metrics
from server.settings import Settings
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
    with closing(http.client.HTTPConnection(*address(url), timeout=60)) as connection:

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


def test_failure_to_count_drift_costs_no_line(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it is: here the memory that is not to be had."""

    def fail(*_: object) -> None:
        raise MemoryError

    model, stream, _ = _observed(bundle, tmp_path)
    answers: list[bytes] = []
    monkeypatch.setattr(RowCounter, "count", fail)
    for row in ROWS:
        model.scorer.respond(orjson.dumps(row), answers.append, time.perf_counter_ns())
        stream.work()
    stream.finish()
    assert _ids(tmp_path) == [orjson.loads(answer)["id"] for answer in answers]
    assert caplog.text.count("Drift of an instance cannot be counted any more; the log goes on.") == 1


def test_worker_that_answers_between_the_steps_of_the_observer(bundle: Bundle, tmp_path: Path) -> None:
    """It comes whenever the observer gives way: each answer has its line, in order; its row is counted."""
    model, stream, counted_rows = _observed(bundle, tmp_path)
    answers: list[bytes] = []

    def answer() -> None:
        if len(answers) < 500:
            model.scorer.respond(
                orjson.dumps(ROWS[len(answers) % 20]), answers.append, time.perf_counter_ns()
            )

    answer()
    pace = Pace(take_bytes=1024, count_bytes=256, give_way=answer)
    while stream.work(pace):
        pass
    stream.finish()
    assert _ids(tmp_path) == [orjson.loads(text)["id"] for text in answers]
    assert len(answers) == 500
    assert counted_rows() == 500


def _observed(bundle: Bundle, folder: Path) -> tuple[ServedModel, Stream, Callable[[], float]]:
    """A model, what observes its answers, and how many rows were counted for drift."""
    settings = Settings(model=(bundle.directory,), log_dir=folder)
    metrics = share_metrics(settings, [bundle], 1)
    log = SharedLog(settings, metrics)
    (model,) = open_worker(settings, [bundle], metrics, 0, log).models
    described = DescriptionReader(log.channel.descriptions)
    config = next(Descriptions(log.channel.descriptions.descriptor).new())
    values = memoryview(mmap.mmap(metrics.descriptor, 0)).cast("d")
    challengers = Challengers(config, metrics.descriptor, values)
    window, _ = next(iter(described.models()))["drift"]["windows"]
    stream = Stream(
        0,
        log.channel.rings[0],
        described,
        config,
        values,
        None,
        Tallies(),
        challengers,
        LineCodes(is_wanted=False),
    )
    return model, stream, lambda: values[window]


def test_observer_that_stands_still_for_long_is_replaced(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(model=(bundle.directory,), log_dir=tmp_path)
    metrics = share_metrics(settings, [bundle], 1)
    log = SharedLog(settings, metrics)
    (model,) = open_worker(log.settings, [bundle], metrics, 0, log).models
    observer, rings = log.observer, log.channel.rings
    observer.start()
    first = observer_of(os.getpid())
    try:
        began_ns = time.perf_counter_ns()
        eventually(lambda: rings[0].beat_ns > began_ns)
        observer.look_after()  # it lives
        first.suspend()
        model.scorer.respond(orjson.dumps(ROWS[0]), lambda _: None, time.perf_counter_ns())
        with monkeypatch.context() as patch:
            patch.setattr(observer_process, "HUNG_SECONDS", 0.0)
            observer.look_after()  # there may have been a beat since
            observer.look_after()
        eventually(lambda: has_ended(first.pid))
        eventually(lambda: _is_replaced(observer, first.pid))
    finally:
        observer.finish()
    assert len(_ids(tmp_path)) == 1
    assert "stands still; it is ended" in caplog.text


def _is_replaced(observer: ObserverProcess, pid: int) -> bool:
    observer.look_after()
    children = psutil.Process().children()
    return any(child.pid != pid and runs(child, "server.log.observer") for child in children)


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
