"""The wheel in an environment of its own, in another folder, beside packages that are called as ours are."""

import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from hotrow.commands import COMMANDS, OWN
from hotrow.completion import SCRIPTS
from loadtest.harness.http_bytes import get
from loadtest.harness.subject import free_port
from server.model.bundle import Bundle
from tests.support.bundles import CREDIT
from tests.support.servers import exchange, post

pytestmark = pytest.mark.whole

NAMES = ("server", "models", "train", "export", "ui", "monitoring")


class Installed(NamedTuple):
    """An environment with the wheel, and a folder with packages of somebody else."""

    bin: Path
    folder: Path

    def run(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """A command of the environment in the folder."""
        command = [str(self.bin / words[0]), *words[1:]]
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env={**clean, **environment}, timeout=60
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel as pip makes it of this checkout; what it depends on is that of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    uv = Path(sys.executable).with_name("uv")
    environment = folder / "env"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    into = ["--python", str(environment / "bin/python"), str(wheel)]
    subprocess.run([uv, "pip", "install", "--quiet", "--offline", "--no-deps", *into], check=True)
    packages = next((environment / "lib").glob("*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    somewhere = folder / "somewhere"
    for name in NAMES:  # where one is, and installed
        for place in (somewhere, packages):
            (place / name).mkdir(parents=True)
            (place / name / "__init__.py").write_text(f"whose = 'theirs'\nassert __name__ == '{name}'\n")
            (place / name / "__main__.py").write_text("raise SystemExit('theirs')\n")
    return Installed(environment / "bin", somewhere)


@pytest.fixture(scope="module")
def served(installed: Installed) -> Iterator[str]:
    """The URL of `hotrow serve MODEL`."""
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with open(installed.folder / "log", "wb") as log:
        process = subprocess.Popen(
            [installed.bin / "hotrow", "serve", CREDIT.resolve(), "--port", str(port)],
            cwd=installed.folder, env=clean, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        until_said(installed, process, "Serving")
        yield url
        process.send_signal(signal.SIGHUP)  # checked by a process of its own
        until_said(installed, process, "from now on")
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert len((installed.folder / f"logs/predictions-{port}-0.jsonl").read_bytes().splitlines()) > 1


def until_said(installed: Installed, process: "subprocess.Popen[bytes]", words: str) -> None:
    end = time.monotonic() + 60
    while words not in (log := (installed.folder / "log").read_text()):
        assert time.monotonic() < end, log
        assert process.poll() is None, log
        time.sleep(0.02)


def test_served_model_answers_explains_and_logs(served: str) -> None:
    golden = next(iter(Bundle.load(CREDIT).golden_rows()))
    body = orjson.dumps(golden.fields)
    answer, reasons = exchange(served, post("/predict", body), post("/explain", body), timeout=60)
    assert (answer.status, reasons.status) == (200, 200)
    assert exchange(served, get("/docs"))[0].status == 200


def test_nothing_of_others_is_hidden(installed: Installed) -> None:
    for name in NAMES:
        assert installed.run("python", "-c", f"import {name}; print({name}.whose)").stdout == "theirs\n"
    packages = next((installed.bin.parent / "lib").glob("*/site-packages"))
    ours = {path.name for path in packages.iterdir()} - {*NAMES, "dependencies.pth", "__pycache__"}
    assert {name for name in ours if not name.startswith("_virtualenv")} == {
        "hotrow",
        "hotrow-0.1.0.dist-info",
    }


@pytest.mark.parametrize("name", ["serve", "keys", "models", "export", "batch", "report"])
def test_command_says_how_it_is_used(installed: Installed, name: str) -> None:
    done = installed.run("hotrow", name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage" in done.stdout


def test_export_finds_modules_of_the_folder_one_is_in(installed: Installed) -> None:
    (installed.folder / "mine.py").write_text("print('mine')")
    code = "from hotrow.__main__ import environment; from hotrow.commands import COMMANDS; import os\n"
    code += "os.execve(os.sys.executable, ['python', '-c', 'import server.version, mine'], "
    code += "environment(COMMANDS['export']))"
    assert installed.run("python", "-c", code).stdout == "mine\n"


def test_doctor_and_completion(installed: Installed) -> None:
    doctor = installed.run("hotrow", "doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert all(f"hotrow {name}" in doctor.stdout for name in COMMANDS)
    told = installed.run("python", "-c", "from hotrow.doctor import _hint; print(_hint('ui'))").stdout
    assert told.startswith("'hotrow[ui] @ file:///")  # no index is asked for a name that is not ours there
    assert installed.run("hotrow", "--version").stdout == "0.1.0\n"
    for shell in SCRIPTS:
        script = installed.run("hotrow", "completion", shell).stdout
        assert all(name in script for name in (*COMMANDS, *OWN))
    words = 'eval "$(hotrow completion bash)"; '
    words += "COMP_WORDS=(hotrow se); COMP_CWORD=1; _hotrow; echo ${COMPREPLY[@]}; "
    words += "COMP_WORDS=(hotrow serve --po); COMP_CWORD=2; _hotrow; echo ${COMPREPLY[@]}"
    path = f"{installed.bin}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert done.stdout.split() == ["serve", "--port"]


@pytest.mark.parametrize("words", [["fly"], ["completion"], ["completion", "cmd"], ["serve", "nowhere"]])
def test_mistake_is_told_in_a_sentence(installed: Installed, words: list[str]) -> None:
    done = installed.run("hotrow", *words)
    assert done.returncode in (2, 3)
    assert done.stderr.startswith("expected ")
    assert "Traceback" not in done.stderr
