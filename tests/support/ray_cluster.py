"""Ray clusters for the tests, in the environment that `make ray` makes."""

import json
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

PYTHON = Path(".venv-ray/bin/python")


def ray_python() -> str:
    """The interpreter that has Ray; skips, or fails in CI, without one."""
    if not PYTHON.exists():
        words = "no environment of Ray: run `make ray`"
        if os.environ.get("CI") == "true":
            pytest.fail(words)
        pytest.skip(words)
    return str(PYTHON.absolute())


class Nodes:
    """A running cluster: the address of its head, the raylet of each node, what a command shows to join."""

    def __init__(self, process: "subprocess.Popen[str]", token: dict[str, str]) -> None:
        self._process, self.token = process, token
        self.raylets: list[int] = []
        self.address = self._started()
        self._started()

    def add(self) -> None:
        """Start one more node."""
        assert self._process.stdin is not None
        self._process.stdin.write("node\n")
        self._process.stdin.flush()
        self._started()

    def kill(self) -> None:
        """SIGKILL the raylet of the node that came last; its workers end with it."""
        os.kill(self.raylets.pop(), signal.SIGKILL)

    def workers(self, node: int) -> set[int]:
        """The processes of one node."""
        return {child.pid for child in psutil.Process(self.raylets[node]).children(recursive=True)}

    def _started(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the Ray cluster did not start"
        said = json.loads(line)
        self.raylets.append(said["raylet"])
        return str(said["address"])


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    """A cluster of two nodes with one virtual core each."""
    command = [ray_python(), "-W", "ignore", "-m", "tests.support.ray_nodes"]
    with tempfile.NamedTemporaryFile("w", prefix="ray-token-") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": file.name}
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | token,
        )
        try:
            yield Nodes(process, token)
        finally:
            process.communicate(timeout=60)
