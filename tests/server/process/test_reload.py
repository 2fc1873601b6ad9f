"""New models for a running server: taken whole or not at all, without a wrong or a failed answer."""

import ctypes
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from unittest.mock import ANY

import orjson
import psutil
import pytest

from loadtest.harness.recording_client import Load
from loadtest.harness.reference_rows import ReferenceRow, scored
from loadtest.harness.request_records import reconcile
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import Subject, free_port, observer_of, python, runs, workers_of
from monitoring.logs.verification import verify
from server.errors import BundleError
from server.log.file import LogFile
from server.log.rotation import RetentionPolicy
from server.model.bundle import Bundle
from server.process.workers import HUNG_AFTER_SECONDS
from server.publish import commands as models
from server.publish.publication import previous, publish, roll_back
from server.publish.running_server import RunningServer, ServerError
from tests.support.bundles import (
    CREDIT,
    ROW,
    THREE_FEATURES,
    edit,
    sample_rows,
    tell_again,
    three_feature_bundle,
)
from tests.support.commands import run_inside
from tests.support.monitored import monitored_bundle, send_all
from tests.support.servers import address, eventually, exchange, post, run, serving, system_tool

pytestmark = pytest.mark.whole

#: A command of ours, run.
Run = Callable[..., "subprocess.CompletedProcess[str]"]
ROWS = sample_rows(THREE_FEATURES, 40, seed=11)
ROUNDS = int(os.environ.get("RELOAD_ROUNDS", "1"))
# Nonsense whose digest is right.
BAD_CONTENTS = {
    "reference of another form": ("reference.json", b'{"features": [], "score": 1}'),
    "parity report that is no JSON": ("parity.json", b"{"),
}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two versions of one model that score rows differently."""
    folder = tmp_path_factory.mktemp("versions")
    return [
        three_feature_bundle(folder / version, version, trees).directory
        for version, trees in (("1", 20), ("2", 30))
    ]


@pytest.fixture(scope="module")
def rows(versions: list[Path]) -> list[ReferenceRow]:
    return scored([Bundle.load(version) for version in versions], ROWS)


@pytest.fixture
def served(versions: list[Path], tmp_path: Path) -> Path:
    """The folder that the server is given, with the first version in it."""
    return Path(shutil.copytree(versions[0], tmp_path / "served"))


def command(
    subject: Subject, name: str, *folders: Path, run: Run = run_inside, **environment: str
) -> tuple[int, str]:
    port = subject.url.rpartition(":")[2]
    done = run("-m", "server.models", name, *map(str, folders), "--port", port, **environment)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def reloads(subject: Subject, result: str) -> float:
    return total(scrape(subject.url), "hotrow_model_reloads_total", result=result)


def model_of(subject: Subject) -> str:
    (answer,) = exchange(subject.url, post("/predict", orjson.dumps(ROW)))
    return str(orjson.loads(answer.body)["model"])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_published_and_rolled_back_under_load_every_answer_is_its_models(
    versions: list[Path], rows: list[ReferenceRow], served: Path, tmp_path: Path, workers: str
) -> None:
    with serving(served, tmp_path, "--workers", workers) as subject:
        with Load(subject.url, rows, pause=0.02) as clients:
            assert command(subject, "publish", versions[1], served) == (0, f"{subject.url} serves three@2.\n")
            # Said only when the workers of before have ended: not one more answer is theirs.
            assert {model_of(subject) for _ in range(20)} == {"three@2"}
            for _ in range(ROUNDS):
                assert command(subject, "rollback", served) == (0, ANY)
            clients.wait_for(200)
        assert model_of(subject) == ("three@2" if ROUNDS % 2 == 0 else "three@1")
        assert reloads(subject, "ok") == ROUNDS + 1
    assert set(clients.records.statuses) == {200}
    assert not clients.records.failed
    assert {answer.model for answer in clients.records.responses.values()} == {"three@1", "three@2"}
    assert verify([tmp_path / "logs"]).whole
    assert not reconcile(clients.records, tmp_path / "logs").faults


@pytest.mark.parametrize(
    ("workers", "damages"),
    [("1", ["half", "graph", "version", *BAD_CONTENTS, "gone"]), ("2", ["golden", "half"])],
)
def test_bad_model_leaves_the_old_one_serving(
    versions: list[Path],
    rows: list[ReferenceRow],
    served: Path,
    tmp_path: Path,
    workers: str,
    damages: list[str],
) -> None:
    with (
        serving(served, tmp_path, "--workers", workers) as subject,
        Load(subject.url, rows, pause=0.02) as clients,
    ):
        for number, damage in enumerate(damages, 1):
            spoil(served, versions[1], damage)
            os.kill(subject.pid, signal.SIGHUP)
            eventually(lambda: reloads(subject, "failed") == number)  # noqa: B023
            assert model_of(subject) == "three@1"
            shutil.copytree(versions[0], served, dirs_exist_ok=True)
        clients.wait_for(50)
        spoil(served, versions[1], damages[0])
        code, words = command(subject, "reload")
        assert (code, words.startswith("expected the server to take the models")) == (1, True)
        assert (reloads(subject, "failed"), reloads(subject, "ok")) == (len(damages) + 1, 0)
    assert set(clients.records.statuses) == {200}
    assert not clients.records.failed
    log = (tmp_path / "server.log").read_text()
    assert log.count("three@1 goes on being served") == len(damages) + 1
    assert "Traceback" not in log


def spoil(served: Path, new: Path, damage: str) -> None:
    if damage == "gone":
        shutil.rmtree(served)
    elif damage == "version":  # which is no text
        manifest = orjson.loads((served / "bundle.json").read_bytes()) | {"version": 2}
        (served / "bundle.json").write_bytes(orjson.dumps(manifest))
    elif damage in BAD_CONTENTS:
        edit(served, *BAD_CONTENTS[damage])
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


def checks(subject: Subject) -> list[psutil.Process]:
    """The processes that try models for this server."""
    return [child for child in workers_of(subject.pid) if runs(child, "server.process.model_check")]


def in_progress(subject: Subject) -> float:
    return total(scrape(subject.url), "hotrow_model_reload_in_progress")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reload_asked_for_while_one_is_under_way_is_not_lost(
    versions: list[Path], served: Path, tmp_path: Path, workers: str
) -> None:
    with serving(served, tmp_path, "--workers", workers) as subject:
        os.kill(subject.pid, signal.SIGHUP)
        eventually(lambda: checks(subject) != [])
        (check,) = checks(subject)
        check.suspend()  # it has read what it will read, or nothing: the second one decides
        publish(versions[1], served)
        os.kill(subject.pid, signal.SIGHUP)
        eventually(lambda: in_progress(subject) == 1)
        check.resume()
        eventually(lambda: in_progress(subject) == 0)
        assert model_of(subject) == "three@2"
        assert reloads(subject, "ok") + reloads(subject, "failed") == 2


def test_successors_that_hang_leave_the_old_workers_serving(
    versions: list[Path], served: Path, tmp_path: Path
) -> None:
    with serving(served, tmp_path, "--workers", "2", drain_seconds="1") as subject:
        old = set(workers_of(subject.pid))
        publish(versions[1], served)
        os.kill(subject.pid, signal.SIGHUP)
        eventually(lambda: checks(subject) != [])
        others = old | set(checks(subject)) | {observer_of(subject.pid)}
        hung: list[psutil.Process] = []
        while len(hung) < 2:
            # As soon as they are there, before they can answer.
            for child in set(psutil.Process(subject.pid).children()) - others - set(hung):
                child.suspend()
                hung.append(child)
        assert {model_of(subject) for _ in range(20)} == {"three@1"}
        assert in_progress(subject) == 1
        hung[0].kill()  # the other one is ended by the arbiter, sooner or later
        eventually(lambda: in_progress(subject) == 0)
        assert reloads(subject, "failed") == 1
        eventually(lambda: set(workers_of(subject.pid)) == old)


def test_slow_request_across_a_reload_is_answered(versions: list[Path], served: Path, tmp_path: Path) -> None:
    """It takes longer than a worker that gives no sign of life may take."""
    body = orjson.dumps(ROW)
    request = post("/predict", body)
    settings = {"request_timeout_seconds": "120", "drain_seconds": "60"}
    with (
        serving(served, tmp_path, "--workers", "2", **settings) as subject,
        socket.create_connection(address(subject.url), 60) as connection,
        ThreadPoolExecutor(1) as thread,
    ):
        connection.sendall(request[:-1])
        # The command waits for the old workers, of which one waits for this client.
        published = thread.submit(command, subject, "publish", versions[1], served, run=run)
        eventually(lambda: model_of(subject) == "three@2")
        time.sleep(HUNG_AFTER_SECONDS + 1)  # this is what is tested
        connection.sendall(request[-1:])
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert published.result()[0] == 0
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"three@1" in answer


def test_killed_worker_after_a_reload_is_replaced_where_it_was_missed(served: Path, tmp_path: Path) -> None:
    with serving(served, tmp_path, "--workers", "2") as subject:
        assert command(subject, "reload")[0] == 0
        eventually(lambda: len(workers_of(subject.pid)) == 2)
        for victim in workers_of(subject.pid):
            victim.kill()
            eventually(lambda: victim not in workers_of(subject.pid))  # noqa: B023
            eventually(lambda: len(workers_of(subject.pid)) == 2)
        assert [model_of(subject) for _ in range(40)] == ["three@1"] * 40


def test_same_version_with_other_decisions_counts_them_by_their_names(served: Path, tmp_path: Path) -> None:
    with serving(served, tmp_path) as subject:
        manifest = orjson.loads((served / "bundle.json").read_bytes())
        manifest["decision"] |= {"below": "decline", "otherwise": "grant", "threshold": 0.999}
        (served / "bundle.json").write_bytes(orjson.dumps(manifest))
        tell_again(served)
        assert command(subject, "reload")[0] == 0
        (answer,) = exchange(subject.url, post("/predict", orjson.dumps(ROW)))
        samples = scrape(subject.url)
    assert orjson.loads(answer.body)["decision"] == "decline"
    name = "hotrow_predictions_total"
    assert [total(samples, name, decision=d) for d in ("decline", "grant")] == [1, 0]


def test_drift_is_counted_after_a_reload(tmp_path: Path) -> None:
    bundle = monitored_bundle(tmp_path / "three").directory
    with serving(bundle, tmp_path) as subject:
        send_all(subject.url, ROWS)
        eventually(lambda: total(scrape(subject.url), "hotrow_drift_rows") == len(ROWS))
        assert command(subject, "reload")[0] == 0
        send_all(subject.url, ROWS)
        eventually(lambda: total(scrape(subject.url), "hotrow_drift_rows") == 2 * len(ROWS))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_during_the_start_ends_nothing(served: Path, tmp_path: Path, workers: str) -> None:
    started, others = threading.Event(), set(psutil.Process().children())

    def hang_up() -> None:
        while not started.wait(0.02):
            for child in set(psutil.Process().children()) - others:
                with suppress(psutil.Error):
                    # Before its first line it is the interpreter's: that is not what is tested.
                    if "server" in child.cmdline() and child.cpu_times().user > 0.7:
                        child.send_signal(signal.SIGHUP)

    thread = threading.Thread(target=hang_up)
    thread.start()
    try:
        with serving(served, tmp_path, "--workers", workers) as subject:
            started.set()
            thread.join()
            assert model_of(subject) == "three@1"
    finally:
        started.set()
        thread.join()


def test_signal_goes_to_no_stranger(three: Path, tmp_path: Path) -> None:
    """Another service on the port is told nothing."""
    port = free_port()
    stranger = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=three, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        subject = Subject("stranger", f"http://127.0.0.1:{port}", stranger)
        eventually(lambda: command(subject, "list")[1].startswith("expected a Hotrow server"))
        assert command(subject, "reload")[0] == 1
        assert stranger.poll() is None
    finally:
        stranger.terminate()
        stranger.wait(60)


@pytest.mark.parametrize("dies", ["before it is told", "when it is told"])
def test_server_that_ends_is_not_waited_for(server: str, dies: str) -> None:
    """As if it had been killed amid a publication, and its successor answered at the port."""
    # A suite under nohup hands on that SIGHUP is ignored.
    sleeps = ["env", "--default-signal=HUP", "sleep", "600"]
    with subprocess.Popen(sleeps) as process:
        if dies == "before it is told":
            process.kill()
            process.wait()
        # SIGHUP ends it: it was no server.
        with pytest.raises(ServerError, match=f"process {process.pid}, to reload, got its end"):
            RunningServer(process.pid, server).reload()


def test_successors_that_do_not_stay_are_rolled_back(
    versions: list[Path], rows: list[ReferenceRow], served: Path, tmp_path: Path
) -> None:
    """The model is good, and its workers cannot write their log."""
    with serving(served, tmp_path, "--workers", "2", log_mode="strict") as subject:
        port = subject.url.rpartition(":")[2]
        taken = LogFile(tmp_path / "logs" / f"predictions-{port}-3.jsonl", RetentionPolicy())
        publish(versions[1], served)
        with Load(subject.url, rows, pause=0.02) as clients:
            os.kill(subject.pid, signal.SIGHUP)
            eventually(lambda: reloads(subject, "failed") == 1)
            eventually(lambda: len(workers_of(subject.pid)) == 2)
        assert {model_of(subject) for _ in range(20)} == {"three@1"}
        taken.close()
        assert command(subject, "reload") == (0, f"{subject.url} serves three@2.\n")
        assert len(workers_of(subject.pid)) == 2  # the others had ended before it said so
        assert {model_of(subject) for _ in range(20)} == {"three@2"}
    assert set(clients.records.statuses) == {200}
    assert not clients.records.failed


def test_workers_that_die_young_end_the_server_with_3(served: Path, tmp_path: Path) -> None:
    """Killed as soon as they are there: at most 8 starts, then the end."""
    with serving(served, tmp_path, "--workers", "2") as subject:
        seen: set[int] = set()
        while subject.process.poll() is None:
            for child in workers_of(subject.pid):
                seen.add(child.pid)
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            time.sleep(0.05)
        assert subject.process.returncode == 3
    assert len(seen) <= 8
    assert "workers ended at once" in (tmp_path / "server.log").read_text()


@pytest.mark.parametrize("step", ["check", "successors"])
def test_sigterm_during_a_reload_is_obeyed(served: Path, tmp_path: Path, step: str) -> None:
    with serving(served, tmp_path, "--workers", "2") as subject:
        os.kill(subject.pid, signal.SIGHUP)
        if step == "check":
            eventually(lambda: checks(subject) != [])
        else:
            eventually(lambda: len(workers_of(subject.pid)) == 4)
        subject.process.terminate()
        assert subject.process.wait(60) == 0


def test_command_says_what_it_will_not_do(versions: list[Path], served: Path, tmp_path: Path) -> None:
    with serving(served, tmp_path) as subject:
        assert command(subject, "rollback", served)[1].startswith("expected the model that was served before")
        code, words = command(subject, "publish", tmp_path, served)
        assert (code, words.startswith("expected a model folder")) == (1, True)
        for other in (tmp_path / "elsewhere", tmp_path / "not" / "there"):
            code, words = command(subject, "publish", versions[0], other)  # that model is served
            assert (code, words.startswith(f"expected a server of {other}, got one of {served}")) == (1, True)
            assert not other.exists()
        assert command(subject, "list") == (0, f"{subject.url} serves three@1.\n")
    assert command(subject, "reload")[0] == 1
    assert command(subject, "publish", versions[1], served)[1].endswith(
        f"is on port {subject.url.rpartition(':')[2]}.\n"
    )


def test_bundle_of_another_digest_is_not_published(
    versions: list[Path], served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No hash in a folder covers its manifest: whoever exported it says the manifest's own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        models.main(["check", str(versions[1])])
        option, digest = capsys.readouterr().out.splitlines()[-1].split(" ")
        assert (option, digest) == (
            "--digest",
            hashlib.sha256((versions[1] / "bundle.json").read_bytes()).hexdigest(),
        )
        edited = Path(shutil.copytree(versions[1], tmp_path / "edited"))
        manifest = orjson.loads((edited / "bundle.json").read_bytes())
        (edited / "bundle.json").write_bytes(orjson.dumps(manifest | {"title": "Another"}))
        for command_line in (["check", str(edited)], ["publish", str(edited), str(served), "--port", "1"]):
            with pytest.raises(BundleError, match="something in it was changed since"):
                models.main([*command_line, "--digest", digest])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert Bundle.load(served).version == "1"


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
        assert (code, "got a refusal (expected a key" in words) == (1, True)
        assert Bundle.load(served).version == "1"
        assert model_of(subject) == "three@1"


def test_second_folder_of_one_label_is_refused_and_the_command_says_why(
    versions: list[Path], served: Path, tmp_path: Path
) -> None:
    second = Path(shutil.copytree(versions[1], tmp_path / "second"))
    with serving(served, tmp_path, "--model", str(second)) as subject:
        code, words = command(subject, "publish", versions[0], second)
        assert (code, "got three@1 twice" in words) == (1, True)
        assert held(second) == ["2"]


def test_interrupted_publication_is_undone_by_folder_and_server(
    versions: list[Path], served: Path, tmp_path: Path
) -> None:
    with serving(served, tmp_path) as subject:
        os.kill(subject.pid, signal.SIGSTOP)
        arguments = ["publish", str(versions[1]), str(served), "--port", subject.url.rpartition(":")[2]]
        with subprocess.Popen(python("-m", "server.models", *arguments)) as publication:
            os.kill(subject.pid, signal.SIGCONT)
            # One file: a whole bundle that is read meanwhile can be half of each.
            eventually(lambda: orjson.loads((served / "bundle.json").read_bytes())["version"] == "2")
            publication.send_signal(signal.SIGTERM)
        assert publication.returncode == 130
        assert Bundle.load(served).version == "1"
        # It was told of the new one, and then of the old, or of neither.
        eventually(lambda: in_progress(subject) == 0 and model_of(subject) == "three@1")


def test_publication_done_twice_keeps_the_way_back(versions: list[Path], served: Path) -> None:
    for _ in range(2):
        publish(versions[1], served).keep()
    assert held(served) == ["2", "1"]
    roll_back(served)
    assert held(served) == ["1", "2"]


@pytest.mark.parametrize("is_back", [False, True])
def test_publication_cut_short_is_completed_by_the_next(
    versions: list[Path], served: Path, is_back: bool
) -> None:
    """By SIGKILL between two renames: what was served is the way back, or is served again."""
    replaced = served.with_name(f".{served.name}.replaced")
    served.rename(replaced)
    if is_back:
        shutil.copytree(versions[1], served)
        roll_back(served)
        assert held(served) == ["1", "2"]
    else:
        publish(versions[1], served).keep()
        assert held(served) == ["2", "1"]
    assert not replaced.exists()


def test_two_publications_at_once_come_one_after_the_other(
    versions: list[Path], served: Path, tmp_path: Path
) -> None:
    third = three_feature_bundle(tmp_path / "third", "3", 25).directory
    port = str(free_port())
    publications = [
        subprocess.Popen(
            python("-m", "server.models", "publish", str(new), str(served), "--port", port),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for new in (versions[1], third)
    ]
    words = [publication.communicate(timeout=120)[0] for publication in publications]
    assert [publication.returncode for publication in publications] == [0, 0], words
    assert sorted(held(served)) == ["2", "3"]
    assert not leftovers(served)


@pytest.mark.parametrize("call", ["rename", "renameat2"])
@pytest.mark.parametrize("when", [1, 2, 3])
def test_publication_killed_at_any_rename_leaves_a_folder_that_starts(
    versions: list[Path], served: Path, call: str, when: int
) -> None:
    """A reader finds one of the two versions, and the next publication clears away what is left."""
    publish(versions[1], served).keep()
    publish(versions[0], served).keep()
    arguments = ["publish", str(versions[1]), str(served), "--port", str(free_port())]
    strace = [system_tool("strace"), "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}"]
    done = subprocess.run(
        [*strace, "-e", f"inject={call}:signal=KILL:when={when}", *python("-m", "server.models", *arguments)],
        capture_output=True,
        timeout=120,
        check=False,
    )
    if b"ptrace" in done.stderr:
        pytest.skip("strace may not trace: it needs CAP_SYS_PTRACE")
    assert Bundle.load(served).version in "12"
    publish(versions[1], served).keep()
    assert held(served)[0] == "2"
    assert not leftovers(served)


def leftovers(served: Path) -> list[str]:
    """What stands beside a folder apart from the way back."""
    return [path.name for path in served.parent.glob(f".{served.name}.*") if path != previous(served)]


def test_start_finishes_an_exchange_in_two_steps(versions: list[Path], served: Path, tmp_path: Path) -> None:
    """As on a file system that cannot exchange two names."""
    served.rename(served.with_name(f".{served.name}.replaced"))
    with serving(served, tmp_path) as subject:
        assert model_of(subject) == "three@1"
    assert held(served) == ["1"]
    assert not leftovers(served)


def test_file_system_that_cannot_exchange_names_gets_the_renames(
    versions: list[Path], served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    publish(versions[1], served).keep()
    assert held(served) == ["2", "1"]
    roll_back(served)
    assert held(served) == ["1", "2"]
    assert not leftovers(served)


def test_other_content_under_a_label_that_was_served_is_refused(
    versions: list[Path], served: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(versions[0], tmp_path / "other"))
    manifest = orjson.loads((other / "bundle.json").read_bytes())
    manifest["decision"]["threshold"] = 0.999
    (other / "bundle.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(BundleError, match=r"got other content under three@1.*--version"):
        publish(other, served)
    publish(versions[1], served).keep()
    with pytest.raises(BundleError, match="got other content under three@1"):
        publish(other, served)  # which it is the way back to
    assert held(served) == ["2", "1"]


def test_damaged_model_can_be_replaced_and_is_no_way_back(versions: list[Path], served: Path) -> None:
    (served / "model.onnx").write_bytes(b"")
    publish(versions[1], served).keep()
    assert held(served) == ["2"]


def held(served: Path) -> list[str]:
    """The versions in a folder and before it."""
    return [Bundle.load(folder).version for folder in (served, previous(served)) if folder.exists()]


@pytest.mark.parametrize("linked", [False, True])
def test_folders_are_exchanged_and_back(versions: list[Path], served: Path, linked: bool) -> None:
    place = served
    if linked:
        place = served.with_name("current")
        place.symlink_to(served.name)
    publish(versions[1], place).keep()
    assert held(place) == ["2", "1"]
    publish(versions[0], place).undo()
    assert held(place) == ["2", "1"]
    roll_back(place)
    assert held(place) == ["1", "2"]
    roll_back(place).undo()
    assert held(place) == ["1", "2"]
    with pytest.raises(BundleError, match="model folder"):
        publish(served.parent, place)
    with pytest.raises(BundleError, match="another version of three"):
        publish(CREDIT, place)
    assert held(place) == ["1", "2"]
    assert place.is_symlink() == linked
    assert not list(served.parent.glob(".*incoming")) + list(served.parent.glob(".*replaced"))


def test_lost_folder_is_brought_back(versions: list[Path], served: Path) -> None:
    """As after a power cut between the two renames of a publication."""
    publish(versions[1], served).keep()
    shutil.rmtree(served)
    roll_back(served)
    assert held(served) == ["1"]


def test_first_publication_is_undone(versions: list[Path], tmp_path: Path) -> None:
    publish(versions[0], tmp_path / "new").undo()
    assert list(tmp_path.iterdir()) == []
