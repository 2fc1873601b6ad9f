"""Where a figure was measured: without it no figure means anything."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "uvicorn", "uvloop", "httptools", "starlette", "onnxruntime", "numpy", "msgspec", "orjson",
    "fastapi", "pandas", "lightgbm", "locust", "py-spy",
)  # fmt: skip
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def environment(settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The machine, its load, the versions, the commit, and the settings given."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "governor": _GOVERNOR.read_text().strip() if _GOVERNOR.exists() else "unknown",
        "memory_mb": round(psutil.virtual_memory().total / 2**20),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "settings": dict(settings or {}),
    }


def sentence(machine: Mapping[str, Any]) -> str:
    """The machine in one line, for the foot of a table."""
    packages = machine["packages"]
    return (
        f"{machine['cpu']}, {machine['usable_cores']} cores, kernel {machine['kernel']}, "
        f"Python {machine['python']}, uvicorn {packages['uvicorn']}, starlette {packages['starlette']}, "
        f"onnxruntime {packages['onnxruntime']}, commit {machine['commit']}, "
        f"load before the run {machine['load_average'][0]}"
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    commit = _git("rev-parse", "--short=12", "HEAD")
    return (commit + (" with changes" if _git("status", "--porcelain") else "")) or "unknown"


def _git(*arguments: str) -> str:
    root = Path(__file__).parent
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
