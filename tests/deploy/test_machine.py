"""One machine: the systemd unit and the compose file."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from loadtest.harness.subject import family, free_port, python, running
from server.process.draining import LAME_DUCK_SECONDS, TAKEN_SECONDS
from server.settings import Settings
from tests.support.bundles import CREDIT
from tests.support.servers import system_tool

pytestmark = pytest.mark.whole

UNIT = Path("deploy/systemd/hotrow.service")
COMPOSE = Path("deploy/compose.yaml")
STOP_SECONDS = LAME_DUCK_SECONDS + 2 * TAKEN_SECONDS + Settings().drain_seconds
#: `systemd-analyze security` rates from 0 (nothing exposed) to 100; up to 20 it says OK.
EXPOSURE = 20
#: Runs a command as under MemoryDenyWriteExecute=: PR_SET_MDWE of prctl(2), which kernels before 6.3 refuse.
WRITE_OR_EXECUTE = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with this environment's interpreter: systemd looks whether there is one."""
    here = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/hotrow/.venv/bin/python", sys.executable)
    here.write_text(text.replace("/opt/hotrow", str(Path.cwd())))
    return here


def test_systemd_understands_the_unit(unit: Path) -> None:
    done = subprocess.run(
        [system_tool("systemd-analyze"), "verify", str(unit)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert str(unit) not in done.stderr, done.stderr


def test_systemd_understands_the_timer_of_drift(tmp_path: Path) -> None:
    for name in ("hotrow-drift.service", "hotrow-drift.timer"):
        text = UNIT.with_name(name).read_text().replace("/opt/hotrow/.venv/bin/python", sys.executable)
        (tmp_path / name).write_text(text.replace("/opt/hotrow", str(Path.cwd())))
    timer = str(tmp_path / "hotrow-drift.timer")
    done = subprocess.run([system_tool("systemd-analyze"), "verify", timer], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in done.stderr, done.stderr


def test_the_unit_exposes_little(unit: Path) -> None:
    command = [
        system_tool("systemd-analyze"),
        "security",
        "--offline=true",
        f"--threshold={EXPOSURE}",
        str(unit),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def settings(name: str) -> list[str]:
    """The values of a directive of the unit."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_the_unit_starts_the_server_with_settings_it_knows() -> None:
    (command,) = settings("ExecStart")
    assert command.split()[1:] == ["-m", "server"]
    variables = dict(value.split("=", 1) for value in settings("Environment"))
    ours = {name: value for name, value in variables.items() if name.startswith("HOTROW_")}
    assert Settings.read(ours).workers > 1, "a reload of one worker is a gap"
    assert settings("KillMode") == ["mixed"]
    assert float(settings("TimeoutStopSec")[0]) > STOP_SECONDS


def allowed() -> set[str]:
    """The system calls that the unit's filter lets through."""
    found: set[str] = set()
    for value in settings("SystemCallFilter"):
        names = {name for group in value.lstrip("~").split() for name in calls_of(group)}
        found = found - names if value.startswith("~") else found | names
    return found


def calls_of(group: str) -> set[str]:
    command = [system_tool("systemd-analyze"), "syscall-filter", group]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    words = [line.strip() for line in lines if line.startswith("    ") and not line.strip().startswith("#")]
    return {name for word in words for name in (calls_of(word) if word.startswith("@") else {word})}


def test_the_server_asks_the_kernel_for_nothing_that_the_unit_refuses(tmp_path: Path) -> None:
    counts, port = tmp_path / "calls", free_port()
    traced = [system_tool("strace"), "-f", "-c", "-S", "name", "-U", "name", "-o", str(counts)]
    server = python("-m", "server", "--model", str(CREDIT), "--port", str(port), "--workers", "2")
    url = f"http://127.0.0.1:{port}"
    environment = {"HOTROW_LOG_DIR": str(tmp_path / "logs")}
    command = [*traced, *python("-c", WRITE_OR_EXECUTE), *server]
    with running("server", command, url, "/readyz", environment=environment) as subject:
        (parent,) = [process for process in family(subject.pid) if process.ppid() == subject.pid]
        body = b'{"AMT_INCOME_TOTAL": 168000, "AMT_CREDIT": 600000, "AGE_YEARS": 44}'
        request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            assert json.load(answer)["model"] == "credit@3"
        with urllib.request.urlopen(f"{url}/metrics") as answer:
            assert b"hotrow_worker_resident_memory_bytes" in answer.read()
        os.kill(parent.pid, signal.SIGTERM)
        subject.process.wait(timeout=60)
    called = {line.strip() for line in counts.read_text().splitlines()} & calls_of("@known") - {"syscall"}
    assert {"accept4", "writev", "execve"} & called
    assert called <= allowed()


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_the_compose_file_is_one_and_reads_what_is_there() -> None:
    check = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(COMPOSE),
    ]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for service in services().values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (COMPOSE.parent / source).exists()
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    scraped = yaml.safe_load(Path("monitoring/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert scraped[0]["static_configs"][0]["targets"] == ["server:8000"]


def test_our_containers_of_the_compose_file_run_as_the_images_are_tested() -> None:
    ours = {name: service for name, service in services().items() if "build" in service}
    assert {name: service["build"]["target"] for name, service in ours.items()} == {
        "server": "api",
        "page": "ui",
    }
    for service in ours.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["tmpfs"] == ["/tmp"]
        assert [volume.split(":")[1] for volume in service["volumes"]] == ["/app/logs"]
        assert float(service["stop_grace_period"].removesuffix("s")) > STOP_SECONDS
