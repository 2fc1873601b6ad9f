"""Foreign files are read in a child process: what crashes or eats memory there ends there.

LightGBM, XGBoost and ONNX Runtime are C++; a damaged file can end the process
that reads it. The parent then still says one sentence.
"""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable

from export.errors import ExportRefused

MEMORY_BYTES = 12 << 30


def guarded(command: Callable[[], int]) -> int:
    """Run `command` in a child process and return its exit code.

    Raises `ExportRefused` if the child was killed by a signal. Called before any
    other thread exists: the child is a fork.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            code = command()
        except Exception:  # noqa: BLE001  # os._exit below would swallow a mistake of ours
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        raise ExportRefused(
            f"expected a whole model, got one that ended the library that reads it ({name}): save it again"
        )
    return os.waitstatus_to_exitcode(status)
