"""Drift that no column shows by itself: swapped, no longer together, or in one group alone."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitoring.drift.joint import JointDrift, in_groups, no_longer_together, swapped
from server.metrics.drift import reference_counts, shift
from server.model.joint import Joint
from server.model.reference import reference_of_rows
from server.model.schema import Feature, Matrix, Schema
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.commands import run_inside as run
from tests.support.kept import kept
from tests.support.monitored import monitored_bundle

CHANNELS, REGIONS = ("web", "branch", "phone", "partner"), ("north", "south", "east", "west", "island")
SCHEMA = Schema(
    [
        *map(Feature, ("income", "amount", "used", "used_card", "rating", "overdue")),
        Feature("channel", "category", categories=CHANNELS),
        Feature("region", "category", categories=REGIONS),
    ]
)
PLACE = {name: i for i, name in enumerate(SCHEMA.names)}


def drawn(n: int, seed: int) -> Matrix:
    """Rows of a lender: amounts go with incomes, two shares are near twins, a rating is often missing."""
    random = np.random.default_rng(seed)
    income = np.exp(random.normal(10, 0.5, n))
    columns = [
        income,
        income * np.exp(random.normal(0.8, 0.6, n)),
        random.beta(2, 5, n),
        random.beta(2.2, 4.8, n),
        np.where(random.random(n) < 0.45, np.nan, random.beta(4, 3, n)),
        np.where(random.random(n) < 0.96, 0.0, np.exp(random.normal(6, 1.5, n))),
        random.choice(4, n, p=[0.55, 0.25, 0.15, 0.05]),
        random.choice(5, n, p=[0.4, 0.3, 0.2, 0.08, 0.02]),
    ]
    return np.column_stack(columns)


REFERENCE = reference_of_rows(SCHEMA, drawn(8000, 1), np.random.default_rng(0).random(8000))
JOINT = Joint.from_dict(REFERENCE.joint)


def found_in(rows: Matrix) -> list[JointDrift]:
    shifts = {
        name: shift(reference_counts(REFERENCE.features[name]), REFERENCE.features[name].counts(column), 27)
        for name, column in zip(SCHEMA.names, rows.T, strict=True)
    }
    moved = [n for n, s in shifts.items() if s.psi > s.chance and SCHEMA[n].kind != "category"]
    steady = [name for name, found in shifts.items() if not found.drifted]
    return [
        *swapped(SCHEMA, rows, REFERENCE.features, moved, 1.0),
        *no_longer_together(SCHEMA, rows, REFERENCE.features, JOINT, steady),
        *in_groups(SCHEMA, rows, REFERENCE.features, JOINT, steady, 1.0),
    ]


@pytest.mark.whole
def test_clean_samples_raise_at_most_one_alarm_in_340() -> None:
    sizes = {200: 100, 300: 100, 1000: 100, 5000: 40}
    alarms = [n for n, count in sizes.items() for seed in range(count) if found_in(drawn(n, 1000 * n + seed))]
    assert len(alarms) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_what_no_column_shows_is_found_in_3000_rows(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = drawn(3000, 90 + seed)
    twins = rows.copy()
    twins[:, [PLACE["used"], PLACE["used_card"]]] = rows[:, [PLACE["used_card"], PLACE["used"]]]
    shuffled = rows.copy()
    shuffled[:, 0] = random.permutation(rows[:, 0])
    partner, island = rows.copy(), rows.copy()
    partner[rows[:, PLACE["channel"]] == 3, 0] *= 12  # 5 % of the rows
    island[rows[:, PLACE["region"]] == 4, PLACE["rating"]] = np.nan  # 2 %
    told = [
        [(one.kind, one.names) for one in found_in(changed)] for changed in (twins, shuffled, partner, island)
    ]
    assert told == [
        [("swapped", ("used", "used_card"))],
        [("together", ("income", "amount"))],
        [("group", ("income",))],
        [("group", ("rating",))],
    ]


def test_command_names_the_group_and_exits_3(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = kept(monitored_bundle, tmp_path_factory.mktemp("joint") / "three")
    rows = sample_rows(THREE_FEATURES, 3000, seed=21)
    assert _drift(tmp_path / "clean.csv", rows, folder) == (0, "")
    for row in rows:
        if row.get("contract") == "none":
            row["income"] = 1e6 * (row["income"] / 1e6) ** 0.5
    code, said = _drift(tmp_path / "moved.csv", rows, folder)
    assert code == 3
    assert "Moved in one group alone: income (where contract = none: PSI" in said


def _drift(file: Path, rows: list[dict[str, Any]], folder: Path) -> tuple[int, str]:
    with open(file, "w", newline="") as out:
        writer = csv.DictWriter(out, THREE_FEATURES.names)
        writer.writeheader()
        writer.writerows(rows)
    gauges = file.with_suffix(".prom")
    done = run("-m", "monitoring", "drift", str(file), "--model", str(folder), "--textfile", str(gauges))
    assert "Traceback" not in done.stderr
    found = re.findall(r'hotrow_offline_drift_findings\{model="three@1"\} ([\d.]+)', gauges.read_text())
    assert (float(*found) > 0) == (done.returncode == 3)
    return done.returncode, "\n".join(line for line in done.stdout.splitlines() if line.startswith("Moved"))
