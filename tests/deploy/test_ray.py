"""`python -m deploy.ray_serve`: replicas on two real nodes, a bundle updated and a node killed under load."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import psutil
import pytest

from deploy.ray_serve import from_environment
from loadtest.harness.subject import free_port
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.bundles import THREE_FEATURES, sample_rows, three_feature_bundle
from tests.support.ray_cluster import Nodes, ray_python
from tests.support.ray_load import loading

pytestmark = pytest.mark.whole

ROWS = sample_rows(THREE_FEATURES, 199)
#: Answers waited for in each state of the deployment.
ANSWERS = int(os.environ.get("RAY_ANSWERS", "200"))
DEADLINE_SECONDS = 600 if ANSWERS < 1000 else 900


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
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
    return {i: predictor.predict(THREE_FEATURES.encode(row))[0] for i, row in enumerate(ROWS)}


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
    with loading(f"http://127.0.0.1:{port}", [orjson.dumps(row) for row in ROWS]) as load:
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
