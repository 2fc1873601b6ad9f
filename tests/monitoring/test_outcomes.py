"""Outcomes joined to decisions, and what the scores promise before any came."""

import csv
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from export.evaluation.cost import Costs
from export.evaluation.evaluate import evaluate
from monitoring.__main__ import main
from monitoring.errors import LogError
from monitoring.outcomes import measures
from monitoring.outcomes.binary import binary_performance
from monitoring.outcomes.estimate import expected
from monitoring.outcomes.joined import Joined
from monitoring.outcomes.measures import Vector
from server.model.bundle import Bundle
from tests.support.monitored import monitored_bundle

ROWS, MONTHS = 1500, ("2026-01", "2026-02", "2026-03")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("outcomes") / "three")


def scores(n: int = ROWS, seed: int = 0) -> Vector:
    return np.round(np.random.default_rng(seed).beta(1.2, 6, n), 3)


def drawn(score: Vector, seed: int = 1) -> Vector:
    return (np.random.default_rng(seed).random(len(score)) < score).astype(float)


def write_log(file: Path, bundle: Bundle, score: Vector) -> Path:
    """Lines of these scores, by request `r0`, `r1`, …; every tenth in a batch with a row of another."""
    with open(file, "wb") as log:
        for i, value in enumerate(score.tolist()):
            ts = f"{MONTHS[i % 3]}-10T08:00:{i % 60:02d}.000000Z"
            word = "grant" if value < 0.4 else "decline"
            line: dict[str, Any] = {"ts": ts, "id": f"boot-{i + 1}", "seq": i + 1, "model": bundle.label}
            row = {"income": i, "contract": "permanent" if i % 2 else "none"}
            if i % 10:
                line |= {"probability": value, "decision": word, "row_id": i, "input": row}
            else:
                line |= {"probabilities": [value, 0.5], "decisions": [word, "decline"]}
                line |= {"row_ids": [i, f"other-{i}"], "input": {"rows": [row, {"income": -1}]}}
            log.write(orjson.dumps(line | {"request_id": f"r{i}", "duration_us": 1.0}) + b"\n")
    return file


def write_outcomes(file: Path, header: str, rows: Any) -> Path:
    with open(file, "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return file


def told(bundle: Bundle, *arguments: str | Path) -> tuple[int, Any]:
    with redirect_stdout(StringIO()) as out:
        code = main(["performance", *map(str, arguments), "--model", str(bundle.directory), "--json"])
    return code, json.loads(out.getvalue())


def test_figures_equal_scikit_learns_by_vintage_and_segment(bundle: Bundle, tmp_path: Path) -> None:
    score = scores()
    outcome = drawn(score)
    log = write_log(tmp_path / "predictions-1-0.jsonl", bundle, score)
    rows = [(i, int(value)) for i, value in enumerate(outcome)]
    file = write_outcomes(tmp_path / "outcomes.csv", "row_id,outcome", [*rows, ("nobody", 1)])
    textfile = tmp_path / "outcomes.prom"
    code, found = told(bundle, log, "--outcomes", file, "--segment", "contract", "--textfile", textfile)
    assert (code, found["verdict"], found["strangers"], found["decisions"]) == (0, "none", 1, ROWS * 11 // 10)
    groups = {"": np.ones(ROWS, bool)} | {f"{m}-01": np.arange(ROWS) % 3 == k for k, m in enumerate(MONTHS)}
    groups |= {"none": np.arange(ROWS) % 2 == 0, "permanent": np.arange(ROWS) % 2 == 1}
    told_groups = [found["whole"], *found["periods"], *found["segments"]]
    assert {one["name"] for one in told_groups} == set(groups)
    for one in told_groups:
        y, p = outcome[groups[one["name"]]], score[groups[one["name"]]]
        false_positive, true_positive, _ = roc_curve(y, p, drop_intermediate=False)
        assert one["n"] == len(y)
        assert one["auc"]["value"] == pytest.approx(roc_auc_score(y, p), abs=1e-12)
        assert one["brier"]["value"] == pytest.approx(brier_score_loss(y, p), abs=1e-12)
        assert one["ks"] == pytest.approx((true_positive - false_positive).max(), abs=1e-12)
        assert one["auc"]["low"] < one["auc"]["value"] < one["auc"]["high"]
    cost = 5 * (outcome * (score < 0.4)).mean() + ((1 - outcome) * (score >= 0.4)).mean()
    assert found["whole"]["cost"]["value"] == pytest.approx(cost)
    gauges = dict(line.split(" ") for line in textfile.read_text().splitlines() if not line.startswith("#"))
    assert float(gauges[f'hotrow_outcome_auc{{model="{bundle.label}"}}']) == found["whole"]["auc"]["value"]


def test_keys_corrections_and_worse_outcomes(bundle: Bundle, tmp_path: Path) -> None:
    score = scores()
    log = write_log(tmp_path / "predictions-1-0.jsonl", bundle, score)
    worse = drawn(np.minimum(1, score * 1.7))
    late = [(f"r{i}", int(v), "2026-05-01T00:00") for i, v in enumerate(worse) if i % 10]
    early = [("r1", 1 - int(worse[1]), "2026-04-01T00:00")]
    file = write_outcomes(tmp_path / "a.csv", "request_id,outcome,at", late + early)
    page = tmp_path / "outcomes.html"
    code, found = told(bundle, log, "--outcomes", file, "--html", str(page))
    text = page.read_text(encoding="utf-8")
    assert "<li>All: more outcomes than the scores promise" in text
    assert (text.count("<svg "), text.count("<section>")) == (2, 3)
    assert (code, found["corrected"], found["whole"]["n"]) == (3, 1, ROWS * 9 // 10)
    assert "more outcomes than the scores promise" in found["whole"]["worse"]
    kept = np.arange(ROWS) % 10 > 0
    assert found["whole"]["rate"]["value"] == pytest.approx(worse[kept].mean())
    for key, of in (("id", lambda i: f"boot-{i + 1}" if i % 10 else f"boot-{i + 1}/0"), ("income", str)):
        file = write_outcomes(
            tmp_path / f"{key}.csv", f"{key},outcome", [(of(i), int(v)) for i, v in enumerate(worse)]
        )
        assert told(bundle, log, "--outcomes", file)[1]["whole"]["n"] == ROWS
    code, found = told(bundle, log)
    assert (code, found["whole"], found["expected"]["rows"]) == (0, None, ROWS * 11 // 10)


def test_report_concludes_from_outcomes_and_before_them(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = scores()
    log, page = write_log(tmp_path / "predictions-1-0.jsonl", bundle, score), tmp_path / "report.html"
    command = ["report", str(log), "--model", str(bundle.directory), "--html", str(page), "--check"]
    main(command)
    text = page.read_text(encoding="utf-8")
    assert "<li>Before outcomes came, the scores promise a rate of 0." in text
    assert "What the scores promise" in text
    assert "By outcomes" not in text
    assert "Before outcomes came" in " ".join(capsys.readouterr().out.split())
    worse = [(i, int(value)) for i, value in enumerate(drawn(np.minimum(1, score * 1.7)))]
    file = write_outcomes(tmp_path / "outcomes.csv", "row_id,outcome", worse)
    assert main([*command, "--outcomes", str(file)]) == 3
    text = page.read_text(encoding="utf-8")
    assert "<li>Decisions with an outcome (1,500) are worse than the model promised: more outcomes" in text
    assert f"The figures speak of {ROWS:,} alone" in text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("row_id\n1\n", "KEY,outcome"),
        ("row_id,id,outcome\n1,2,0\n", "KEY,outcome"),
        ("client,branch,outcome\n1,2,0\n", "KEY,outcome"),
        ("row_id,outcome,at\n1,1,3/4/2026\n", "are not told apart"),
        ("row_id,outcome,at\n1,1,13/4/2026\n2,1,4/13/2026\n", "change places"),
        ("row_id,outcome,at\n1,1,2025-05-01\n", "at is before each"),
        ("row_id,outcome\n1,maybe\n", "'maybe'"),
        ("row_id,outcome,at\n1,1,yesterday\n", "'yesterday'"),
        ("", "KEY,outcome"),
        ("Outcome,outcome\n1,1\n", "KEY,outcome"),
        ("row_id,outcome\n1,1\n2,0,1\n3\n", "2 cells in each record.*line 3"),
        ("row_id,outcome\nnobody,1\nno one,0\n", "row_id is 'no.*', … there and '?[0-9]"),
    ],
)
def test_outcomes_that_are_none_are_refused(bundle: Bundle, tmp_path: Path, text: str, word: str) -> None:
    log = write_log(tmp_path / "predictions-1-0.jsonl", bundle, scores(20))
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(LogError, match=word):
        told(bundle, log, "--outcomes", file)


@pytest.mark.parametrize(
    ("name", "encoding", "text"),
    [
        ("a.csv", "utf-16", "row_id;outcome;at\r\n1;1;2026-05-01\r\n2;0;2026-05-01\r\n"),
        ("a.txt", "utf-8-sig", "row_id\toutcome\n1\t1\n\n2\t0\n"),
        ("a.csv", "cp1252", "row_id,outcome\n 1 , true \n2,FALSE\nMüller,1\n"),
        ("a.csv", "utf-8", "Row_ID, OUTCOME ,At\n1,1,2026-05-01\n2,0,2026-05-01\n3,NA,\n4,#N/A,\n5,,\n"),
        ("a.csv", "utf-8", "row_id;outcome;at\n1;0;2.4.2026\n1;1,0;10.04.2026\n2;0,0;01.04.2026 14:05\n"),
        ("a.csv", "utf-8", 'sep=;\nrow_id;outcome\n"1";1\n2;0\n'),
        ("a.csv", "utf-8", "row_id,outcome,at\n1.0,1.0,13/05/2026\n2.00,0.0,5/4/2026 9:05 PM\n"),
        ("a.csv", "utf-8", ",at,Outcome,note,row_id\n0,4-30-2026,Yes,,1\n1,5-1-2026,N,x,2\n"),
        ("a.csv", "utf-8", "row_id;outcome\n1,0;VRAI\n2,0;FAUX\n"),
    ],
)
def test_outcomes_are_read_as_people_have_them(
    bundle: Bundle, tmp_path: Path, name: str, encoding: str, text: str
) -> None:
    log = write_log(tmp_path / "predictions-1-0.jsonl", bundle, scores(20))
    (tmp_path / name).write_bytes(text.encode(encoding))
    code, found = told(bundle, log, "--outcomes", tmp_path / name)
    assert (code, found["whole"]["n"], found["strangers"]) == (0, 2, text.count("Müller"))
    assert found["whole"]["rate"]["value"] == 0.5


def test_lines_that_no_server_wrote_end_no_command(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number without an end is no score, and a list no model."""
    log = write_log(tmp_path / "predictions-1-0.jsonl", bundle, scores(20))
    lines = log.read_bytes().splitlines()
    line = orjson.loads(lines[1])
    endless = orjson.dumps(line | {"probability": 7}).replace(b":7,", b":" + b"9" * 400 + b",")
    log.write_bytes(
        b"\n".join([*lines, endless, orjson.dumps(line | {"id": "boot-99", "model": ["a"]}), b""])
    )
    file = write_outcomes(tmp_path / "a.csv", "row_id,outcome", [(1, 1), (2, 0)])
    assert told(bundle, log, "--outcomes", file)[1]["whole"]["n"] == 2
    assert main(["find", str(log), "--id", "boot-99"]) == 0
    assert "boot-99: not computed again" in capsys.readouterr().err


def test_outcome_is_of_the_latest_decision_before_it(bundle: Bundle, tmp_path: Path) -> None:
    """Decisions of three months; the zone of a time counts, and what was decided later knew of it."""
    log = write_log(tmp_path / "predictions-1-0.jsonl", bundle, scores(20))
    file = write_outcomes(tmp_path / "a.csv", "contract,outcome,at", [("permanent", 1, "2026-02-20")])
    assert [period["name"] for period in told(bundle, log, "--outcomes", file)[1]["periods"]] == [
        "2026-02-01"
    ]
    rows = [("r1", 1, "2026-05-01T00:30+02:00"), ("r1", 0, "2026-04-30T23:00Z"), ("r2", 1, "2025-12-31")]
    file = write_outcomes(tmp_path / "b.csv", "request_id,outcome,at", rows)
    found = told(bundle, log, "--outcomes", file)[1]
    assert (found["whole"]["n"], found["whole"]["rate"]["value"], found["corrected"]) == (1, 0.0, 1)
    assert (found["dated_before_the_decision"], found["strangers"]) == (1, 0)


def test_file_without_a_known_outcome_is_told_from_none(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "predictions-1-0.jsonl", bundle, scores(20))
    (tmp_path / "a.csv").write_text("row_id,outcome\n1,\n")
    assert told(bundle, log)[1]["outcomes"] is None
    assert told(bundle, log, "--outcomes", tmp_path / "a.csv")[1]["outcomes"] == 0
    capsys.readouterr()
    main(["performance", str(log), "--model", str(bundle.directory), "--outcomes", str(tmp_path / "a.csv")])
    assert "No outcome is known yet" in capsys.readouterr().out


@pytest.mark.whole
def test_expected_figures_hold_in_95_of_100_windows_without_a_shift() -> None:
    held = {"rate": 0, "brier": 0, "auc": 0, "cost": 0}
    for seed in range(100):
        score = np.sort(scores(1000, seed))
        outcome = drawn(score, 1000 + seed)
        accepted = score < 0.3
        promise = expected(score, np.ones(1000), accepted.astype(float), (10.0, 1.0))
        cost = (10 * accepted * outcome + ~accepted * (1 - outcome)).mean()
        known = {
            "rate": outcome.mean(),
            "brier": brier_score_loss(outcome, score),
            "auc": roc_auc_score(outcome, score),
            "cost": cost,
        }
        for name, value in known.items():
            figure = getattr(promise, name)
            held[name] += bool(figure.low <= value <= figure.high)
    assert min(held.values()) >= 95, held


@pytest.mark.parametrize("upside_down", [False, True])
def test_expected_rate_of_few_rows_lies_within_none_and_all(upside_down: bool) -> None:
    """And holds as often as it says: 97 of 100 windows of 20 rows, at 99 % and a share of a few ones."""
    held = 0
    for seed in range(500):
        score = np.sort(scores(20, seed))
        if upside_down:
            score = np.sort(1 - score)
        promise = expected(score, np.ones(20), np.ones(20), (10.0, 1.0))
        assert 0 <= promise.rate.low <= promise.rate.value <= promise.rate.high <= 1
        assert min(promise.brier.low, promise.cost.low) >= 0
        held += promise.rate.low <= drawn(score, 1000 + seed).mean() <= promise.rate.high
    assert held >= 485, held


def test_calibrated_outcomes_are_called_worse_once_in_a_thousand_windows_at_most() -> None:
    score = scores(500)
    surprises = [abs(measures.surprise(score, drawn(score, seed))) for seed in range(1000)]
    assert sum(value > 3.29 for value in surprises) <= 3


def test_area_below_a_threshold_is_that_of_the_rows_below_it() -> None:
    score = scores(4000)
    outcome, low = drawn(score), score < 0.2
    curve = np.column_stack(roc_curve(outcome, score)[:2])
    at = tuple(float((~low)[outcome == value].mean()) for value in (0, 1))
    bad = int(outcome[low].sum())
    found = measures.auc_below(curve, bad, int(low.sum()) - bad, (at[0], at[1]))
    assert found.value == pytest.approx(roc_auc_score(outcome[low], score[low]), abs=1e-12)
    delong = measures.auc(score[low], outcome[low])
    assert found.high - found.low == pytest.approx(delong.high - delong.low, rel=0.2)  # a little wide


def test_accepted_alone_are_compared_with_the_accepted_of_training(bundle: Bundle, tmp_path: Path) -> None:
    """Good scores of which only the low ones have outcomes are not worse; such that tell nothing are."""
    score = np.clip(scores(6000, seed=5), 0.001, 0.999)
    held = evaluate(drawn(score, 7), score, 0.15, Costs(10.0, 1.0))
    for name, shuffled in (("as promised", False), ("of chance", True)):
        told = Bundle.load(bundle.directory)
        told.manifest["evaluation"] = {"held_out": held}
        rate = np.random.default_rng(3).permutation(score) if shuffled else score
        low = score < 0.15
        one = np.full(int(low.sum()), "", dtype=object)
        everything = np.ones(len(one), dtype=np.bool_)
        joined = Joined(score[low], drawn(rate, 8)[low], everything, one, one, len(one), 0, 0)
        found = binary_performance(joined, told, name, everything)
        assert ("AUC" in found.worse) == shuffled, (name, found)
