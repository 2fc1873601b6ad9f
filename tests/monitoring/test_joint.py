"""Drift of small shares, and drift that no column shows by itself: swapped, apart, or in one group alone."""

import csv
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from scipy.stats import hypergeom  # type: ignore[import-untyped]  # it ships none

from monitoring.drift.joint import JointDrift, in_groups, no_longer_together, rounded, swapped
from monitoring.errors import LogError
from monitoring.gauges import put_gauges
from server.metrics.column_shifts import ColumnCounts, ColumnShifts, column_shifts, count_of_tests
from server.metrics.shares import chance_of_more
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
        np.where(random.random(n) < 0.04, 0.0, random.beta(2, 5, n)),
        random.beta(2.2, 4.8, n),
        np.where(random.random(n) < 0.18, np.nan, random.beta(4, 3, n)),
        np.where(random.random(n) < 0.96, 0.0, np.exp(random.normal(6, 1.5, n))),
        random.choice(4, n, p=[0.55, 0.25, 0.15, 0.05]),
        random.choice(5, n, p=[0.4, 0.3, 0.2, 0.08, 0.02]),
    ]
    return np.column_stack(columns)


REFERENCE = reference_of_rows(SCHEMA, drawn(8000, 1), np.random.default_rng(0).random(8000))
JOINT = Joint.from_dict(REFERENCE.joint)


TESTS = count_of_tests([*REFERENCE.features.values(), REFERENCE.score])


def shifts_in(rows: Matrix) -> dict[str, ColumnShifts]:
    found = {}
    for (name, distribution), column in zip(REFERENCE.features.items(), rows.T, strict=True):
        low, high = distribution.range
        counts = ColumnCounts(
            distribution.counts(column),
            int(np.isnan(column).sum()),
            beyond=int(((column < low) | (column > high)).sum()),
        )
        found[name] = column_shifts(distribution, counts, TESTS, 1.0)
    return found


def drifted_in(rows: Matrix) -> list[str]:
    return [
        f"{name} {kind}"
        for name, found in shifts_in(rows).items()
        for kind in ("values", "missing", "unseen")
        if getattr(found, kind).drifted
    ]


def found_in(rows: Matrix) -> list[JointDrift]:
    numbers = [name for name in SCHEMA.names if SCHEMA[name].kind != "category"]
    steady = [name for name, found in shifts_in(rows).items() if not found.values.drifted]
    return [
        *swapped(SCHEMA, rows, REFERENCE, numbers, 1.0),
        *no_longer_together(SCHEMA, rows, REFERENCE, JOINT, steady),
        *rounded(SCHEMA, rows, REFERENCE, JOINT, steady, 1.0),
        *in_groups(SCHEMA, rows, REFERENCE.features, JOINT, steady, 1.0),
    ]


@pytest.mark.whole
def test_clean_samples_raise_at_most_one_alarm_in_340() -> None:
    """Of columns and of what none of them shows, together."""
    sizes = {200: 100, 300: 100, 1000: 100, 5000: 40}
    samples = (drawn(n, 1000 * n + seed) for n, count in sizes.items() for seed in range(count))
    assert sum(bool(drifted_in(rows) or found_in(rows)) for rows in samples) <= 1


def test_a_share_that_grows_or_shrinks_by_half_is_drift_in_3000_rows() -> None:
    """Missing ones, zeros, ones that are hardly ever not 0, and categories: PSI calls all of it small."""
    random = np.random.default_rng(3)
    used, overdue, rating = PLACE["used"], PLACE["overdue"], PLACE["rating"]
    for seed in range(300, 305):
        rows = drawn(3000, seed)
        assert drifted_in(rows) == []
        part = random.random(3000)
        changed = {name: rows.copy() for name in ("missing", "zeros", "amounts", "category", "complete")}
        changed["missing"][part < 0.17, rating] = np.nan  # 18 to 32 %
        changed["zeros"][part < 0.042, used] = 0.0  # 4 to 8 %
        changed["amounts"][part < 0.042, overdue] = 400.0  # 4 to 8 %
        changed["category"][part < 0.052, PLACE["channel"]] = 3  # 5 to 10 %
        changed["complete"][part < 0.014, 0] = np.nan  # 0 to 1.4 %
        assert {name: drifted_in(rows) for name, rows in changed.items()} == {
            "missing": ["rating missing"],
            "zeros": ["used values"],
            "amounts": ["overdue values"],
            "category": ["channel values"],
            "complete": ["income missing"],
        }


def test_the_chance_of_a_share_is_fishers_exact_one() -> None:
    for found, drawn_, marked, total in ((4, 200, 6, 5000), (90, 3000, 140, 7000), (30, 30, 40, 50)):
        exact = hypergeom.sf(found - 1, total, marked, drawn_)
        assert chance_of_more(found, drawn_, marked, total) == pytest.approx(exact, rel=1e-6)


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
    thousands = rows.copy()
    thousands[:, 0] = np.round(rows[:, 0] / 1000) * 1000
    assert drifted_in(thousands) == []
    assert [one.why for one in found_in(thousands)] == ["100% are multiples of 1,000, 0% in training"]
    told = [
        [(one.kind, one.names) for one in found_in(changed)]
        for changed in (twins, shuffled, partner, island, thousands)
    ]
    assert told == [
        [("swapped", ("used", "used_card"))],
        [("together", ("income", "amount"))],
        [("group", ("income",))],
        [("group", ("rating",))],
        [("rounded", ("income",))],
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


@contextmanager
def gateway() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A place to push to: its address, and the bodies that came, by method and path."""
    pushed: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            """What a Pushgateway takes as the whole of a group."""
            pushed[f"{self.command} {self.path}"] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing on standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", pushed
        server.shutdown()


@pytest.mark.parametrize("url", ["127.0.0.1:1", "http://127.0.0.1:1", "ftp://x", "http://[", "http://x y"])
def test_a_gateway_that_is_not_there_is_one_sentence(url: str) -> None:
    with pytest.raises(LogError, match=re.escape(f"expected a Pushgateway at {url}, got: ")):
        put_gauges(CollectorRegistry(), "job", "three@1", None, url)


def _drift(file: Path, rows: list[dict[str, Any]], folder: Path) -> tuple[int, str]:
    with open(file, "w", newline="") as out:
        writer = csv.DictWriter(out, THREE_FEATURES.names)
        writer.writeheader()
        writer.writerows(rows)
    gauges = file.with_suffix(".prom")
    with gateway() as (url, pushed):
        to = ("--textfile", str(gauges), "--push", url)
        done = run("-m", "monitoring", "drift", str(file), "--model", str(folder), *to)
    assert "Traceback" not in done.stderr
    found = re.findall(r'hotrow_offline_drift_findings\{model="three@1"\} ([\d.]+)', gauges.read_text())
    assert pushed == {"PUT /metrics/job/hotrow_drift/model/three%401": gauges.read_bytes()}
    assert (float(*found) > 0) == (done.returncode == 3)
    return done.returncode, "\n".join(line for line in done.stdout.splitlines() if line.startswith("Moved"))
