"""README and documents say what the code does: settings, routes, metrics, commands, files."""

import importlib
import itertools
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from hotrow.commands import COMMANDS as PACKAGED
from server.metrics.collector import MetricsCollector
from server.metrics.layout import SlotLayout
from server.metrics.names import OTHER, ROUTES
from server.metrics.shared import SharedMetrics
from server.settings import PREFIX, Settings

README = Path("README.md").read_text()
REFERENCE = Path("docs/reference.md").read_text()
DOCUMENTS = README + "".join(path.read_text() for path in Path("docs").rglob("*.md"))
#: The longest line of a document; a line is broken behind about 120.
MAX_LINE = 125
COMMANDS = ("train", "export", "server", "ui", "loadtest", "monitoring")


def test_readme_is_read_in_one_sitting() -> None:
    assert len(README.split()) <= 700


def _prose(text: str) -> list[str]:
    """The lines outside of code, tables and headings."""
    lines = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL).splitlines()
    return [line for line in lines if not line.startswith(("|", "#", "![", "<"))]


def test_documents_are_wrapped_in_one_way() -> None:
    """Each paragraph in lines of about 120 characters; what programs write is left as they do."""
    for path in [
        Path("README.md"),
        Path("CONTRIBUTING.md"),
        *Path("docs").glob("*.md"),
        *Path("docs/decisions").glob("*.md"),
    ]:
        long = [line for line in _prose(path.read_text()) if len(line) > MAX_LINE]
        assert not long, f"expected lines of at most {MAX_LINE} characters in {path}, got: {long[0]}"


def test_changelog_has_each_group_once_and_no_line_twice() -> None:
    unreleased = re.split(r"^## ", Path("CHANGELOG.md").read_text(), flags=re.MULTILINE)[1]
    groups = re.findall(r"^### (.+)$", unreleased, re.MULTILINE)
    assert groups == [name for name in ("Added", "Changed", "Fixed", "Removed") if name in groups]
    entries = [line for line in unreleased.splitlines() if line.startswith("- ")]
    assert len(entries) == len(set(entries))


def test_every_setting_is_in_the_table() -> None:
    for field in fields(Settings):
        name = PREFIX + field.name.upper()
        assert f"| `{name}` |" in REFERENCE, f"{name} is not in the table of docs/reference.md"


def test_table_names_no_other_setting() -> None:
    known = {PREFIX + field.name.upper() for field in fields(Settings)} | {"HOTROW_DATA"}
    assert set(re.findall(r"HOTROW_[A-Z_]+", DOCUMENTS)) <= known


def test_every_route_is_documented() -> None:
    for route in ROUTES:
        assert route == OTHER or route in DOCUMENTS, route


def test_every_command_of_the_package_is_in_the_list() -> None:
    listed = REFERENCE.split("`hotrow serve MODEL`")[1].split("from any folder")[0]
    assert {"serve", *re.findall(r"`([a-z-]+)`", listed)} == set(PACKAGED)


def test_every_extra_is_in_the_list() -> None:
    extras = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"`\[([a-z]+)\]`", REFERENCE)) == set(extras)


def test_what_documents_place_in_a_module_stands_there() -> None:
    placed = re.findall(r"`([A-Za-z_][\w.]*)`\s+\(`([\w/]+\.py)`", DOCUMENTS)
    assert len(placed) > 20
    for name, path in placed:
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", Path(path).read_text()), f"{path} has no {name}"


def test_floors_of_the_server_are_drawn_whole() -> None:
    drawn = Path("docs/architecture.md").read_text().split("## The floors")[1].split("```")[1]
    for path in Path("server").iterdir():
        room = path.name.removesuffix(".py")
        if room not in ("__init__", "__pycache__"):
            assert re.search(rf"^(\w+ +)*{room}\b", drawn, re.MULTILINE), room


@pytest.mark.parametrize("top", ["train", "export", "ui", "monitoring", "loadtest"])
def test_rooms_of_the_other_folders_are_drawn(top: str) -> None:
    drawn = Path("docs/architecture.md").read_text().split("## The rooms")[1].split("```")[1]
    (block,) = (block for block in re.split(r"\n(?=\w)", drawn) if block.startswith(top))
    rooms = {path.parent.name for path in Path(top).glob("*/__init__.py")}
    assert rooms <= set(block.split())


def test_every_metric_is_documented() -> None:
    shared = SharedMetrics(SlotLayout([("m@1", ("a", "b"))], {}), 1)
    page = MetricsCollector(shared, [{"name": "m", "version": "1", "sha256": ""}])
    for family in page.collect():
        if family.name.startswith("hotrow_"):
            assert family.name in DOCUMENTS, family.name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_reference_and_says_how_it_is_used(command: str) -> None:
    assert f"`python -m {command}" in REFERENCE
    result = subprocess.run([sys.executable, "-m", command, "--help"], capture_output=True, text=True)
    assert result.returncode == 0
    assert f"python -m {command}" in result.stdout


def test_make_targets_named_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", DOCUMENTS + Path("CONTRIBUTING.md").read_text()))
    assert named <= targets


def test_links_between_documents_lead_somewhere() -> None:
    for document in (Path("README.md"), Path("CONTRIBUTING.md"), *Path("docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
            if target.startswith("https://"):
                continue
            assert (document.parent / target).exists(), f"{document} links to {target}"


#: A file of ours, and a module that is run.
_FILE = re.compile(r"`?\b((?:server|export|train|loadtest|ui|monitoring|deploy|tests)/[\w/]+\.(?:py|css))\b")
_MODULE = re.compile(r"python -m ((?:server|export|train|loadtest|ui|monitoring)(?:\.\w+)+)")


def test_files_and_modules_that_are_named_are_there() -> None:
    """In documents, comments and docstrings: a move takes its names along."""
    for path in [*Path("docs").glob("*.md"), Path("README.md"), *Path().glob("[a-z]*/**/*.py")]:
        if path.parts[0] not in (*COMMANDS, "tests", "deploy", "docs", "README.md"):
            continue
        text = path.read_text()
        for name in _FILE.findall(text):
            assert Path(name).exists() or path.parts[0] == "tests", f"{path} names {name}"
        for name in _MODULE.findall(text):
            module = Path(name.replace(".", "/"))
            assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), f"{path}: {name}"


#: A command line in a document: its module, then its words up to what explains them.
_COMMAND = re.compile(rf"python -m ((?:{'|'.join(COMMANDS)})(?:\.\w+)*)((?: [^\s`|#&]+)*)")
#: Modules whose first words are a command of theirs, of `loadtest bench` two.
_HAVE_COMMANDS = ("monitoring", "loadtest", "server.models", "server.keys")


def _documented_options() -> dict[tuple[str, ...], set[str]]:
    """The options that documents give each command, by its module and command."""
    found: dict[tuple[str, ...], set[str]] = {}
    for module, words in _COMMAND.findall(DOCUMENTS + Path("CONTRIBUTING.md").read_text()):
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", words))
        plain = list(itertools.takewhile(lambda word: re.fullmatch(r"[a-z][a-z-]+", word), words.split()))
        count = (2 if plain[:1] == ["bench"] else 1) if module in _HAVE_COMMANDS else 0
        found.setdefault((module, *plain[:count]), set()).update(options)
    return {command: options for command, options in found.items() if options}


@pytest.mark.whole
def test_every_option_of_a_documented_command_exists(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    documented = _documented_options()
    assert len(documented) > 20
    for (module, *command), options in documented.items():
        package = (Path(*module.split(".")) / "__main__.py").exists()
        main = importlib.import_module(f"{module}.__main__" if package else module).main
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        assert options <= known, f"python -m {module} {' '.join(command)}: {options - known}"


def test_tests_that_the_promises_name_are_there() -> None:
    """Each row of docs/reliability.md names what holds it; a test that is renamed takes its row along."""
    files = {path.name: path.read_text() for path in Path("tests").rglob("test_*.py")}
    for line in Path("docs/reliability.md").read_text().splitlines():
        named = re.findall(r"\b(test_\w+)\.py|::(test_\w+)", line)
        file = ""
        for module, test in named:
            file = f"{module}.py" if module else file
            assert file in files or not file, f"no {file}: {line[:100]}"
            held = files.values() if not file else [files[file]]
            assert not test or any(f"def {test}(" in text for text in held), f"no {test}: {line[:100]}"
        if re.match(r"\| R\d", line):
            assert named or re.search(r"\bfaults? F\d", line), f"nothing holds: {line[:100]}"
