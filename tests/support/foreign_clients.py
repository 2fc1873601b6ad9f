"""The environment of other people's clients, whose pins clash with ours (`make foreign`)."""

import os
from pathlib import Path

import pytest

FOREIGN = Path(".venv-foreign/bin/python")


def foreign_python() -> str:
    """The interpreter that has tritonclient and kserve; skips, or fails in CI, without one."""
    if not FOREIGN.exists():
        words = "no environment of foreign clients: run `make foreign`"
        if os.environ.get("CI") == "true":
            pytest.fail(words)
        pytest.skip(words)
    return str(FOREIGN.absolute())
