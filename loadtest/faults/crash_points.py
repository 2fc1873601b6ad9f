"""F13: the log's file, with every system call of a rotation and of a start killed or failed in turn.

As SQLite tests its crashes. The thousand random cuts of the same plan are in
`tests/server/log/test_prediction_log_file.py`.
"""

import logging
import mmap
import os
import re
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from loadtest.faults.disk import strace
from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene, needs_tool
from server.errors import SettingsError
from server.log.file import LogFile
from server.log.rotation import RetentionPolicy, closed_files

LINES = [b'{"seq":%d,"input":"%s"}\n' % (i, b"x" * (i * 7 % 90)) for i in range(1, 31)]
KEEPING = RetentionPolicy(file_bytes=600)
TORN = b'{"seq":0,"inp'
CALLS = ("openat", "writev", "rename", "fsync", "ftruncate", "fchmod", "flock", "pread64", "close", "mkdir")
ERRORS = ("ENOSPC", "EIO")


class Written(NamedTuple):
    """Which lines a process said were written, and which were refused, by their index."""

    accepted: list[int]
    refused: list[int]


def crash_points(scene: Scene, outcome: FaultOutcome) -> None:
    """SIGKILL, ENOSPC and EIO at each system call of a start and of rotations."""
    needs_tool("strace")
    logging.getLogger("server").setLevel(logging.CRITICAL)  # it would tell of every crash
    counts = _calls(scene.new_folder())
    points = [(call, n) for call in CALLS for n in range(1, counts[call] + 1)]
    points = points[:: 1 if not scene.short else 8]
    bad: list[str] = []
    tried = 0
    for effect in ("signal=KILL", *(f"error={error}" for error in ERRORS)):
        for call, n in points:
            with tempfile.TemporaryDirectory(dir=scene.folder) as folder:
                problem = _try(Path(folder), f"inject={call}:{effect}:when={n}")
            tried += 1
            if problem:
                bad.append(f"{call} {n} {effect}: {problem}")
    outcome.figures["system calls"] = ", ".join(f"{count} {call}" for call, count in counts.items() if count)
    outcome.expect(
        f"every accepted line once, no other, in {tried} crashes and failures", not bad, bad[:3] or "so"
    )


def _calls(folder: Path) -> Counter[str]:
    """How often each call is made when nothing fails."""
    trace = folder / "trace"
    pid, written = _fork(folder)
    process = subprocess.Popen(
        ["strace", "-o", str(trace), "-e", "trace=" + ",".join(CALLS), "-p", str(pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    process.stderr.readline()
    os.kill(pid, signal.SIGCONT)
    os.waitpid(pid, 0)
    process.communicate(timeout=30)
    written.close()
    found = re.findall(r"^(\w+)\(", trace.read_text(), re.MULTILINE)
    return Counter(call for call in found if call in CALLS)


def _try(folder: Path, inject: str) -> str:
    """One crash or failure; what is wrong with the log after the next start, "" if nothing is."""
    pid, memory = _fork(folder)
    call = inject.removeprefix("inject=").partition(":")[0]
    with strace(pid, "-e", f"trace={call}", "-e", inject):
        os.kill(pid, signal.SIGCONT)
        os.waitpid(pid, 0)
    written = _read(memory)
    memory.close()
    path = folder / "a.jsonl"
    try:
        again = LogFile(path, KEEPING)
        again.append([b'{"seq":"after"}\n'])
        again.close()
    except (SettingsError, OSError) as error:
        return f"the next start is refused: {error}"
    content = b"".join(file.read_bytes() for file in [*closed_files(path), path])
    lines = Counter(content.splitlines(keepends=True))
    if lost := [i for i in written.accepted if lines[LINES[i]] != 1]:
        return f"{len(lost)} accepted lines not there once"
    if there := [i for i in written.refused if lines[LINES[i]]]:
        return f"{len(there)} refused lines there"
    if others := set(lines) - set(LINES) - {b'{"seq":"after"}\n', _OLD}:
        return f"{len(others)} lines nobody wrote"
    return "" if lines[_OLD] == 1 else "the line of the earlier run is not there once"


_OLD = b'{"seq":"before"}\n'


def _fork(folder: Path) -> tuple[int, mmap.mmap]:
    """A stopped process that will write `LINES`, and the memory in which it says what became of each."""
    (folder / "a.jsonl").write_bytes(_OLD + TORN)  # of a process that was killed
    memory = mmap.mmap(-1, len(LINES))
    pid = os.fork()
    if pid == 0:
        try:
            os.kill(os.getpid(), signal.SIGSTOP)
            _write(folder / "a.jsonl", memory.__setitem__)
        finally:  # whatever fails: what stands above on the stack is the parent's
            os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    return pid, memory


def _write(path: Path, say: Callable[[int, int], None]) -> None:
    try:
        file = LogFile(path, KEEPING)
    except SettingsError:
        return
    for i, line in enumerate(LINES):
        try:
            file.append([line])
        except OSError:
            say(i, ord("r"))
        else:
            say(i, ord("a"))
    file.close()


def _read(memory: mmap.mmap) -> Written:
    said = memory[:]
    return Written(
        [i for i, letter in enumerate(said) if letter == ord("a")],
        [i for i, letter in enumerate(said) if letter == ord("r")],
    )
