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
    names = "".join(line.strip().split("  ")[0] for line in lines[:end])
    assert all(name in names for name in Bundle.load(CREDIT).schema.names), names
    assert "\N{HORIZONTAL ELLIPSIS}" not in done.stdout


#: More than a terminal has beside each other, and a name of more than its half.
GROUPS = groups_of({"Secondary_special" * 3: (4_000_000, 3_000_000), "other": (4_000_000, 1_000_000)})


def fairness_of(width: int) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    print_fairness(GROUPS, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_figure_is_folded_however_narrow_the_terminal_is(width: int) -> None:
    told = fairness_of(width)
    table = told[: told.index("The ratio is")]
    assert max(map(len, table.splitlines())) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in told
    names = "".join(line.strip().split("  ")[0] for line in table.splitlines())
    assert "Secondary_special" * 3 in names
    figures = re.findall(r"\S*\d\S*", fairness_of(10_000).split("The ratio is")[0])
    assert len(figures) > 10
    assert [figure for figure in figures if figure not in table] == []
