"""`hotrow doctor`: what is installed, what is missing for which command, and what the machine allows."""

import errno
import json
import os
import resource
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path

from hotrow.commands import COMMANDS

#: What the server cannot do without, by the name that it is imported by.
SERVER = {
    "numpy": "numpy", "onnxruntime": "onnxruntime", "msgspec": "msgspec", "orjson": "orjson",
    "starlette": "starlette", "uvicorn": "uvicorn", "uvloop": "uvloop", "httptools": "httptools",
    "gunicorn": "gunicorn", "uvicorn_worker": "uvicorn-worker", "prometheus_client": "prometheus-client",
    "psutil": "psutil", "backports" if sys.version_info < (3, 14) else "compression": "backports.zstd",
    "flatbuffers": "flatbuffers",
}  # fmt: skip
#: A file each for a connection, and some for the process.
ENOUGH_FILES = 4096
PORT = 8000


def main() -> int:
    """Print what was found; 1 if the server cannot run."""
    print(f"Python {sys.version.split()[0]} at {sys.executable}")
    missing = [name for module, name in SERVER.items() if find_spec(module) is None]
    for line in (*_libraries(missing), *_commands(), *_machine()):
        print(line)
    return 1 if missing else 0


def _libraries(missing: list[str]) -> Iterator[str]:
    found = [f"{name} {_version(name)}" for name in SERVER.values() if name not in missing]
    yield f"server  {', '.join(found)}"
    if missing:
        yield f"server  MISSING {', '.join(missing)}: pip install {_hint('')}"


def _commands() -> Iterator[str]:
    width = max(map(len, COMMANDS))
    for name, command in COMMANDS.items():
        missing = [library for library in command.libraries if find_spec(library) is None]
        lacks = f"MISSING {', '.join(missing)}: pip install {_hint(command.extra)}"
        yield f"hotrow {name:<{width}} {lacks if missing else 'ready'}"


def _machine() -> Iterator[str]:
    yield f"processors   {len(os.sched_getaffinity(0))} for this process{_quota()}"
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = "" if files >= ENOUGH_FILES else f": fewer than {ENOUGH_FILES}, raise it (ulimit -n)"
    yield f"open files   {files}{enough}"
    yield f"port {PORT}    {_port()}"
    yield f"py-spy       {_py_spy()}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of unknown version"


def _hint(extra: str) -> str:
    """What pip is told: from where this was installed, an index may have another of the name."""
    wanted = f"[{extra}]" if extra else ""
    try:
        origin = json.loads(distribution("hotrow").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return f"'.{wanted}'"
    return f"'hotrow{wanted} @ {origin['url']}'" if "url" in origin else f"'hotrow{wanted}'"


def _quota() -> str:
    """The limit of a control group, where there is one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return ""
    return "" if quota == "max" else f", limited to {int(quota) / int(period):g} of their time"


def _port() -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError as error:
            return (
                "taken: name another with --port" if error.errno == errno.EADDRINUSE else str(error.strerror)
            )
    return "free"


def _py_spy() -> str:
    if find_spec("py_spy") is None and not Path(sys.executable).with_name("py-spy").exists():
        return f"not installed: pip install {_hint('loadtest')}"
    try:
        scope = int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except (OSError, ValueError):
        scope = 0
    if scope == 0 or os.geteuid() == 0 or scope == 1:
        return "may look at processes it starts" + (" and others of yours" if scope == 0 else "")
    return f"may look at no process: kernel.yama.ptrace_scope is {scope}"
