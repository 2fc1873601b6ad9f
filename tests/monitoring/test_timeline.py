"""Drift in time: an incident's last day is not diluted by good ones, and is dated."""

from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from monitoring.logs.lines import moment
from server.model.bundle import Bundle
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.commands import run_inside as run
from tests.support.monitored import START, log_of, monitored_bundle

ROWS_A_DAY = 300


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("timeline") / "three")


@pytest.fixture(scope="module")
def log(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven good days and one, from five in the morning on, whose incomes are a hundredth."""
    file = tmp_path_factory.mktemp("log") / "a.jsonl"
    for day in range(12):
        rows = sample_rows(THREE_FEATURES, ROWS_A_DAY, seed=40 + day)
        if day == 11:
            rows = [row | {"income": row["income"] / 100} for row in rows]
        start = START.replace(hour=5 if day == 11 else 0) + timedelta(days=day)
        log_of(bundle, rows, file, start=start, seconds=20, first=1 + day * ROWS_A_DAY)
    return file


def test_the_last_day_is_found_and_dated(bundle: Bundle, log: Path) -> None:
    model = ("--model", str(bundle.directory))
    whole = run("-m", "monitoring", "drift", str(log), *model)
    assert (whole.returncode, "No drift in 3,600 rows" in whole.stdout) == (0, True), whole.stdout
    by_day = run("-m", "monitoring", "drift", str(log), "--by", "day", *model)
    assert by_day.returncode == 3, by_day.stdout + by_day.stderr
    assert "income drifts since 2026-03-12 05:00 UTC" in by_day.stdout
    found = orjson.loads(run("-m", "monitoring", "drift", str(log), "--by", "day", "--json", *model).stdout)
    assert [period["n"] for period in found["periods"]] == [ROWS_A_DAY] * 12
    assert [period["start"] for period in found["periods"] if period["drifted"]] == ["2026-03-12T00:00:00Z"]
    assert found["since"]["income"] == "2026-03-12T05:00:00Z"


@pytest.mark.parametrize("is_planted", [True, False])
def test_one_month_of_twelve_in_fractions_is_found_and_dated(
    bundle: Bundle, tmp_path: Path, *, is_planted: bool
) -> None:
    """Ten rows a day: the whole year dilutes it, and a day or a week has too few."""
    file = tmp_path / "year.jsonl"
    for month in range(1, 13):
        rows = sample_rows(THREE_FEATURES, 300, seed=70 + month)
        if is_planted and month == 5:
            rows = [row | {"income": row["income"] / 100} for row in rows]
        start = START.replace(year=2025, month=month, day=1)
        log_of(bundle, rows, file, start=start, seconds=7000, first=1 + month * 300)
    asked = ("-m", "monitoring", "drift", str(file), "--model", str(bundle.directory), "--by", "month")
    done = run(*asked, "--json")
    found = orjson.loads(done.stdout)
    assert done.returncode == (3 if is_planted else 0), done.stdout
    assert [period["n"] for period in found["periods"]] == [300] * 12
    during = {"start": "2025-05-01T00:00:00Z", "end": "2025-06-01T00:00:00Z"}
    over = [{"name": name, **during} for name in ("income", "score")]
    assert (found["passed"], found["since"]) == (over if is_planted else [], {})
    if is_planted:
        assert "income drifted from 2025-05-01 00:00 to 2025-06-01 00:00 UTC" in run(*asked).stdout


def test_a_part_of_the_time_is_looked_at_alone(bundle: Bundle, log: Path, tmp_path: Path) -> None:
    model, page = ("--model", str(bundle.directory)), ("--html", str(tmp_path / "r.html"))
    assert run("-m", "monitoring", "drift", str(log), "--since", "2026-03-12", *model).returncode == 3
    before = ("--since", "2026-03-10", "--until", "2026-03-12T00:00:00+00:00")
    done = run("-m", "monitoring", "drift", str(log), *before, *model)
    assert (done.returncode, "No drift in 600 rows" in done.stdout) == (0, True)
    report = run("-m", "monitoring", "report", str(log), *before, *model, *page)
    assert "2026-03-10 00:00:00 to 2026-03-11" in " ".join(report.stdout.split())
    nothing = run("-m", "monitoring", "drift", str(log), "--since", "2027-01-01", *model)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert nothing.stderr.startswith("expected lines of three@1 in the time")


def test_report_tells_of_the_last_day_by_itself(bundle: Bundle, log: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    command = ("-m", "monitoring", "report", str(log), "--model", str(bundle.directory), "--html", str(page))
    done = run(*command, "--json", "--check")
    found = orjson.loads(done.stdout)
    assert (done.returncode, found["drift"]["verdict"], found["last_day"]["n"]) == (3, "none", ROWS_A_DAY)
    assert found["last_day"]["since"]["income"] == "2026-03-12T05:00:00Z"
    assert "income since 2026-03-12 05:00 UTC" in page.read_text(encoding="utf-8")
    before = run(*command, "--check", "--until", "2026-03-12")
    assert (before.returncode, "In the last 24 hours" in before.stdout) == (0, False), before.stdout


def test_two_periods_are_compared_with_each_other(bundle: Bundle, log: Path) -> None:
    """Whatever training was like: a day with the days before, and two good ones."""
    command = ("-m", "monitoring", "drift", str(log), "--model", str(bundle.directory), "--json")
    bad = run(*command, "--against", "2026-03-05", "2026-03-12")
    found = orjson.loads(bad.stdout)
    assert (bad.returncode, found["n"], found["columns"][1]["name"]) == (3, ROWS_A_DAY, "income")
    assert found["columns"][1]["cost"] > 0.0  # of a decision, at costs of 5 and 1
    turned = ("--against", "2026-03-12", "2026-03-13", "--since", "2026-03-10", "--until", "2026-03-12")
    assert "of values never seen before" in orjson.loads(run(*command, *turned).stdout)["columns"][1]["why"]
    good = run(*command, "--against", "2026-03-01", "2026-03-06", "--until", "2026-03-11")
    assert (good.returncode, orjson.loads(good.stdout)["n"]) == (0, 5 * ROWS_A_DAY), good.stdout
    few = run(*command, "--against", "2026-03-01", "2026-03-01T00:30")
    assert few.returncode == 1
    assert "expected 200 rows or more from 2026-03-01 00:00 until 2026-03-01 00:30" in few.stderr


def test_a_fault_of_one_branch_is_found_among_its_own_rows(bundle: Bundle, log: Path, tmp_path: Path) -> None:
    """A fifth of all rows, by a field that is no feature: all together are no drift."""
    lines = [orjson.loads(line) for line in log.read_bytes().splitlines()[: 11 * ROWS_A_DAY]]
    for i, line in enumerate(lines):
        line["input"]["branch"] = i % 5
        if i % 5 == 3 and line["ts"] >= "2026-03-08":
            line["input"]["owner"] = True
    told = tmp_path / "a.jsonl"
    told.write_bytes(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
    command = ("-m", "monitoring", "drift", str(told), "--model", str(bundle.directory))
    before = ("--against", "2026-03-01", "2026-03-08")
    assert run(*command, *before).returncode == 0
    found = orjson.loads(run(*command, *before, "--segment", "branch", "--json").stdout)
    assert found["segments"][0] | {"columns": []} == {
        "value": "3", "n": 240, "drifted": ["owner"], "columns": [],
    }  # fmt: skip
    assert [one["drifted"] for one in found["segments"][1:]] == [[]] * 4
    shown = run(*command, *before, "--segment", "branch")
    assert (shown.returncode, "In branch 3 (240 rows): owner" in shown.stdout) == (3, True), shown.stdout
    alone = run(*command, "--segment", "branch")
    assert (alone.returncode, "expected --against FROM UNTIL beside --segment" in alone.stderr) == (1, True)


def test_an_hour_of_few_rows_is_not_judged(bundle: Bundle, log: Path) -> None:
    model, hours = ("--model", str(bundle.directory)), ("--since", "2026-03-12", "--by", "hour")
    found = orjson.loads(run("-m", "monitoring", "drift", str(log), *hours, "--json", *model).stdout)
    assert [period["verdict"] for period in found["periods"]] == ["few", "few"]  # 180 rows an hour at most
    assert found["since"] == {}


def test_times_are_utc_unless_they_say_another_zone() -> None:
    assert moment("2026-03-01T14:00+02:00") == moment("2026-03-01T12:00") == moment("2026-03-01T12:00Z")
    with pytest.raises(ValueError, match="Invalid isoformat"):
        moment("yesterday")
