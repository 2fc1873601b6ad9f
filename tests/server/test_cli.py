"""Commands in the environment of `make run`, where the libraries of `make tools` are missing."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from server.cli import given
from tests.support.servers import run

UV = str(Path(sys.executable).with_name("uv"))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of a fresh environment with requirements.txt alone."""
    folder = tmp_path_factory.mktemp("runtime") / "venv"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    python = str(folder / "bin" / "python")
    install = [UV, "pip", "install", "--quiet", "--python", python, "--require-hashes"]
    subprocess.run([*install, "-r", "requirements.txt"], check=True)
    return python


@pytest.mark.whole
@pytest.mark.parametrize(
    "command",
    [
        "train --out {out}",
        "export models/credit --out {out}",
        "monitoring report {out}",
        "monitoring drift {out}",
        "monitoring replay {out}",
        "server.batch rows.csv {out}.csv",
        "loadtest run",
        "loadtest bench",
        "loadtest open",
        "loadtest sweep",
        "loadtest memory",
        "loadtest gate",
    ],
)
def test_command_names_what_is_missing_and_how_to_install_it(
    runtime: str, command: str, tmp_path: Path
) -> None:
    arguments = command.format(out=tmp_path / "out").split()
    done = subprocess.run([runtime, "-m", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "make tools" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["train", "export", "monitoring", "loadtest", "server.batch", "ui"])
def test_help_needs_no_library(runtime: str, command: str) -> None:
    done = subprocess.run([runtime, "-m", command, "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert f"python -m {command}" in done.stdout


def test_a_missing_module_of_ours_keeps_its_traceback() -> None:
    code = "from server.cli import run; run(lambda _: __import__('train.no_such_module'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ModuleNotFoundError" in done.stderr


def test_a_relative_path_is_repeated_as_it_was_given(tmp_path: Path) -> None:
    result = run("-m", "server", "--model", "../nowhere", "--port", "0")
    assert "got none at ../nowhere" in result.stderr
    assert not result.stderr.endswith("..\n")


def test_models_are_separated_by_commas_or_given_one_by_one() -> None:
    options = argparse.Namespace(model=[Path("a,b"), Path("c")])
    assert given(options)["model"] == (Path("a"), Path("b"), Path("c"))
