"""New models for a running server: taken whole or not at all, without a wrong or a failed answer."""

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import psutil
import pytest

from loadtest.subject import Subject
from monitoring.verify_log import verify
from server.bundle import Bundle
from server.errors import BundleError
from server.log_file import LogFile
from server.log_segments import Keeping
from server.predictor import Predictor
from server.publish import previous, publish, roll_back
from tests.bundles import ROW, THREE_FEATURES, sample_rows, three_feature_bundle
from tests.monitored import load, logged, scrape, total
from tests.servers import exchange, post, run, serving

ROWS = sample_rows(THREE_FEATURES, 40, seed=11)
ROUNDS = int(os.environ.get("RELOAD_ROUNDS", "2"))


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two versions of one model that score rows differently."""
    folder = tmp_path_factory.mktemp("versions")
    return [
        three_feature_bundle(folder / version, version, trees).directory
        for version, trees in (("1", 20), ("2", 30))
    ]


@pytest.fixture
def served(versions: list[Path], tmp_path: Path) -> Path:
    """The folder that the server is given, with the first version in it."""
    return Path(shutil.copytree(versions[0], tmp_path / "served"))


def command(subject: Subject, name: str, *folders: Path, **environment: str) -> tuple[int, str]:
    port = subject.url.rpartition(":")[2]
    done = run("-m", "server.models", name, *map(str, folders), "--port", port, **environment)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def expected(bundle: Path) -> list[float]:
    """What each of the rows scores, one by one."""
    predictor = Predictor(Bundle.load(bundle))
    return [predictor.predict(THREE_FEATURES.encode(row))[0] for row in ROWS]


def reloads(subject: Subject, result: str) -> float:
    return total(scrape(subject.url), "hotrow_model_reloads_total", result=result)


def eventually(fact: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.05)


def model_of(subject: Subject) -> str:
    (answer,) = exchange(subject.url, post("/predict", orjson.dumps(ROW)))
    return str(orjson.loads(answer.body)["model"])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_published_and_rolled_back_under_load_every_answer_is_its_models(
    versions: list[Path], served: Path, tmp_path: Path, workers: str
) -> None:
    scores = {f"three@{path.name}": expected(path) for path in versions}
    with serving(served, tmp_path, "--workers", workers) as subject:
        with load(subject.url, ROWS) as clients:
            assert command(subject, "publish", versions[1], served) == (0, f"{subject.url} serves three@2.\n")
            for _ in range(ROUNDS):
                assert command(subject, "rollback", served)[0] == 0
            clients.wait_for(200)
        assert model_of(subject) == ("three@2" if ROUNDS % 2 == 0 else "three@1")
        assert reloads(subject, "ok") == ROUNDS + 1
    assert (clients.broken, set(clients.statuses)) == (0, {200})
    assert {model for _, model, _ in clients.scored} == set(scores)
    assert all(probability == scores[model][row] for row, model, probability in clients.scored)
    assert verify([tmp_path / "logs"]).whole
    ids = [line["id"] for line in logged(tmp_path / "logs")]
    assert set(ids) >= {id_ for id_, _, _ in clients.answers}


@pytest.mark.parametrize(
    ("workers", "damage"), [("1", "half"), ("1", "golden"), ("1", "graph"), ("1", "gone"), ("2", "golden")]
)
def test_bad_model_leaves_the_old_one_serving(
    versions: list[Path], served: Path, tmp_path: Path, workers: str, damage: str
) -> None:
    with serving(served, tmp_path, "--workers", workers) as subject:
        spoil(served, versions[1], damage)
        with load(subject.url, ROWS) as clients:
            os.kill(subject.pid, signal.SIGHUP)
            eventually(lambda: reloads(subject, "failed") == 1)
            clients.wait_for(50)
        assert model_of(subject) == "three@1"
        assert command(subject, "reload")[0] == 1
    assert (clients.broken, set(clients.statuses)) == (0, {200})
    log = (tmp_path / "server.log").read_text()
    assert "three@1 goes on being served" in log
    assert "Traceback" not in log


def spoil(served: Path, new: Path, damage: str) -> None:
    if damage == "gone":
        shutil.rmtree(served)
    elif damage == "half":  # a copy that is under way
        shutil.copy(new / "bundle.json", served)
    else:
        manifest = orjson.loads((new / "bundle.json").read_bytes())
        name = "golden.jsonl" if damage == "golden" else "model.onnx"
        content = (new / name).read_bytes().replace(b"0x1", b"0x2", 1)[: None if damage == "golden" else 500]
        (served / name).write_bytes(content)
        own = orjson.loads((served / "bundle.json").read_bytes())
        manifest["files"] = own["files"] | {name: hashlib.sha256(content).hexdigest()}
        (served / "bundle.json").write_bytes(orjson.dumps(manifest))


def test_reload_asked_for_while_one_is_under_way_is_not_lost(
    versions: list[Path], served: Path, tmp_path: Path
) -> None:
    with serving(served, tmp_path) as subject:
        os.kill(subject.pid, signal.SIGHUP)
        publish(versions[1], served)
        os.kill(subject.pid, signal.SIGHUP)
        eventually(lambda: model_of(subject) == "three@2")


def test_successors_that_do_not_stay_are_rolled_back(
    versions: list[Path], served: Path, tmp_path: Path
) -> None:
    """The model is good, and its workers cannot write their log."""
    with serving(served, tmp_path, "--workers", "2") as subject:
        port = subject.url.rpartition(":")[2]
        taken = LogFile(tmp_path / "logs" / f"predictions-{port}-3.jsonl", Keeping())
        publish(versions[1], served)
        with load(subject.url, ROWS) as clients:
            os.kill(subject.pid, signal.SIGHUP)
            eventually(lambda: reloads(subject, "failed") == 1)
            eventually(lambda: len(psutil.Process(subject.pid).children()) == 2)
        assert {model_of(subject) for _ in range(20)} == {"three@1"}
        taken.close()
        assert command(subject, "reload") == (0, f"{subject.url} serves three@2.\n")
        assert {model_of(subject) for _ in range(20)} == {"three@2"}
    assert (clients.broken, set(clients.statuses)) == (0, {200})


def test_workers_that_die_young_end_the_server_with_3(served: Path, tmp_path: Path) -> None:
    """Killed as soon as they are there: at most 8 starts, then the end."""
    with serving(served, tmp_path, "--workers", "2") as subject:
        seen: set[int] = set()
        while subject.process.poll() is None:
            for child in psutil.Process(subject.pid).children():
                seen.add(child.pid)
                child.kill()
            time.sleep(0.05)
        assert subject.process.returncode == 3
    assert len(seen) <= 8
    assert "workers ended at once" in (tmp_path / "server.log").read_text()


def test_sigterm_during_a_reload_is_obeyed(served: Path, tmp_path: Path) -> None:
    with serving(served, tmp_path, "--workers", "2") as subject:
        os.kill(subject.pid, signal.SIGHUP)
        subject.process.terminate()
        assert subject.process.wait(15) == 0


def test_command_says_what_it_will_not_do(versions: list[Path], served: Path, tmp_path: Path) -> None:
    with serving(served, tmp_path) as subject:
        assert command(subject, "rollback", served)[1].startswith("expected the model that was served before")
        code, words = command(subject, "publish", tmp_path, served)
        assert (code, words.startswith("expected a model folder")) == (1, True)
        other = tmp_path / "elsewhere"
        code, words = command(subject, "publish", versions[1], other)
        assert (code, "of other folders" in words) == (1, True)
        assert command(subject, "list") == (0, f"{subject.url} serves three@1.\n")
    assert command(subject, "reload")[0] == 1
    assert command(subject, "publish", versions[1], served)[1].endswith(
        f"listens on port {subject.url.rpartition(':')[2]}.\n"
    )


def test_publication_that_the_server_refuses_is_taken_back(
    versions: list[Path], served: Path, tmp_path: Path
) -> None:
    """The model is good, and the server has no key to hide its field in the log with."""
    secret = Path(shutil.copytree(versions[1], tmp_path / "secret"))
    manifest = orjson.loads((secret / "bundle.json").read_bytes())
    manifest["features"][0]["personal"] = "hash"
    (secret / "bundle.json").write_bytes(orjson.dumps(manifest))
    with serving(served, tmp_path) as subject:
        assert command(subject, "publish", secret, served)[0] == 2
        code, words = command(subject, "publish", secret, served, HOTROW_LOG_MODE="off")
        assert (code, "it says why where it logs" in words) == (1, True)
        assert Bundle.load(served).version == "1"
        assert model_of(subject) == "three@1"


def test_folders_are_exchanged_and_back(versions: list[Path], served: Path) -> None:
    publish(versions[1], served)
    assert [Bundle.load(f).version for f in (served, previous(served))] == ["2", "1"]
    roll_back(served)
    assert [Bundle.load(f).version for f in (served, previous(served))] == ["1", "2"]
    with pytest.raises(BundleError, match="model folder"):
        publish(served.parent, served)
    assert Bundle.load(served).version == "1"
