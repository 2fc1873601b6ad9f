"""The report, the replay and the proof of completeness, from the commands a user calls."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from monitoring.logs.replay import replay
from monitoring.logs.status_codes import read_errors
from monitoring.logs.table import open_log
from monitoring.logs.verification import LogVerdict, verify
from monitoring.report.anomalies import anomalies
from monitoring.report.figures import figures, moving_average
from monitoring.report.page import render
from monitoring.report.report import make_report
from monitoring.report.words import conclusions, summary
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.bundles import THREE_FEATURES, rewritten, sample_rows
from tests.support.commands import run_inside as run
from tests.support.monitored import monitored_bundle, send_all
from tests.support.servers import exchange, post, serving

pytestmark = pytest.mark.whole

START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("report") / "three")


@pytest.fixture(scope="module")
def served(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The log of 300 rows and a batch, and the answers to the rows."""
    folder = tmp_path_factory.mktemp("served")
    rows = sample_rows(THREE_FEATURES, 300, seed=6)
    with serving(bundle.directory, folder) as subject:
        answers = send_all(subject.url, rows)
        (batch,) = exchange(subject.url, post("/predict/batch", orjson.dumps({"rows": rows[:40]})))
        assert batch.status == 200
    return folder / "logs", answers


def lines(count: int, **changes: Any) -> list[dict[str, Any]]:
    """`count` lines of a log as our server writes them, ten a second."""
    rows = sample_rows(THREE_FEATURES, 50, seed=9)
    random = np.random.default_rng(0)
    return [
        {
            "ts": (START + timedelta(seconds=i / 10)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "id": f"0123456789ab-{i + 1}",
            "probability": 0.25 + 0.5 * (i % 2),
            "decision": ("grant", "decline")[i % 2],
            "model": "three@1",
            "seq": i + 1,
            "input": rows[i % 50],
            "duration_us": 30.0 + float(random.random()),
            "cpu_percent": 20.0,
            "rss_mb": 90.0,
            **changes,
        }
        for i in range(count)
    ]


def write(path: Path, records: list[dict[str, Any]], rest: bytes = b"") -> Path:
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records) + rest)
    return path


def test_figures_are_those_of_the_lines(tmp_path: Path) -> None:
    log = write(tmp_path / "a.jsonl", lines(1000), rest=b'{"ts":"2026')
    with open_log([log]) as table:
        found = figures(table)
    assert (found.requests, found.rows, found.unreadable, found.files) == (1000, 1000, 1, 1)
    assert found.refusal == "decline"
    assert found.refusal_rate == 0.5
    assert found.score_counts.sum() == 1000
    assert found.seconds == pytest.approx(99.9)
    durations = [line["duration_us"] for line in lines(1000)]
    assert found.latency.p99 == pytest.approx(np.quantile(durations, 0.99))
    assert (found.latency.minimum, found.latency.maximum) == (min(durations), max(durations))
    assert found.periods.requests.sum() == found.periods.scored.sum() == 1000


def test_pace_is_told_in_a_unit_in_which_there_is_a_request(tmp_path: Path) -> None:
    said = {0.5: "2.0 per second", 8.0: "7.6 per minute", 900.0: "4.0 per hour", 1e5: "0.9 per day"}
    for apart, words in said.items():
        records = lines(100)
        for i, record in enumerate(records):
            record["ts"] = (START + timedelta(seconds=i * apart)).isoformat()
        report = make_report([write(tmp_path / "a.jsonl", records)], None)
        assert next(summary(report))[:2] == (f"requests, {words}", "100")
    assert "Requests per day<" in render(report)


def test_last_request_falls_into_the_last_period_at_any_microsecond(tmp_path: Path) -> None:
    # Of seconds as floats one in 70 such logs ended a microsecond beyond its last period.
    times = ["2026-11-27T02:41:05.822673Z", "2026-11-27T02:41:05.885944Z"]
    log = write(tmp_path / "a.jsonl", [{**line, "ts": ts} for line, ts in zip(lines(2), times, strict=True)])
    with open_log([log]) as table:
        found = figures(table)
    assert found.periods.requests.tolist() == [2]


@pytest.mark.parametrize(
    "scores", [(5.0, 5.0), (-3e38, 3e38), (2.0, 1e-320), (-1e-320, -1e-320), (3e38, 3e38)]
)
def test_scores_of_any_range_are_counted(tmp_path: Path, scores: tuple[float, float]) -> None:
    log = write(
        tmp_path / "a.jsonl",
        [{**line, "probability": score} for line, score in zip(lines(2), scores, strict=True)],
    )
    with open_log([log]) as table:
        found = figures(table)
    assert found.score_counts.sum() == 2


def test_the_original_projects_log_is_read(tmp_path: Path) -> None:
    records = [
        {"timestamp": "2025-08-01T10:00:00.5", "prediction": "Probabilité de défaut : 0.42 -> crédit refusé"},
        {"timestamp": "2025-08-01 10:00:01", "prediction": "Score de risque = 12,5 % : crédit accordé"},
        {"timestamp": "2025-08-01 10:00:02", "prediction": "0.07"},
        {"timestamp": "2025-08-01 10:00:03", "prediction": "Erreur : champ manquant"},
    ]
    rest = {"input": {"income": 1}, "duration": 0.05, "cpu_percent": 12.5, "memory_usage_MB": 210.5}
    log = write(tmp_path / "calls.json", [record | rest for record in records])
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([record | rest for record in records]))
    for file in (log, listed):
        with open_log([file], THREE_FEATURES) as table:
            query = "select score, decision, duration_us, rss_mb from requests order by ts"
            found = table.rows(query)
        assert [score for score, *_ in found] == [0.42, 0.125, 0.07, None]
        assert [decision for _, decision, *_ in found] == ["refuse", "accept", None, None]
        assert {tuple(more) for _, _, *more in found} == {(50_000.0, 210.5)}
    report = run("-m", "monitoring", "report", str(log), "--html", str(tmp_path / "r.html"))
    assert report.returncode == 0, report.stderr


def test_anomalies_are_marked_with_why(tmp_path: Path) -> None:
    records = lines(6000)
    for i in range(3000, 3100):
        records[i]["duration_us"] = 4000.0
    for i in range(4000, 4200):
        records[i]["decision"] = "decline"
    for i in range(5000, 5200):
        records[i]["cpu_percent"] = 100.0
    with open_log([write(tmp_path / "a.jsonl", records[:1000] + records[1400:])]) as table:
        found = anomalies(figures(table))
    whys = {anomaly.figure: anomaly.why for anomaly in found}
    assert set(whys) == {"latency", "tail", "refusals", "cpu", "requests"}
    assert whys["latency"].startswith("4,000 µs median latency, typically 3")
    assert "“decline”" in whys["refusals"]
    assert whys["requests"].startswith("no requests for")


def test_lasting_change_of_decisions_that_no_period_shows_by_itself_is_an_anomaly(tmp_path: Path) -> None:
    records, random = lines(6000), np.random.default_rng(2)
    for i, (record, drawn) in enumerate(zip(records, random.random(6000), strict=True)):
        record["decision"] = "decline" if drawn < (0.22 if i < 5000 else 0.07) else "grant"
    with open_log([write(tmp_path / "a.jsonl", records)]) as table:
        found = figures(table, ("grant", "decline"), "decline")
        (change,) = [one for one in anomalies(found) if one.last == len(found.periods.starts) - 1]
    assert abs(change.first / len(found.periods.starts) - 5 / 6) < 0.02
    assert re.fullmatch(r"[67]\.\d% of decisions are “decline” since then, 2[0-4]\.\d% before", change.why)


def test_incident_is_its_beginning_and_its_end_and_no_period_around_them(tmp_path: Path) -> None:
    """The rate of both together is usual for neither: nearly every period would be odd beside it."""
    records, random = lines(6000), np.random.default_rng(2)
    for i, (record, drawn) in enumerate(zip(records, random.random(6000), strict=True)):
        record["decision"] = "decline" if drawn < (0.7 if 2500 <= i < 4500 else 0.15) else "grant"
    with open_log([write(tmp_path / "a.jsonl", records)]) as table:
        found = anomalies(figures(table, ("grant", "decline"), "decline"))
    shares = [[float(share) > 50.0 for share in re.findall(r"(\S+)%", one.why)] for one in found]
    assert shares == [[True, False], [False, True]], found  # since then, before


def test_lasting_change_is_concluded_before_short_ones(tmp_path: Path) -> None:
    records, random = lines(6000), np.random.default_rng(2)
    for i, (record, drawn) in enumerate(zip(records, random.random(6000), strict=True)):
        record["decision"] = "decline" if drawn < (0.1 if i < 1500 else 0.5) else "grant"
        record["duration_us"] *= 100 if i < 1200 and i % 300 < 30 else 1  # four short stretches, before it
    report = make_report([write(tmp_path / "a.jsonl", records)], None)
    assert len(report.anomalies) > 3
    first = next(said for said in conclusions(report) if "out of the ordinary" in said)
    assert "since then" in first


def test_an_even_log_has_no_anomaly(tmp_path: Path) -> None:
    with open_log([write(tmp_path / "a.jsonl", lines(6000))]) as table:
        assert anomalies(figures(table)) == []


def test_a_moving_average_leaves_gaps_out() -> None:
    values = np.array([1.0, np.nan, 3.0, np.nan, np.nan, np.nan, 5.0])
    averages = moving_average(values, periods=3)
    assert averages[[0, 1, 2, 6]].tolist() == [1.0, 2.0, 3.0, 5.0]
    assert np.isnan(averages[4])


def test_the_page_is_whole_by_itself_and_shows_everything(
    bundle: Bundle, served: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    done = run(
        "-m", "monitoring", "report", str(served[0]), "--html", str(page), "--model", str(bundle.directory)
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)|<script|@import', text)
    assert (
        "#1f2937" not in text.partition("</style>")[2]
    )  # each colour is one for the light and one for the dark
    short = re.findall(r"<li>(.*?)</li>", text.partition("In short")[2].partition("</section>")[0])
    assert any("as in training" in sentence for sentence in short), short
    for words in ("Latency over time", "Histogram of the scores", "Refusal rate", "CPU", "memory", "Drift"):
        assert words in text
    assert text.count("<svg ") >= 6 + len(THREE_FEATURES) + 1
    for words in ("requests", "high risk", "p99", "No drift" if "No drift" in done.stdout else "drift"):
        assert words in done.stdout


def test_report_of_a_policy_has_every_limit_and_follows_the_refusals(bundle: Bundle, tmp_path: Path) -> None:
    from monitoring.report.page import render

    bands = [
        {"decision": "grant", "below": 0.2},
        {"decision": "refer", "below": 0.4},
        {"decision": "decline"},
    ]
    folder = rewritten(bundle.directory, tmp_path / "policy", policy={"bands": bands})
    records = [record | ({} if i % 5 else {"decision": "refer"}) for i, record in enumerate(lines(500))]
    page = render(make_report([write(tmp_path / "a.jsonl", records)], Bundle.load(folder)))
    for said in (
        "grant: under 0.2",
        "refer: 0.2 to 0.4",
        "decline: from 0.4",
        "Share of “decline” over time",
    ):
        assert said in page


def test_the_same_log_gives_the_same_page(bundle: Bundle, tmp_path: Path) -> None:
    log = write(tmp_path / "a.jsonl", lines(500))
    from monitoring.report.page import render

    assert render(make_report([log], bundle)) == render(make_report([log], bundle))


def test_rows_of_batches_are_scored_rows(bundle: Bundle, served: tuple[Path, list[dict[str, Any]]]) -> None:
    with open_log([served[0]], bundle.schema) as table:
        found = figures(table)
    assert (found.requests, found.rows) == (301, 340)


def test_error_rates_come_from_the_metrics(tmp_path: Path) -> None:
    page = tmp_path / "metrics"
    page.write_text(
        "# TYPE hotrow_request_duration_seconds histogram\n"
        'hotrow_request_duration_seconds_count{route="/predict",method="POST",code="200"} 97\n'
        'hotrow_request_duration_seconds_count{route="/predict",method="POST",code="422"} 3\n'
        'hotrow_request_duration_seconds_count{route="/livez",method="GET",code="200"} 5\n'
    )
    errors = read_errors(str(page))
    assert errors.by_code == {"200": 97, "422": 3}
    assert errors.rate == pytest.approx(0.03)


def test_the_same_bundle_reproduces_every_logged_probability_to_the_bit(
    bundle: Bundle, served: tuple[Path, list[dict[str, Any]]]
) -> None:
    result = replay([served[0]], bundle)
    assert (result.rows, result.equal, result.audited, result.disagreeing) == (340, 340, 340, 0)
    assert result.flipped == result.mean_shift == result.score_psi == 0
    done = run("-m", "monitoring", "replay", str(served[0]), "--model", str(bundle.directory))
    assert done.returncode == 0
    assert "came out the same to the bit" in done.stdout


def test_a_changed_answer_is_found_by_the_audit(
    bundle: Bundle, served: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    (file,) = served[0].glob("*.jsonl")
    records = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    records[7]["probability"] = float(np.nextafter(records[7]["probability"], 1))
    log = write(tmp_path / "a.jsonl", records)
    assert replay([log], bundle).disagreeing == 1
    assert run("-m", "monitoring", "replay", str(log), "--model", str(bundle.directory)).returncode == 3
    records = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    margin = np.nextafter(float.fromhex(records[7]["margin"]), 9)  # the probability may be the same
    write(log, [*records[:7], records[7] | {"margin": float(margin).hex()}, *records[8:]])
    assert replay([log], bundle).disagreeing == 1


def test_another_bundle_shows_what_it_would_change(
    bundle: Bundle, served: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    other = monitored_bundle(tmp_path / "other", version="2", trees=3)
    result = replay([served[0]], other)
    predictor = Predictor(other)
    rows = sample_rows(THREE_FEATURES, 300, seed=6)
    now = [predictor.predict(other.schema.encode(row)) for row in rows]
    then = served[1]
    words = (other.decision.below, other.decision.otherwise)
    flips = sum(words[d] != response["decision"] for (_, d), response in zip(now, then, strict=True))
    flips += sum(words[d] != response["decision"] for (_, d), response in zip(now[:40], then, strict=False))
    assert result.flipped == flips > 0
    assert result.audited == 0
    assert result.most_changed[0].id.split("-")[0]
    changes = [abs(p - response["probability"]) for (p, _), response in zip(now, then, strict=True)]
    assert result.moved[-1] == max(changes)


def test_gaps_and_doubles_are_found_and_named(tmp_path: Path) -> None:
    records = lines(100)
    log = write(tmp_path / "a.jsonl", records[:40] + records[45:] + records[50:51])
    checked = verify([log])
    (instance,) = checked.instances
    assert instance.gaps == [(41, 45)]
    assert (checked.lost, checked.duplicates, checked.whole) == (5, 1, False)
    done = run("-m", "monitoring", "verify-log", str(log))
    assert done.returncode == 3
    assert "missing 41-45" in " ".join(done.stdout.split())


def test_a_loss_at_the_end_is_found_by_the_journal(tmp_path: Path) -> None:
    log = write(tmp_path / "predictions-1-0.jsonl", lines(90))
    opened = {"ts": "x", "event": "opened", "boots": ["0123456789ab"], "pid": 1}
    closed = {"ts": "x", "event": "closed", "boots": ["0123456789ab"], "lines": 100, "dropped": 0}
    write(tmp_path / "predictions-1-0.ledger", [opened, closed], rest=b'{"half')
    checked = verify([log])
    assert checked.lost == checked.processes[0].unwritten == 10


def test_a_line_that_was_written_and_is_gone_counts_once_beside_dropped_ones(tmp_path: Path) -> None:
    records = lines(100)
    log = write(tmp_path / "predictions-1-0.jsonl", records[:40] + records[43:70] + records[71:])
    opened = {"ts": "x", "event": "opened", "boots": ["0123456789ab"], "pid": 1}
    closed = {"ts": "x", "event": "closed", "boots": ["0123456789ab"], "lines": 97, "dropped": 3}
    write(tmp_path / "predictions-1-0.ledger", [opened, closed])
    assert verify([log]).lost == 4  # three that were dropped, one that was written


def test_an_instance_that_lost_every_line_is_found_by_the_journal(tmp_path: Path) -> None:
    log = write(tmp_path / "predictions-1-0.jsonl", lines(10))
    gone = {"ts": "x", "event": "opened", "boots": ["gone"], "pid": 1}
    last = {"ts": "x", "event": "closed", "boots": ["gone"], "lines": 7, "dropped": 0}
    write(tmp_path / "predictions-1-0.ledger", [gone, last])
    assert verify([log]).lost == 7


def test_a_file_that_is_no_log_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("hello\n")
    done = run("-m", "monitoring", "report", str(file), "--html", str(tmp_path / "r.html"))
    assert done.returncode == 1
    assert "expected lines of a prediction log" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_that_was_never_closed_is_neither_whole_nor_missing(tmp_path: Path) -> None:
    log = write(tmp_path / "predictions-1-0.jsonl", lines(10))
    opened = {"ts": "x", "event": "opened", "boots": ["0123456789ab"], "pid": 1}
    closed = {"ts": "x", "event": "closed", "boots": ["0123456789ab"], "lines": 10, "dropped": 0}
    verdicts = {}
    for name, records in (("no journal", []), ("open", [opened]), ("closed", [opened, closed])):
        write(tmp_path / "predictions-1-0.ledger", records)
        done = run("-m", "monitoring", "verify-log", str(log))
        verdicts[name] = (done.returncode, done.stdout.splitlines()[-1].partition(":")[0])
    assert verdicts == {
        "no journal": (4, "not provable"),
        "open": (4, "not provable"),
        "closed": (0, "whole"),
    }
    empty = write(tmp_path / "predictions-1-0.jsonl", [])
    write(tmp_path / "predictions-1-0.ledger", [opened])
    assert verify([empty]).verdict is LogVerdict.NOT_PROVABLE


@pytest.mark.parametrize(("dropped", "deleted", "lost"), [(0, False, 0), (5, False, 5), (0, True, 0)])
def test_lines_dropped_at_the_end_are_missing_and_those_of_deleted_files_are_not(
    tmp_path: Path, dropped: int, deleted: bool, lost: int
) -> None:
    log = write(tmp_path / "predictions-1-0.jsonl", lines(10))
    older: list[dict[str, Any]] = [
        {"ts": "x", "event": "opened", "boots": ["older"], "pid": 1},
        {"ts": "x", "event": "closed", "boots": ["older"], "lines": 70, "dropped": 0},
        {"ts": "x", "event": "removed", "files": ["predictions-1-0.000001.20200101T000000Z.jsonl"]},
    ]
    opened = {"ts": "x", "event": "opened", "boots": ["0123456789ab"], "pid": 1}
    closed = {"ts": "x", "event": "closed", "boots": ["0123456789ab"], "lines": 10, "dropped": dropped}
    write(tmp_path / "predictions-1-0.ledger", [*(older if deleted else []), opened, closed])
    assert verify([log]).lost == lost
