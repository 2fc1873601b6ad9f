"""`python -m server.batch --engine ray`: two real nodes, one killed, and the bits of the local engine."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from server.batch_job import BatchJob
from server.bundle import Bundle
from tests.bundles import THREE_FEATURES, sample_rows
from tests.ray_cluster import Nodes, ray_python
from tests.test_batch import table

COPIES, SHARD_BYTES = 200, 25_000
DEADLINE_SECONDS = 120


def command(source: Path, target: Path, three: Path, *options: str) -> list[str]:
    files = [str(source), str(target), "--model", str(three), "--engine", "ray"]
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


def test_batch_outlives_its_command_and_a_node(three: Path, tmp_path: Path, nodes: Nodes) -> None:
    """The command is killed, run again, then a node is killed: complete, equal, nothing written twice."""
    source, whole, out = tmp_path / "in.csv", tmp_path / "whole.csv", tmp_path / "out"
    header, _, records = table(sample_rows(THREE_FEATURES, 300)).partition("\n")
    source.write_text(header + "\n" + records * COPIES)
    BatchJob(source, whole, Bundle.load(three), "fail", 2).run(lambda *_: None)
    ray = command(source, out, three, "--address", nodes.address, "--shard-size", str(SHARD_BYTES))

    first = subprocess.Popen(ray, stderr=subprocess.DEVNULL)
    wait_for(first, lambda: len(writers(out)) >= 5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (out / "_SUCCESS").exists()

    second = subprocess.Popen(ray, stderr=subprocess.PIPE, text=True)
    wait_for(second, lambda: all(set(writers(out)) & nodes.workers(node) for node in (0, 1)))
    before = inodes(out)
    nodes.kill()
    _, said = second.communicate(timeout=DEADLINE_SECONDS)
    assert second.returncode == 0, said
    assert "of an interrupted run" in said

    shards = sorted(out.glob("part-*"))
    assert 5 <= len(before) < len(shards)
    assert {name: inode for name, inode in inodes(out).items() if name in before} == before
    assert [path.name for path in sorted(out.iterdir())] == [
        "_SUCCESS", "_manifest.json", *(path.name for path in shards)
    ]  # fmt: skip
    manifest = json.loads((out / "_manifest.json").read_bytes())
    assert [shard["name"] for shard in manifest["shards"]] == [path.name for path in shards]
    columns = whole.read_bytes().partition(b"\n")[0] + b"\n"
    joined = b"".join(path.read_bytes().removeprefix(columns) for path in shards)
    assert columns + joined == whole.read_bytes()
    nodes.add()
