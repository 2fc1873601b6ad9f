"""What tests need root for: namespaces of their own."""

import os
import subprocess
import sys

import pytest


def needs_root() -> None:
    """Skip the test for another user than root; fail in CI, which runs as root."""
    if os.geteuid() != 0:
        words = "namespaces of one's own need root: run as root, or in CI"
        if os.environ.get("CI") == "true":
            pytest.fail(words)
        pytest.skip(words)


def apart(*arguments: str, timeout: float = 240.0) -> "subprocess.CompletedProcess[str]":
    """`python ARGUMENTS` with mounts and processes of its own, which end with it."""
    needs_root()
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)
