"""`python -m server.batch --engine ray`: two real nodes, one killed, and the bits of the local engine."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from loadtest.bench.batch import write_rows
from server.batch.job import BatchJob
from server.model.bundle import Bundle
from tests.support.bundles import CREDIT
from tests.support.ray_cluster import Nodes, ray_python

pytestmark = pytest.mark.whole

ROWS, SHARDS = int(os.environ.get("RAY_ROWS", "30000")), 100
DEADLINE_SECONDS = 600 if ROWS < 10**6 else 1800


def command(source: Path, target: Path, model: Path, *options: str) -> list[str]:
    files = [str(source), str(target), "--model", str(model), "--engine", "ray"]
    return [ray_python(), "-m", "server.batch", *files, *options]


def wait_for(process: "subprocess.Popen[Any]", condition: Any) -> None:
    """Until the condition holds; a process that ends before is a failure."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert process.poll() is None, f"the command ended with {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.01)


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
            wait_for(first, lambda: len(writers(out)) >= 5)
        finally:
            first.kill()
    assert not (out / "_SUCCESS").exists()
    kept = inodes(out)

    with subprocess.Popen(ray, stderr=subprocess.PIPE, text=True, env=joining) as second:
        try:
            wait_for(
                second,
                lambda: (
                    len(writers(out)) > 0.3 * SHARDS
                    and all(set(writers(out)) & nodes.workers(node) for node in (0, 1))
                ),
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
    nodes.add()
