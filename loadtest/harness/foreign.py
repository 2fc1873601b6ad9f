"""wrk and hey beside our own clients: what they say of resets is nobody's word of ours."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.harness.bodies import wrk_script
from loadtest.harness.closed_loop import read_wrk, wrk
from loadtest.harness.reference_rows import ReferenceRow

CONNECTIONS = 16
#: hey's words for a connection that never was: nothing was sent over it.
REFUSED = "connection refused"


@dataclass
class Foreign:
    """What wrk and hey counted together, over all runs.

    `answered` are answers of 200, `failed` what failed after it was sent, by kind,
    `refused` connections that never were, `missing` the tools that are not here.
    """

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    missing: list[str] = field(default_factory=list)


@contextmanager
def foreign_load(
    url: str, rows: Sequence[ReferenceRow], seconds: int, folder: Path, tally: Foreign
) -> Iterator[None]:
    """wrk and hey, if they are installed, at the same time for so long; counted into `tally`."""
    path = f"{url}/predict"
    bodies = [row.request.partition(b"\r\n\r\n")[2] for row in rows[:200]]
    commands: dict[str, list[str]] = {}
    if shutil.which("wrk"):
        commands["wrk"] = wrk(path, seconds, CONNECTIONS, wrk_script(bodies, folder / "post.lua"))
    if shutil.which("hey"):
        body = folder / "body.json"
        body.write_bytes(bodies[0])
        commands["hey"] = [
            "hey", "-z", f"{seconds}s", "-c", str(CONNECTIONS), "-m", "POST",
            "-T", "application/json", "-D", str(body), path,
        ]  # fmt: skip
    tally.missing = [tool for tool in ("wrk", "hey") if tool not in commands]
    started = {
        tool: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for tool, command in commands.items()
    }
    try:
        yield
    finally:
        for tool, process in started.items():
            output, _ = process.communicate(timeout=seconds + 60)
            _READERS[tool](output, tally)


def _read_wrk(output: str, tally: Foreign) -> None:
    done = read_wrk(output)
    if done is None:
        tally.failed["wrk without a response"] += 1
        return
    tally.answered += done.requests - done.not_200
    # It sees that a connection was refused when it writes to it, and counts that as a write error.
    tally.refused += done.connect + done.write
    tally.failed += Counter({"not 200": done.not_200, "read": done.read, "timeout": done.timeout})


def _read_hey(output: str, tally: Foreign) -> None:
    for status, responses in re.findall(r"\[(\d{3})\]\s+(\d+) responses", output):
        if status == "200":
            tally.answered += int(responses)
        else:
            tally.failed[f"status {status}"] += int(responses)
    _, _, errors = output.partition("Error distribution:")
    for count, error in re.findall(r"\[(\d+)\]\s+(.+)", errors):
        if REFUSED in error:
            tally.refused += int(count)
        else:
            tally.failed[error.rpartition(": ")[2]] += int(count)


_READERS = {"wrk": _read_wrk, "hey": _read_hey}
