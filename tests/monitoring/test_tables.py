"""Tables in a terminal and in a pipe: nothing is cut."""

import csv
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from monitoring.outcomes.fairness import groups_of
from monitoring.outcomes.terminal import print_fairness
from server.model.bundle import Bundle
from tests.support.bundles import CREDIT, sample_rows
from tests.support.commands import run_inside as run

#: What makes a terminal of 80 columns for rich.
TERMINAL = {"FORCE_COLOR": "1", "COLUMNS": "80"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of the shipped model, whose names are longer than any column of a terminal."""
    schema, file = Bundle.load(CREDIT).schema, tmp_path_factory.mktemp("tables") / "rows.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, schema.names)
        writer.writeheader()
        writer.writerows(sample_rows(schema, 300))
    return file


def test_in_a_pipe_each_name_and_its_verdict_are_one_line(rows: Path) -> None:
    lines = run("-m", "monitoring", "drift", str(rows), "--model", str(CREDIT)).stdout.splitlines()
    for name in Bundle.load(CREDIT).schema.names:
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert re.search("drift: |chance|small", line), line
    assert any("PSI, the population stability index, says" in line for line in lines)


def test_in_a_terminal_names_are_folded_and_none_is_cut(rows: Path) -> None:
    done = run("-m", "monitoring", "drift", str(rows), "--model", str(CREDIT), **TERMINAL)
    lines = re.sub(r"\x1b\[[\d;]*m", "", done.stdout).splitlines()
    end = next(i for i, line in enumerate(lines) if line.startswith("PSI, the"))
    assert max(map(len, lines[:end])) <= 80
    names = "".join(line[1 : lines[0].index("PSI") - 2].split("  ")[0].strip() for line in lines[1:end])
    assert all(name in names for name in Bundle.load(CREDIT).schema.names), names
    assert "\N{HORIZONTAL ELLIPSIS}" not in done.stdout


def test_groups_of_any_name_and_their_figures_are_folded_in_a_terminal() -> None:
    console = Console(file=StringIO(), width=80, force_terminal=True, color_system=None)
    print_fairness(groups_of({"Secondary_special" * 3: (400, 300), "other": (400, 100)}), "accept", console)
    assert isinstance(console.file, StringIO)
    told = console.file.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in told
    group = "".join(line[1:11].strip() for line in told.splitlines())
    assert "Secondary_special" * 3 in group, told
