"""Supply chain: what is installed, under which licence, and that none of it calls home."""

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.version import Version

from deploy.licences import FILE, SETS, licences, locked, page
from deploy.packages import normal
from tests.support.root import needs_root
from tests.support.servers import system_tool

pytestmark = pytest.mark.whole

EXTRAS = [f"requirements/{name}.txt" for name in ("arrow", "compiled", "grpc", "otel")]
LOCKS = [
    *SETS,
    *(f"requirements/{name}.txt" for name in ("catboost", "profiler", "foreign", "evidently", "peers")),
]
#: The first release without the weaknesses known in each, see docs/reliability.md.
FLOORS = {
    "h11": "0.16.0",
    "httptools": "0.6.3",
    "uvicorn": "0.51",
    "starlette": "1.3.1",
    "orjson": "3.11.6",
    "onnx": "1.21.0",
    "gradio": "6.31",
    "lightgbm": "4.6.0",
    "ray": "2.54",
}
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;]+)", re.MULTILINE)
#: A socket address of the internet in strace's words.
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_file_is_pinned_with_hashes(lock: str) -> None:
    requirements = Path(lock).read_text().replace("\\\n", "")
    lines = [line for line in requirements.splitlines() if line and not line.lstrip().startswith("#")]
    for line in lines:
        assert line.startswith("-r ") or ("==" in line and "--hash=sha256:" in line), line


def test_no_pinned_version_is_below_the_first_mended_one() -> None:
    pinned = {(normal(name), version) for lock in LOCKS for name, version in PINNED.findall(_text(lock))}
    assert {name for name, _ in pinned} >= FLOORS.keys() - {"ray"}
    for name, version in pinned:
        assert name not in FLOORS or Version(version) >= Version(FLOORS[name]), f"{name} {version}"


def installed() -> set[tuple[str, str]]:
    """Name and version of every package of this environment."""
    return {(normal(found.metadata["Name"]), found.version) for found in distributions()}


def _text(lock: str) -> str:
    return Path(lock).read_text()


def test_installed_versions_are_the_locked_ones() -> None:
    pinned = {(normal(name), version) for lock in SETS for name, version in PINNED.findall(_text(lock))}
    names = {name for name, _ in pinned}
    assert not {(name, version) for name, version in installed() if name in names} - pinned


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the page is written with Python 3.11")
def test_licences_are_listed() -> None:
    assert FILE.read_text(encoding="utf-8") == page(), "run `make licences`"


def test_licences_are_known_and_none_in_an_image_reaches_our_code() -> None:
    known = licences()
    assert "not stated" not in {known[name] for lock in SETS for name in locked(lock) if name in known}
    for lock in ("requirements/server.txt", "requirements.txt", *EXTRAS):
        for name in locked(lock):
            assert "GPL" not in known.get(name, ""), name


def test_bill_of_materials_names_what_is_installed(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    of = ["--pyproject", "pyproject.toml", "--no-validate"]  # to validate takes 12 s; `make sbom` does
    command = ["environment", *of, "--output-file", str(file), sys.executable]
    subprocess.run([sys.executable, "-m", "cyclonedx_py", *command], check=True, capture_output=True)
    bill = json.loads(file.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "hotrow"
    listed = {(normal(part["name"]), part["version"]) for part in bill["components"]}
    assert listed >= installed()


def test_api_process_loads_no_pickle_and_no_lightgbm(tmp_path: Path) -> None:
    """numpy imports the module pickle; that nothing is unpickled is seen by Python's own audit event."""
    code = """
import sys

def forbid(event, arguments):
    if event.startswith("pickle."):
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(forbid)
sys.modules["lightgbm"] = sys.modules["joblib"] = sys.modules["cloudpickle"] = None
import server.process.workers
from server.api.app import create_app
from server.scoring.service import open_service
from server.settings import Settings

settings = Settings(log_mode="off")
service = open_service(settings)
create_app(service)
row = b'{"AMT_INCOME_TOTAL": 168000, "AMT_CREDIT": 600000, "AGE_YEARS": 44}'
service.default.respond(row, print, 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "probability" in done.stdout
    for path in Path("server").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (pickle|joblib|shelve|marshal)", path.read_text(), re.M), (
            path
        )


def test_everything_works_with_the_network_cut_calls_nobody_and_listens_here_alone(tmp_path: Path) -> None:
    needs_root()
    trace, calls = tmp_path / "trace", "trace=connect,sendto,sendmsg,sendmmsg"
    strace = [system_tool("strace"), "-f", "-qq", "--seccomp-bpf", "-e", calls, "-o", str(trace)]
    scenario = [sys.executable, "-m", "tests.support.cut_off_scenario", str(tmp_path)]
    done = subprocess.run([*strace, *scenario], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "server": [200, 200, 200, 200],
        "ui": [200, 200, 200],
        "batch": [0],
        "listening": ["127.0.0.1"],
    }
    called = {v4 or v6 for v4, v6 in ADDRESS.findall(trace.read_text())}
    assert called == {"127.0.0.1"}  # the scenario's own requests


def test_a_call_elsewhere_would_be_seen() -> None:
    line = 'connect(9, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.7")}, 16) = -1'
    assert ADDRESS.findall(line) == [("192.0.2.7", "")]
