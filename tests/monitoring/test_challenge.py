"""What is said of a challenger: flips and shift of its lines, and with outcomes which model is better."""

import shutil
from datetime import datetime
from html import unescape
from pathlib import Path

import numpy as np
import orjson
import pytest
from sklearn.metrics import roc_auc_score

from monitoring.errors import LogError
from monitoring.outcomes import measures
from monitoring.outcomes.challenge import challenges
from monitoring.report.page import render
from monitoring.report.report import make_report
from server.model.bundle import Bundle
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.commands import run_inside as run
from tests.support.kept import kept
from tests.support.monitored import log_of, monitored_bundle

ROWS = 4000
#: Where a decision costs least at the bundle's costs of 5 to 1.
CUT = 1 / 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept(monitored_bundle, tmp_path_factory.mktemp("challenge") / "three")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines of a champion that knows little and a challenger that knows much, some twice, one torn."""
    folder = tmp_path_factory.mktemp("challenged")
    random = np.random.default_rng(4)
    truth = random.beta(1.5, 4, ROWS)
    weak = np.clip(truth + random.normal(0, 0.3, ROWS), 0, 1)
    outcome = (random.random(ROWS) < truth).astype(int)
    lines = []
    for i in range(ROWS):
        decisions = ["decline" if score >= CUT else "grant" for score in (weak[i], truth[i])]
        line = {"ts": f"2026-03-01T0{8 + i % 4 // 3}:00:00.000000Z", "id": f"0a-{i}", "request_id": f"r{i}"}
        line |= {"model": "three@1", "score": weak[i], "decision": decisions[0]}
        line |= {"challenger": "three@2", "challenger_score": truth[i], "challenger_decision": decisions[1]}
        lines.append(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY))
    content = b"\n".join([*lines, *lines[:10], b'{"ts": "2026'])
    (folder / "challenger-8000-three@2.ndjson").write_bytes(content)
    rows = [f"r{i},{outcome[i]}" for i in range(0, ROWS, 2)]
    (folder / "outcomes.csv").write_text("request_id,outcome\n" + "\n".join([*rows, "r-none,1"]) + "\n")
    np.savez(folder / "kept.npz", truth=truth, weak=weak, outcome=outcome)
    return folder


def challenge(log: Path, model: Path, *words: str) -> tuple[int, dict[str, object]]:
    done = run("-m", "monitoring", "challenge", str(log), "--model", str(model), "--json", *words)
    assert done.stdout, done.stderr
    (one,) = orjson.loads(done.stdout)
    return done.returncode, one


def test_flips_and_outcomes_say_which_is_better(log: Path, model: Path) -> None:
    kept_ = np.load(log / "kept.npz")
    truth, weak, outcome = kept_["truth"], kept_["weak"], kept_["outcome"]
    code, found = challenge(log, model, "--outcomes", str(log / "outcomes.csv"))
    assert (code, found["verdict"], found["rows"], found["strangers"]) == (0, "better", ROWS, 1)
    flips = {(a, b): n for a, b, n in found["flips"]}  # type: ignore[attr-defined]
    assert flips == {
        ("decline", "grant"): int(((weak >= CUT) & (truth < CUT)).sum()),
        ("grant", "decline"): int(((weak < CUT) & (truth >= CUT)).sum()),
    }
    worst = int(np.abs(truth - weak).argmax())
    assert found["worst"][0] == [f"0a-{worst}", weak[worst], truth[worst]]  # type: ignore[index]
    some = slice(0, ROWS, 2)
    paired: dict[str, dict[str, float]] = found["paired"]  # type: ignore[assignment]
    ours, theirs = (roc_auc_score(outcome[some], score[some]) for score in (weak, truth))
    assert paired["auc"]["value"] == pytest.approx(ours, abs=1e-12)
    assert paired["auc_gain"]["value"] == pytest.approx(theirs - ours, abs=1e-12)
    spent = [
        np.where(score[some] < CUT, 5.0 * outcome[some], 1.0 - outcome[some]).mean()
        for score in (weak, truth)
    ]
    assert paired["cost_saved"]["value"] == pytest.approx(spent[0] - spent[1], abs=1e-12)


def test_report_shows_lines_by_arm_agreement_and_which_is_better(
    log: Path, model: Path, tmp_path: Path
) -> None:
    bundle, rows = Bundle.load(model), sample_rows(THREE_FEATURES, 60, seed=1)
    file = log_of(bundle, rows, tmp_path / "predictions-8000-0.jsonl")
    other = file.read_bytes().replace(b'"three@1"', b'"three@2"').replace(b"0123456789ab", b"0123456789ac")
    (tmp_path / "predictions-8000-1.jsonl").write_bytes(b"".join(other.splitlines(True)[:20]))
    (beside,) = log.glob("*.ndjson")
    shutil.copy(beside, tmp_path)
    challenged = challenges([tmp_path], bundle, log / "outcomes.csv", required=False)
    report = make_report([tmp_path], bundle, challenged=challenged)
    told = report.to_dict()["arms"]
    assert told["lines"] == {"three@1": 60, "three@2": 20}
    (one,) = told["challenges"]
    (words,) = report.arms.words()
    flips = sum(rows for _, _, rows in one["flips"])
    assert [row[3] for row in report.arms.table()] == ["", f"{1 - flips / ROWS:.2%}"]
    saved = one["paired"]["cost_saved"]
    assert f"The challenger is better: by 2,000 outcomes the challenger saves {saved['value']:+.4f}" in words
    page = render(report)
    assert words in unescape(page)
    assert "Champion and challenger" in page
    assert challenges([file], bundle, required=False) == []
    assert not make_report([file], bundle).arms


def test_without_outcomes_it_is_open_and_a_worse_one_exits_3(log: Path, model: Path, tmp_path: Path) -> None:
    code, found = challenge(log, model)
    assert (code, found["verdict"], found["paired"]) == (0, "open", None)
    (file,) = log.glob("*.ndjson")
    turned = file.read_bytes().replace(b'"challenger_', b'"x_').replace(b'"score"', b'"challenger_score"')
    turned = turned.replace(b'"decision"', b'"challenger_decision"').replace(b'"x_', b'"')
    (tmp_path / file.name).write_bytes(turned)
    code, found = challenge(tmp_path, model, "--outcomes", str(log / "outcomes.csv"))
    assert (code, found["verdict"]) == (3, "worse")


def test_time_of_the_lines_is_that_of_the_challenge(log: Path, model: Path, tmp_path: Path) -> None:
    """A report since nine tells of the rows since nine beside them, not of all that ever were."""
    bundle, nine = Bundle.load(model), datetime(2026, 3, 1, 9)
    assert challenges([log], bundle, until=nine)[0].rows == ROWS * 3 // 4
    assert challenges([log], bundle, since=nine)[0].rows == ROWS // 4
    with pytest.raises(LogError, match="in the time of --since and --until, got none"):
        challenges([log], bundle, until=datetime(2026, 3, 1))
    for file in log.iterdir():
        shutil.copy(file, tmp_path)
    log_of(bundle, sample_rows(THREE_FEATURES, 60, seed=1), tmp_path / "predictions-8000-0.jsonl", start=nine)
    words = ["report", str(tmp_path), "--html", str(tmp_path / "r.html"), "--json", "--outcomes"]
    words += [str(log / "outcomes.csv")]
    done = run("-m", "monitoring", *words, "--model", str(model), "--since", "2026-03-01T09:00")
    (one,) = orjson.loads(done.stdout)["arms"]["challenges"]
    assert one["rows"] == ROWS // 4
    nobodys = run("-m", "monitoring", *words)
    assert nobodys.returncode == 1
    assert "expected the champion's bundle, for the costs of --outcomes, got none" in nobodys.stderr


def test_log_without_a_challenger_is_refused_in_a_sentence(model: Path, tmp_path: Path) -> None:
    done = run("-m", "monitoring", "challenge", str(tmp_path), "--model", str(model))
    assert done.returncode == 1
    assert "expected a folder with challenger-*.ndjson files" in done.stderr
    assert "Traceback" not in done.stderr


def test_bounds_hold_at_every_look() -> None:
    """Of two equal models that are looked at after each 50 outcomes, few are ever called different."""
    random = np.random.default_rng(8)
    wrong = 0
    for _ in range(200):
        saved = random.choice([-5.0, -1.0, 0.0, 1.0, 5.0], 3000, p=[0.02, 0.08, 0.8, 0.08, 0.02])
        looks = [measures.at_every_look(saved[:n]) for n in range(200, 3001, 50)]
        wrong += any(look.low > 0 or look.high < 0 for look in looks)
    assert wrong <= 10
