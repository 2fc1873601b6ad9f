"""What an option names is looked at before the work, which may take hours and would be lost with it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from export.arguments import parse as export
from loadtest.__main__ import main as loadtest
from monitoring.__main__ import main as monitoring
from server.errors import HotrowError
from train.__main__ import main as train

WRITE, READ = "expected a file to write, got", "expected a file to read, got"
#: Commands whose input is nowhere, which they would say were it looked at first.
WRONG: list[tuple[Callable[[Sequence[str]], object], str, str]] = [
    (monitoring, "report nowhere --html {folder}", f"{WRITE} a folder"),
    (monitoring, "report nowhere --html {file}/page.html", f"{WRITE} {{file}}/page.html: File exists"),
    (monitoring, "report nowhere --metrics {folder}/none", f"{READ} none"),
    (monitoring, "report nowhere --outcomes {folder}/none", f"{READ} none"),
    (monitoring, "fairness nowhere --by sex --outcomes {folder}", f"{READ} a folder"),
    (monitoring, "drift nowhere --textfile {folder}", WRITE),
    (monitoring, "performance nowhere --textfile {file}/gauges.prom", WRITE),
    (monitoring, "verify-log nowhere --anchor 00", "expected --key-file beside --anchor"),
    (monitoring, "verify-log nowhere --key-file {folder}/none", f"{READ} none"),
    (loadtest, "compare nowhere nothing --html {folder}", WRITE),
    (loadtest, "bench servers --json {folder}", WRITE),
    (loadtest, "faults --results {folder}", WRITE),
    (export, "nowhere.txt --out {folder}/out --evaluate {folder}/none --target y", f"{READ} none"),
    (export, "nowhere.txt --out {folder}/out --evaluate {folder} --target y", f"{READ} a folder"),
    (train, "--data nowhere --out {folder}/out --report {folder}", WRITE),
    (train, "--data nowhere --out {folder}/out --like {folder}", "expected a bundle of `python -m train`"),
    (
        train,
        "--table nowhere.csv --target y --out {folder}/out --like {folder}/none",
        "expected a bundle of `python -m train`",
    ),
    (
        train,
        "--table nowhere.csv --target y --out {folder}/page",
        "expected a file for the report, got the folder",
    ),
]


def test_files_of_options_are_looked_at_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.html").mkdir()
    file = tmp_path / "file"
    file.touch()
    for command, words, expected in WRONG:
        arguments = words.format(folder=tmp_path, file=file).split()
        with pytest.raises((SystemExit, HotrowError)) as refused:
            command(arguments)
        said = capsys.readouterr().err if refused.type is SystemExit else str(refused.value)
        assert expected.format(folder=tmp_path, file=file) in said, words
        assert "nowhere" not in said.rpartition("error:")[2], words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "page.html"]
