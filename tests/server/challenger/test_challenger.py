"""A challenger beside a served model: scored by a process of its own, answering its share, in no way."""

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shutil import copytree
from typing import Any

import orjson
import psutil
import pytest

from loadtest.harness.recording_client import Load
from loadtest.harness.reference_rows import scored
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import Subject, observer_of
from monitoring.logs.verification import verify
from server.model.arms import SPLIT_FILE, TrafficSplit, challenger_folder
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.bundles import THREE_FEATURES, other_schema_bundle, sample_rows, three_feature_bundle
from tests.support.servers import eventually as soon
from tests.support.servers import exchange, post, run, serving

pytestmark = pytest.mark.whole

ROWS = sample_rows(THREE_FEATURES, 60, seed=11)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Versions of one model that score rows differently."""
    folder = tmp_path_factory.mktemp("arms")
    trees = {"1": 20, "2": 30, "4": 40}
    return [three_feature_bundle(folder / v, v, number).directory for v, number in trees.items()]


@pytest.fixture
def served(versions: list[Path], tmp_path: Path) -> Path:
    return Path(copytree(versions[0], tmp_path / "served"))


def command(subject: Subject, name: str, *words: object) -> tuple[int, str]:
    port = subject.url.rpartition(":")[2]
    done = run("-m", "server.models", name, *map(str, words), "--port", port)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def eventually(fact: Callable[[], bool]) -> None:
    """On a busy machine a process of the lowest priority takes its time."""
    soon(fact, 240)


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [
        orjson.loads(line)
        for file in sorted(folder.glob("challenger-*.ndjson"))
        for line in file.read_bytes().splitlines()
    ]


def answers(url: str, path: str = "/predict", *, pipelined: bool = False) -> list[dict[str, object]]:
    """The answers to all rows, each with a request id; one by one on the fast path, pipelined beside it."""
    requests = [post(path, orjson.dumps(row), f"x-request-id: r-{i}") for i, row in enumerate(ROWS)]
    if pipelined:
        found = exchange(url, b"".join(requests))
    else:
        found = [answer for request in requests for answer in exchange(url, request)]
    assert [answer.status for answer in found] == [200] * len(ROWS)
    return [orjson.loads(answer.body) for answer in found]


def results(url: str, **labels: str) -> dict[str, float]:
    names = ("same", "flipped", "rejected", "shed")
    samples = scrape(url)
    return {name: total(samples, "hotrow_challenger_rows_total", result=name, **labels) for name in names}


def shadow_of(subject: Subject) -> psutil.Process:
    """The process of the challenger, once there is one."""
    found: list[psutil.Process] = []

    def looked() -> bool:
        found[:] = observer_of(subject.pid).children()
        return bool(found)

    eventually(looked)
    return found[0]


def test_challenged_with_a_share_and_promoted(versions: list[Path], served: Path, tmp_path: Path) -> None:
    """It answers its share on both paths, scores what the champion answered, and becomes the champion."""
    one, two = (Predictor(Bundle.load(version)) for version in versions[:2])
    draws = TrafficSplit(40.0).draws("three@2")
    expected = [f"three@{1 + draws(b'r-%d' % i)}" for i in range(len(ROWS))]
    with serving(served, tmp_path, "--workers", "2") as subject:
        code, said = command(subject, "challenge", served, versions[1], "--share", "40")
        assert (code, said) == (0, f"{subject.url} has the challenger three@2.\n")
        first = answers(subject.url)
        for told in (first, answers(subject.url, pipelined=True)):
            assert [answer["model"] for answer in told] == expected
        (batch,) = exchange(subject.url, post("/predict/batch", orjson.dumps({"rows": ROWS[:7]})))
        count = 2 * expected.count("three@1") + 7
        eventually(lambda: results(subject.url)["same"] + results(subject.url)["flipped"] == count)
        (page,) = exchange(subject.url, b"GET /models HTTP/1.1\r\nHost: t\r\n\r\n")
        (arm,) = orjson.loads(page.body)["arms"]
        assert (arm["champion"], arm["challenger"], arm["share"]) == ("three@1", "three@2", 40.0)
        assert command(subject, "promote", served) == (0, f"{subject.url} serves three@2.\n")
        assert {answer["model"] for answer in answers(subject.url)} == {"three@2"}
    assert not challenger_folder(served).exists()
    assert verify([tmp_path / "logs"]).whole
    lines = {line["id"]: line for line in lines_of(tmp_path / "logs")}
    assert len(lines) == count
    sent: list[tuple[object, dict[str, Any], str | None]] = [
        (answer["id"], row, f"r-{i}")
        for i, (answer, row) in enumerate(zip(first, ROWS, strict=True))
        if answer["model"] == "three@1"
    ]
    sent += [(f"{orjson.loads(batch.body)['id']}/{i}", row, None) for i, row in enumerate(ROWS[:7])]
    for id_, row, name in sent:
        encoded, line = one.bundle.schema.encode(row), lines[id_]
        (ours, our), (theirs, their) = one.predict(encoded), two.predict(encoded)
        assert line.get("request_id") == name
        assert (line["score"], line["decision"]) == (ours, one.bundle.outcomes[our])
        assert (line["challenger_score"], line["challenger_decision"]) == (theirs, two.bundle.outcomes[their])


def test_killed_and_stopped_challenger_fails_no_answer(
    versions: list[Path], served: Path, tmp_path: Path
) -> None:
    copytree(versions[1], challenger_folder(served))
    rows = scored([Bundle.load(versions[0])], ROWS)
    with serving(served, tmp_path) as subject:
        shadow = shadow_of(subject)
        with Load(subject.url, rows, pause=0.02) as clients:
            clients.wait_for(200)
            shadow.send_signal(signal.SIGSTOP)
            clients.wait_for(len(clients.records.responses) + 500)
            shadow.kill()
            eventually(lambda: shadow_of(subject).pid != shadow.pid)
            before = results(subject.url)
            eventually(lambda: results(subject.url)["same"] > before["same"])
        subject.process.terminate()
        assert subject.process.wait(60) == 0
    assert set(clients.records.statuses) == {200}
    assert not clients.records.failed
    assert verify([tmp_path / "logs"]).whole


def test_several_challengers_score_beside_each_other(
    versions: list[Path], served: Path, tmp_path: Path
) -> None:
    """One that is killed, one that stands still and one of another schema end nothing of the others."""
    other_schema_bundle(challenger_folder(served), version="3")
    options = [
        f"--challenger={versions[1]}",
        f"--challenger={versions[2]}",
        f"--challenger={tmp_path / 'none'}",
    ]

    def scored_by(label: str) -> float:
        found = results(subject.url, challenger=label)
        return found["same"] + found["flipped"]

    def process_of(label: str) -> psutil.Process:
        found = observer_of(subject.pid).children()
        return next(one for one in found if f'"label":"{label}"' in one.cmdline()[-1])

    with serving(served, tmp_path, *options, "--workers", "2") as subject:
        eventually(lambda: len(observer_of(subject.pid).children()) == 3)
        stopped, killed = process_of("three@2"), process_of("three@4")
        stopped.send_signal(signal.SIGSTOP)
        killed.kill()
        eventually(lambda: len(observer_of(subject.pid).children()) == 3 and not killed.is_running())
        assert {a["model"] for a in answers(subject.url)} == {"three@1"}
        eventually(lambda: results(subject.url, challenger="three@3")["rejected"] == len(ROWS))
        eventually(lambda: scored_by("three@4") == len(ROWS))
        with suppress(psutil.NoSuchProcess):  # ended by the observer, if this took long
            stopped.send_signal(signal.SIGCONT)
        eventually(lambda: scored_by("three@2") == len(ROWS))
        (page,) = exchange(subject.url, b"GET /models HTTP/1.1\r\nHost: t\r\n\r\n")
        arms = {arm["challenger"]: arm["scored_beside"] for arm in orjson.loads(page.body)["arms"]}
        assert [sum(arms[f"three@{version}"].values()) for version in "234"] == [len(ROWS)] * 3
    told = run("-m", "monitoring", "challenge", str(tmp_path / "logs"), "--model", str(served), "--json")
    assert (told.returncode, told.stderr) == (0, "")
    found = {one["challenger"]: one for one in orjson.loads(told.stdout)}
    assert {label: one["rows"] for label, one in found.items()} == {
        "three@2": len(ROWS),
        "three@4": len(ROWS),
    }


def test_challenger_of_another_schema_fails_no_answer(served: Path, tmp_path: Path) -> None:
    """It has a field that rows never have: what it must have, it refuses, and the champion answers."""
    folder = challenger_folder(served)
    other_schema_bundle(folder)
    (folder / SPLIT_FILE).write_bytes(orjson.dumps({"share": 100.0}))
    with serving(served, tmp_path) as subject:
        for pipelined in (False, True):
            assert {a["model"] for a in answers(subject.url, pipelined=pipelined)} == {"three@1"}
        eventually(lambda: results(subject.url)["rejected"] == 2 * len(ROWS))
