"""py-spy: where a running server spends its time, read from outside of it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from loadtest.harness.subject import LoadTestError

#: Samples a second. A sample stops the server for about 0.2 ms, unwinding C frames
#: for about 1 ms, so seconds that are recorded are never measured.
SAMPLES_PER_SECOND = 250

Form = Literal["flamegraph", "speedscope"]


class NotPermitted(LoadTestError):
    """The kernel does not let us read the server's memory."""


def record(pid: int, seconds: float, file: Path, form: Form, *, subprocesses: bool = False) -> bool:
    """Record a process for some seconds and write a flame graph or a speedscope file.

    A speedscope file has C frames too where py-spy can unwind them; whether it could
    is returned. A flame graph has Python's alone: twenty frames of libraries above
    and below each of ours would leave no room for a name. Raises `NotPermitted`,
    saying what to grant, and `LoadTestError` with py-spy's own words for anything else.
    """
    for native in (form == "speedscope", False):
        done = subprocess.run(
            _command(pid, seconds, file, form, native, subprocesses),
            capture_output=True,
            text=True,
            timeout=seconds + 60,
        )
        if done.returncode == 0 and file.exists():
            if form == "flamegraph":
                _name_it(file)
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


def _command(pid: int, seconds: float, file: Path, form: Form, native: bool, subprocesses: bool) -> list[str]:
    """py-spy's command line; a flame graph has one frame a function, not one a line."""
    options = ["--native"] * native + ["--subprocesses"] * subprocesses
    options += ["--function"] * (form == "flamegraph")
    return [
        _executable(), "record", "--pid", str(pid), "--duration", str(max(1, round(seconds))),
        "--rate", str(SAMPLES_PER_SECOND), "--format", form, "--output", str(file), *options,
    ]  # fmt: skip


def _name_it(graph: Path) -> None:
    """Replace the graph's title, which py-spy makes of its own command line."""
    svg = re.sub(r'(<text id="title"[^>]*>)[^<]*', r"\g<1>Samples by Python function", graph.read_text())
    graph.write_text(svg)


def _executable() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise LoadTestError("expected py-spy to be installed, found none: run `make tools`")
    return found
