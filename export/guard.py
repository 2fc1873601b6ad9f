"""Foreign files are read in a process of their own: what crashes or eats memory there ends there.

LightGBM, XGBoost and ONNX Runtime are C++; a damaged file can end the process
that reads it. The parent then still says one sentence.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from export.errors import ExportRefused

MEMORY_BYTES = 12 << 30


def guarded(module: str, arguments: Sequence[str]) -> int:
    """Run `python -m MODULE ARGUMENTS` and return its exit code.

    Raises `ExportRefused` if it was killed by a signal. It is started, not forked:
    who calls this may have trained a model before, and a fork of a process in which
    OpenMP has threads waits for ever for those that it did not get.
    """
    flags = ["-X", "dev"] if sys.flags.dev_mode else []
    paths = (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    code = subprocess.run([sys.executable, *flags, "-m", module, *arguments], env=environment).returncode
    if code < 0:
        raise ExportRefused(
            "expected a whole model, got one that ended the library that reads it "
            f"({signal.Signals(-code).name}): save it again"
        )
    return code


def limit_memory() -> None:
    """From here on this process may not take more than `MEMORY_BYTES`, and leaves no core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
