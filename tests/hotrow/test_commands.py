"""The package names what requirements/ pin, and the commands what there is."""

import re
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from hotrow.__main__ import environment, usage, with_models
from hotrow.__main__ import main as hotrow
from hotrow.commands import COMMANDS, OWN
from hotrow.doctor import SERVER
from monitoring.__main__ import main
from server.cli import TYPED_HOTROW, sentence
from server.errors import HotrowError

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


@pytest.mark.parametrize("is_installed", [False, True])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_errors_say_what_was_typed(
    name: str, is_installed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = COMMANDS[name]
    module, *first = command.module.split()
    typed = f"python -m {command.module}"
    if is_installed:
        typed = f"hotrow {name}"
        monkeypatch.setenv(TYPED_HOTROW, environment(command)[TYPED_HOTROW])
    is_package = Path(*module.split("."), "__main__.py").exists()
    main = import_module(f"{module}.__main__" if is_package else module).main
    # A command of `monitoring` is a word of its parser, whose usage stands above what is wrong with it.
    shorter = typed.removesuffix("".join(first)).rstrip() if first else typed
    for usage_of, words in ((typed, [*first, "--help"]), (shorter, [*first, "--no-such-option"])):
        with pytest.raises(SystemExit):
            main(words)
        told = "".join(capsys.readouterr())
        assert told.startswith(f"usage: {usage_of} ")
        assert ("python -m" if is_installed else f"hotrow {name}") not in told


def test_an_error_names_the_command_to_mend_it_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    error = HotrowError("write it with `python -m export`, take it by `python -m server.models publish`")
    assert sentence(error) == f"{error}."
    monkeypatch.setenv(TYPED_HOTROW, "1")
    assert sentence(error) == "write it with `hotrow export`, take it by `hotrow models publish`."


@pytest.mark.parametrize("name", OWN)
def test_command_of_the_package_itself_says_how_it_is_used(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hotrow", name, "--help"])
    hotrow()
    assert capsys.readouterr().out.startswith(f"usage: hotrow {name}")
