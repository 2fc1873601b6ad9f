"""The month of operations.md: each of its commands runs, and the planted fault is found and dated."""

import re
import shlex
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

from loadtest.harness.subject import free_port
from monitoring.drift.comparison import DriftReport, drift_of_files
from monitoring.drift.joint import read_joint
from monitoring.drift.rows import reference_of
from monitoring.outcomes.challenge import challenges
from monitoring.simulated_month import FAULT_BEGINS, Month, simulate_month
from monitoring.simulated_rows import simulated_rows
from server.model.bundle import Bundle
from server.model.joint import correlations, places
from server.model.schema import Matrix
from tests.support.commands import run_inside as run

pytestmark = pytest.mark.whole

SHIPPED = Path("models/credit")


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Month:
    return simulate_month(Bundle.load(SHIPPED), tmp_path_factory.mktemp("month") / "month")


def test_fault_of_week_three_is_found_first_and_dated_to_the_hour(month: Month) -> None:
    fault = f"{FAULT_BEGINS:%Y-%m-%dT%H:%M:%S}Z"
    until = ("--until", "2026-03-18", "--since", "2026-03-12", "--by", "day", "--json")
    found = orjson.loads(run("-m", "monitoring", "drift", str(month.log), *until).stdout)
    assert found["since"][month.feature] == fault
    before = run("-m", "monitoring", "drift", str(month.log), "--until", "2026-03-16")
    assert (before.returncode, "No drift in 14,000 rows" in before.stdout) == (0, True), before.stdout
    after = orjson.loads(run("-m", "monitoring", "drift", str(month.log), "--since", fault, "--json").stdout)
    worst = [column["name"] for column in after["columns"] if column["drifted"] and not column["is_score"]]
    assert worst[0] == month.feature


def test_clean_rows_go_together_as_in_training_and_what_does_not_is_found(tmp_path: Path) -> None:
    bundle, file = Bundle.load(SHIPPED), tmp_path / "rows.csv"
    joint, features = read_joint(bundle), reference_of(bundle).features
    assert joint is not None
    rows = simulated_rows(bundle, 20_000, np.random.default_rng(7))
    found = correlations(places(bundle.schema, rows, features, joint.names))
    upper = found[np.triu_indices(len(joint.names), 1)]
    assert upper.tolist() == pytest.approx(joint.correlations, abs=0.1)  # raking to the score moves some
    rows = rows[:3000]

    def compared(changed: Matrix) -> DriftReport:
        pl.DataFrame([bundle.schema.fields(row.tolist()) for row in changed]).write_csv(file)
        return drift_of_files([file], bundle)

    two, three, annuity = map(bundle.schema.names.index, ("EXT_SOURCE_2", "EXT_SOURCE_3", "AMT_ANNUITY"))
    clean = compared(rows)
    assert (clean.drifted, clean.joint) == ([], [])
    one, shuffled = bundle.schema.names.index("EXT_SOURCE_1"), rows.copy()
    # The first and the third are spread alike: what tells them apart is how often they are missing.
    for first, second in ((two, three), (one, three), (one, two)):
        twins = rows.copy()
        twins[:, [first, second]] = rows[:, [second, first]]
        swap = compared(twins).joint[0]
        names = (bundle.schema.names[first], bundle.schema.names[second])
        assert (swap.kind, swap.names) == ("swapped", names)
    shuffled[:, annuity] = np.roll(rows[:, annuity], 1)
    report = compared(shuffled)
    assert report.drifted == []  # no column shows it
    assert (report.joint[0].kind, report.joint[0].names) == ("together", ("AMT_CREDIT", "AMT_ANNUITY"))


def test_challenger_of_the_second_week_decides_some_rows_otherwise(month: Month) -> None:
    challenger = Bundle.load(month.challenger)
    (one,) = challenges([month.log], Bundle.load(SHIPPED), month.outcomes)
    assert (one.challenger, one.rows, one.shift.value) == (challenger.label, 7000, 0.0)
    assert 0.9 < one.agreement < 1.0
    assert one.verdict == "open"


def commands() -> list[str]:
    text = Path("docs/operations.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"\n## A month in the life of a model\n(.*?)\n## ", text, re.DOTALL)
    return [line for line in section.splitlines() if line.startswith("python -m ")]


def test_month_has_its_commands() -> None:
    assert len(commands()) >= 8
    assert commands()[0] == "python -m monitoring simulate-month month"  # the fixture


@pytest.mark.parametrize("command", commands()[1:])
def test_command_of_the_month_runs(month: Month, tmp_path: Path, command: str) -> None:
    words, _, code = command.partition("#")
    words = words.replace("month/", f"{month.log.parent}/").replace("runs/", f"{tmp_path}/")
    page = ["--html", str(tmp_path / "report.html")] if "monitoring report" in words else []
    # No server of these folders runs: whoever has one on the default port is not asked.
    alone = [] if "server.models" not in words or "check" in words else ["--port", str(free_port())]
    done = run(*shlex.split(words)[1:], *page, *alone)
    expected = int(re.search(r"exits (\d)", code)[1]) if "exits" in code else 0  # type: ignore[index]
    assert done.returncode == expected, done.stdout + done.stderr
