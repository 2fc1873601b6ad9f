"""Real servers for the tests, on free ports of 127.0.0.1, ended by their pid."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable

import pytest

from loadtest.harness.http_bytes import RawResponse as RawResponse
from loadtest.harness.http_bytes import address as address
from loadtest.harness.http_bytes import exchange as exchange
from loadtest.harness.http_bytes import post as post
from loadtest.harness.subject import python
from loadtest.harness.target import serving as serving


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command of ours, run to its end."""
    return subprocess.run(
        python(*arguments), capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )


def eventually(fact: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is true of a server, and fail if it is not in time."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.05)


def system_tool(name: str) -> str:
    """The path of a tool `make system` installs; without it the test skips, or fails in CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed: run `make system`")
        pytest.skip(f"{name} is not installed: `make system` installs it")
    return found
