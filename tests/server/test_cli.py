"""Commands in the environment of `make run`, where the libraries of `make tools` are missing."""

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from server.cli import given, positive_number, whole_number
from server.errors import MAX_MESSAGE_CHARACTERS
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


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python has it itself")
@pytest.mark.parametrize("missing", ["backports", "backports.zstd", "polars"])
def test_file_is_not_scored_without_a_library_that_is_named(missing: str) -> None:
    code = f"""
import sys
sys.modules["{missing}"] = None
sys.argv[1:] = ["rows.csv", "out.csv"]
from server.cli import run
from server.batch.__main__ import main
run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    library = "polars" if missing == "polars" else "backports.zstd"
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert f"expected {library} to be installed" in done.stderr


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


ROOT = Path(__file__).parents[2]
FOLDERS = ("server", "ui", "export", "train", "monitoring", "loadtest", "deploy", "hotrow")
LONG = "x" * 100_000


def called(name: str) -> list[str]:
    """The modules that call a function or class of this name."""
    return [
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name
    ]


def test_no_command_reads_its_arguments_by_itself() -> None:
    """`CommandParser` bounds what is said of them; the one other is asked for another process's arguments."""
    assert called("ArgumentParser") == ["server/publish/running_server.py"]
    assert len(called("CommandParser")) > 15


@pytest.mark.parametrize(
    ("command", "status"),
    [
        pytest.param(f"server --port {LONG}", 2, id="setting"),
        pytest.param(f"server --model {LONG}", 3, id="model"),
        pytest.param(f"server.models publish {LONG} {LONG}", 1, id="publish"),
        pytest.param(f"server.keys list --file {LONG}", 2, id="keys"),
        pytest.param(f"server.batch {LONG} {LONG}", 1, id="batch"),
        pytest.param(f"monitoring verify-log {LONG}", 1, id="log"),
        pytest.param(f"export {LONG} --out {LONG}", 1, id="export"),
        pytest.param(f"deploy.packages {LONG}", 1, id="deploy"),
        pytest.param(f"hotrow {LONG}", 2, id="hotrow"),
        pytest.param(f"hotrow completion {LONG}", 2, id="completion"),
    ],
)
def test_no_argument_makes_a_message_of_any_length(command: str, status: int) -> None:
    done = run("-m", *command.split())
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert len(done.stderr) <= MAX_MESSAGE_CHARACTERS + 1000  # a usage stands before it


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (whole_number(1, 9), "10", "a whole number of at least 1 and at most 9, got '10'"),
        (whole_number(0), "-1", "a whole number of at least 0"),
        (whole_number(0), "1.0", "a whole number"),
        (positive_number(), "0", "a number above 0, got '0'"),
        (positive_number(), "inf", "a number above 0"),
        (positive_number(1e6), "nan", "a number above 0 and below 1e+06"),
        (positive_number(), "much", "a number above 0"),
    ],
)
def test_a_number_that_an_option_does_not_take_is_one_sentence(
    parse: Callable[[str], object], text: str, expected: str
) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^expected {re.escape(expected)}"):
        parse(text)
