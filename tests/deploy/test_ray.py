"""What runs on Ray, on two real nodes of which one is killed: replicas under load, and a batch.

In one file, for both to have one cluster: its processes cost more than what they are asked.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from deploy.ray_serve import from_environment
from loadtest.bench.batch import write_rows
from loadtest.harness.subject import free_port
from server.batch.job import BatchJob
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.bundles import CREDIT, THREE_FEATURES, sample_rows, three_feature_bundle
from tests.support.ray_cluster import Nodes, ray_python, two_nodes
from tests.support.ray_load import loading

pytestmark = pytest.mark.whole

ASKED = sample_rows(THREE_FEATURES, 199)
#: Answers waited for in each state of the deployment.
ANSWERS = int(os.environ.get("RAY_ANSWERS", "200"))
#: Of the batch.
ROWS, SHARDS = int(os.environ.get("RAY_ROWS", "30000")), 100
DEADLINE_SECONDS = 600 if ROWS < 10**6 else 1800


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with two_nodes() as started:
        yield started


@pytest.fixture
def nodes(cluster: Nodes) -> Nodes:
    """A Ray cluster of two nodes: the one that the test before had killed is replaced."""
    if len(cluster.raylets) < 2:
        cluster.add()
    return cluster


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[Any] | None" = None) -> None:
    """Until the condition holds; a process that ends before is a failure."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert process is None or process.poll() is None, f"the command ended with {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def deploy(
    model: Path, nodes: Nodes, port: int, logs: Path, *options: str
) -> "subprocess.CompletedProcess[str]":
    """What the command did; given again where it says so: an actor of Ray's may end on a busy machine."""
    command = [
        *(ray_python(), "-W", "ignore", "-m", "deploy.ray_serve", "--model", str(model), "--replicas", "2"),
        *("--address", nodes.address, "--port", str(port), *options),
    ]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(logs), "HOTROW_LOG_DIR": str(logs), **nodes.token}
    for _ in range(3):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, env=environment
        )
        if "give the same command again" not in done.stderr:
            break
    return done


def replicas(nodes: Nodes) -> list[int]:
    """How many replicas each node has."""
    names = [[psutil.Process(pid).name() for pid in nodes.workers(node)] for node in (0, 1)]
    return [sum("Replica" in name for name in found) for found in names]


def expected(model: Path) -> dict[int, float]:
    predictor = Predictor(Bundle.load(model))
    return {i: predictor.predict(THREE_FEATURES.encode(row))[0] for i, row in enumerate(ASKED)}


def test_replicas_get_the_settings_without_the_secrets() -> None:
    environ = {
        "HOTROW_DRAIN_SECONDS": "7",
        "HOTROW_UI_AUTH": "ann:secret",
        "HOTROW_LOG_MODE": "off",
        "A": "b",
    }
    options = from_environment(environ)
    assert options["graceful_shutdown_timeout_s"] == 7
    sent = options["ray_actor_options"]["runtime_env"]["env_vars"]
    assert sent.keys() == {"HOTROW_DRAIN_SECONDS", "HOTROW_LOG_MODE", "HOTROW_LOG_DIR"}


@pytest.mark.timeout(900)  # Ray starts processes by the dozen
def test_update_and_lost_node_under_load_answer_nothing_wrong(
    three: Path, tmp_path: Path, nodes: Nodes
) -> None:
    port, fresh = free_port(), three_feature_bundle(tmp_path / "fresh", version="2", trees=30).directory
    spoiled = tmp_path / "spoiled"
    shutil.copytree(fresh, spoiled)
    (spoiled / "model.onnx").write_bytes(b"spoiled")
    served = tmp_path / "served"
    shutil.copytree(three, served)
    done = deploy(served, nodes, port, tmp_path)
    assert done.returncode == 0, done.stderr
    assert replicas(nodes) == [1, 1]
    elsewhere = deploy(served, nodes, free_port(), tmp_path)
    assert (elsewhere.returncode, elsewhere.stderr.count("\n")) == (1, 1)
    assert f"--port {port}, where Serve of this cluster listens already" in elsewhere.stderr
    many = deploy(served, nodes, port, tmp_path, "--replicas", "9")
    assert (many.returncode, many.stderr.count("\n")) == (1, 1)
    assert "each of 9 replicas, got 2 cores" in many.stderr
    with loading(f"http://127.0.0.1:{port}", [orjson.dumps(row) for row in ASKED]) as load:
        wait_for(lambda: len(load.answers) >= ANSWERS)
        refused = deploy(spoiled, nodes, port, tmp_path)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert load.models(last=100) == {"three@1"}

        served.rename(tmp_path / "before")  # the same folder, another bundle
        shutil.copytree(fresh, served)
        done = deploy(served, nodes, port, tmp_path)
        assert done.returncode == 0, done.stderr
        updated = len(load.answers)
        assert not load.failures  # an update loses no request
        wait_for(lambda: len(load.answers) >= updated + ANSWERS)
        assert load.models(last=100) == {"three@2"}

        shares = load.replicas(last=ANSWERS)
        assert len(shares) == 2
        assert shares[0] > ANSWERS / 10  # the one that is lost was at work
        nodes.kill()
        killed = len(load.answers)
        wait_for(lambda: len(load.answers) >= killed + ANSWERS)
        nodes.add()
        wait_for(lambda: replicas(nodes) == [1, 1])

    right = {"three@1": expected(three), "three@2": expected(fresh)}
    assert right["three@1"] != right["three@2"]
    wrong = [answer for answer in load.answers if right[answer.model][answer.row] != answer.probability]
    assert wrong == []
    print(f"{len(load.answers)} right, 0 wrong, {len(load.failures)} failed: {set(load.failures)}")
    # Those that were under way at the node, and what a connection sent before Ray knew.
    assert len(load.failures) < len(load.answers) / 10
    assert deploy(served, nodes, port, tmp_path, "--down").returncode == 0
    assert replicas(nodes) == [0, 0]


def command(source: Path, target: Path, model: Path, *options: str) -> list[str]:
    files = [str(source), str(target), "--model", str(model), "--engine", "ray"]
    return [ray_python(), "-m", "server.batch", *files, *options]


def writers(folder: Path) -> list[int]:
    """The process that wrote each shard that is described so far."""
    known = [json.loads(path.read_bytes()) for path in folder.glob("_work/0*.json")]
    return [int(shard["writer"].rpartition(":")[2]) for shard in known]


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("part-*")}


def is_joined(shards: list[Path], whole: Path) -> bool:
    """Whether the shards, each with the header, are the whole file to the byte."""
    with open(whole, "rb") as file:
        header = file.readline()
        for path in shards:
            with open(path, "rb") as shard:
                if shard.readline() != header:
                    return False
                while text := shard.read(2**20):
                    if file.read(len(text)) != text:
                        return False
        return file.read(1) == b""


@pytest.mark.timeout(900)  # Ray starts processes by the dozen
def test_batch_outlives_its_command_and_a_node(tmp_path: Path, nodes: Nodes) -> None:
    """The command is killed, run again, then a node is killed: complete, equal, nothing written twice."""
    source, whole, out = tmp_path / "in.csv", tmp_path / "whole.csv", tmp_path / "out"
    write_rows(Bundle.load(CREDIT), source, ROWS)
    local = BatchJob(source, whole, Bundle.load(CREDIT), "fail", 2).run(lambda *_: None)
    assert local.rows == ROWS
    size = source.stat().st_size // SHARDS
    ray = command(source, out, CREDIT, "--address", nodes.address, "--shard-size", str(size))

    joining = os.environ | nodes.token
    with subprocess.Popen(ray, stderr=subprocess.DEVNULL, env=joining) as first:
        try:
            wait_for(lambda: len(writers(out)) >= 5, first)
        finally:
            first.kill()
    assert not (out / "_SUCCESS").exists()
    kept = inodes(out)

    with subprocess.Popen(ray, stderr=subprocess.PIPE, text=True, env=joining) as second:
        try:
            wait_for(
                lambda: (
                    len(writers(out)) > 0.3 * SHARDS
                    and all(set(writers(out)) & nodes.workers(node) for node in (0, 1))
                ),
                second,
            )
            before = inodes(out)
            nodes.kill()
            _, said = second.communicate(timeout=DEADLINE_SECONDS)
        finally:
            second.kill()
    assert second.returncode == 0, said
    assert "of an interrupted run" in said

    shards = sorted(out.glob("part-*"))
    assert len(kept) < len(before) < len(shards)
    assert {name: inode for name, inode in inodes(out).items() if name in before} == before
    assert kept.items() <= before.items()
    assert [path.name for path in sorted(out.iterdir())] == [
        "_SUCCESS", "_manifest.json", *(path.name for path in shards)
    ]  # fmt: skip
    manifest = json.loads((out / "_manifest.json").read_bytes())
    assert manifest["rows"] == ROWS
    assert [shard["name"] for shard in manifest["shards"]] == [path.name for path in shards]
    assert is_joined(shards, whole)
    print(
        f"{ROWS:,} rows in {len(shards)} shards: the command was killed after {len(kept)}, a node after "
        f"{len(before)}; complete, equal to the bit, none of the {len(before)} files touched again.\n{said}"
    )


@pytest.mark.timeout(900)  # Ray starts processes by the dozen
def test_file_that_changes_while_it_is_scored_is_refused(tmp_path: Path, nodes: Nodes) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out"
    write_rows(Bundle.load(CREDIT), source, ROWS)
    size = source.stat().st_size // SHARDS
    ray = command(source, out, CREDIT, "--address", nodes.address, "--shard-size", str(size))
    with subprocess.Popen(ray, stderr=subprocess.PIPE, text=True, env=os.environ | nodes.token) as process:
        try:
            wait_for(lambda: len(writers(out)) >= 5, process)
            with source.open("a") as file:
                file.write("\n")
            _, said = process.communicate(timeout=DEADLINE_SECONDS)
        finally:
            process.kill()
    assert process.returncode != 0
    assert "to stay as it was while it is scored" in said
    assert not out.exists()
