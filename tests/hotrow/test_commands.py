"""The package names what requirements/ pin, and the commands what there is."""

import re
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from hotrow.__main__ import main as hotrow
from hotrow.__main__ import usage, with_models
from hotrow.commands import COMMANDS, OWN
from hotrow.doctor import SERVER
from monitoring.__main__ import main

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]


def names(lines: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ;]", line)[0] for line in lines} - {""}


def required(name: str) -> set[str]:
    lines = Path(f"requirements/{name}.in").read_text().splitlines()
    return names([line for line in lines if not line.startswith(("#", "-"))])


def test_package_depends_on_what_the_server_needs() -> None:
    assert names(PROJECT["dependencies"]) == required("server") == set(SERVER.values())


def test_extras_are_what_requirements_name() -> None:
    extras = {name: names(lines) - {"hotrow"} for name, lines in PROJECT["optional-dependencies"].items()}
    assert extras.pop("ray") | extras["batch"] >= {"ray"}
    assert set().union(*extras.values()) == required("app") | required("tools")
    assert {command.extra for command in COMMANDS.values()} <= {"", *PROJECT["optional-dependencies"]}


def test_each_command_is_a_module() -> None:
    for command in COMMANDS.values():
        assert find_spec(command.module.split()[0]) is not None


def test_each_command_of_monitoring_is_one_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = set(re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, re.M))
    ours = [command.module.split() for command in COMMANDS.values()]
    assert listed == {words[1] for words in ours if words[0] == "monitoring"}


def test_words_before_the_options_are_models() -> None:
    assert with_models(["a", "b", "--port", "1"]) == ["--model", "a", "--model", "b", "--port", "1"]
    assert with_models(["--port", "1"]) == ["--port", "1"]  # models/credit is here
    assert with_models(["--model", "a"]) == ["--model", "a"]


def test_each_command_has_a_line_of_help_of_its_own() -> None:
    told = [line.split(maxsplit=1) for line in usage().splitlines() if line.startswith("  ")]
    assert dict(told) == {name: command.what for name, command in COMMANDS.items()} | OWN


@pytest.mark.parametrize("name", OWN)
def test_command_of_the_package_itself_says_how_it_is_used(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hotrow", name, "--help"])
    hotrow()
    assert capsys.readouterr().out.startswith(f"usage: hotrow {name}")
