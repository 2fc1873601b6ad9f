"""py-spy: where a running server spends its time, read from outside of it."""

import shutil
import subprocess
import sys
from pathlib import Path

from loadtest.harness.subject import LoadTestError

#: Samples a second. A sample stops the server for about 0.2 ms, unwinding C frames
#: for about 1 ms, so seconds that are recorded are never measured.
SAMPLES_PER_SECOND = 250


class NotPermitted(LoadTestError):
    """The kernel does not let us read the server's memory."""


def record(pid: int, seconds: float, file: Path, *, subprocesses: bool = False) -> bool:
    """Record a process for some seconds and write a speedscope file.

    It has C frames too where py-spy can unwind them; whether it could is returned.
    Raises `NotPermitted`, saying what to grant, and `LoadTestError` with py-spy's own
    words for anything else.
    """
    for native in (True, False):
        done = subprocess.run(
            _command(pid, seconds, file, native, subprocesses),
            capture_output=True,
            text=True,
            timeout=seconds + 60,
        )
        if done.returncode == 0 and file.exists():
            return native
        if "ermission" in done.stderr:
            raise NotPermitted(permission_sentence())
    reason = done.stderr.strip().splitlines()[-1:] or ["no reason"]
    raise LoadTestError(f"expected py-spy to record process {pid}, got: {reason[0].removeprefix('Error: ')}")


def permission_sentence() -> str:
    """What to grant."""
    return (
        "expected permission for py-spy to read the server's memory, got none: run as root, or let users "
        "trace their processes with `echo 0 | sudo tee /proc/sys/kernel/yama/ptrace_scope`, or start the "
        "container with `--cap-add SYS_PTRACE`"
    )


def _command(pid: int, seconds: float, file: Path, native: bool, subprocesses: bool) -> list[str]:
    options = ["--native"] * native + ["--subprocesses"] * subprocesses
    return [
        _executable(), "record", "--pid", str(pid), "--duration", str(max(1, round(seconds))),
        "--rate", str(SAMPLES_PER_SECOND), "--format", "speedscope", "--output", str(file), *options,
    ]  # fmt: skip


def _executable() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise LoadTestError("expected py-spy to be installed, found none: run `make tools`")
    return found
