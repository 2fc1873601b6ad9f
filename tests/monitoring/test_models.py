"""A log of many models, tasks and versions: each command takes the lines of one, and says which."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from monitoring.drift.comparison import drift_of_files
from monitoring.errors import LogError
from monitoring.logs.replay import replay
from monitoring.report.page import render
from monitoring.report.report import make_report
from server.model.bundle import Bundle
from server.model.logged_rows import logged_rows
from server.model.predictor import Predictor
from server.model.schema import Feature, Schema
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.commands import run_inside as run
from tests.support.monitored import GRADES, HOUSES, house_bundle, houses, log_of, logged, monitored_bundle
from tests.support.servers import exchange, post, serving

pytestmark = pytest.mark.whole

BATCH = 40


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("models") / "three")


@pytest.fixture(scope="module", params=["regression", "multiclass"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return house_bundle(tmp_path_factory.mktemp("models") / "houses", request.param)


@pytest.fixture(scope="module")
def served(three: Bundle, house: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of one server of both models: 300 rows and a batch of 40 of each, none of them shifted."""
    folder = tmp_path_factory.mktemp("served")
    rows = {"three": sample_rows(THREE_FEATURES, 300, seed=6), "houses": houses(300, seed=6)}
    with serving(three.directory, folder, "--model", str(house.directory)) as subject:
        for name, sent in rows.items():
            path = f"/models/{name}/predict"
            answers = exchange(subject.url, b"".join(post(path, orjson.dumps(row)) for row in sent))
            batch = post(f"{path}/batch", orjson.dumps({"rows": sent[:BATCH]}))
            assert {a.status for a in (*answers, *exchange(subject.url, batch))} == {200}
    return folder / "logs"


def test_each_model_is_judged_by_its_own_lines(three: Bundle, house: Bundle, served: Path) -> None:
    for bundle, other in ((three, house), (house, three)):
        found = drift_of_files([served], bundle)
        assert (found.n, found.model, found.others) == (340, bundle.label, {other.label: 301})
        assert found.drifted == []
        assert [column.missing_rate < 0.2 for column in found.columns] == [True] * 4
        report = make_report([served], bundle)
        assert (report.figures.requests, report.figures.rows) == (301, 340)
        assert report.figures.models == [bundle.label]
        assert "301 of " + other.label in render(report)
        again = replay([served], bundle)
        assert (again.rows, again.equal, again.audited, again.disagreeing) == (340, 340, 340, 0)
        assert (again.flips, again.mean_shift, again.others) == ({}, 0.0, {other.label: 340})


def test_every_line_has_the_margins_of_its_rows_and_replay_compares_their_bits(
    three: Bundle, house: Bundle, served: Path, tmp_path: Path
) -> None:
    for bundle in (three, house):
        lines = [line for line in logged(served) if line["model"] == bundle.label]
        schema, predictor = bundle.schema, Predictor(bundle)
        for line in lines:
            expected = [
                [margin.hex() for margin in predictor.row_margins(schema.encode(row.fields))]
                for row in logged_rows(line)
            ]
            found = [
                row.margin if isinstance(row.margin, list) else [row.margin] for row in logged_rows(line)
            ]
            assert found == expected
        batch = max(lines, key=lambda line: len(line.get("margins", ())))
        assert len(batch["margins"]) == BATCH
        for changed in (batch, next(line for line in lines if line is not batch)):
            log = tmp_path / f"{bundle.name}-{changed['id']}.jsonl"
            log.write_bytes(_other_margin(orjson.dumps(changed)) + b"\n")
            assert replay([log], bundle).disagreeing == 1


def _other_margin(line: bytes) -> bytes:
    """A line whose first margin is another in its last bit; the answer stays."""
    said = orjson.loads(line)
    name = "margin" if "margin" in said else "margins"
    first = said[name]
    while isinstance(first, list):
        first = first[0]
    other = float(np.nextafter(float.fromhex(first), np.inf)).hex()
    return line.replace(f'"{first}"'.encode(), f'"{other}"'.encode(), 1)


def test_a_shifted_house_is_found_and_its_answers_are_shown(house: Bundle, tmp_path: Path) -> None:
    rows = [row | {"area": min(400.0, row["area"] * 2.5)} for row in houses(400, seed=2)]
    log = log_of(house, rows, tmp_path / "a.jsonl")
    found = drift_of_files([log], house)
    assert {"score", "area"} == {column.name for column in found.drifted}
    done = run(
        "-m",
        "monitoring",
        "report",
        str(log),
        "--html",
        str(tmp_path / "r.html"),
        "--model",
        str(house.directory),
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "r.html").read_text()
    assert "1970" not in text
    if house.task == "regression":
        assert "median of the predicted values" in done.stdout
        assert "Refusal rate" not in text
        assert "high risk" not in text
    else:
        assert any(f"class “{grade}”" in done.stdout for grade in GRADES)


def test_another_version_of_values_or_classes_is_replayed(house: Bundle, tmp_path: Path) -> None:
    rows = houses(300, seed=6)
    other = house_bundle(tmp_path / "other", house.task, version="2", trees=2)
    log = log_of(house, rows, tmp_path / "a.jsonl")
    found = replay([log], other)
    assert (found.rows, found.audited, found.bundle) == (300, 0, "houses@2")
    assert found.moved[-1] > 0.0
    assert (found.flipped > 0) is (house.task == "multiclass")
    assert set(map(type, orjson.loads(orjson.dumps(found.to_dict())))) == {str}


def test_a_log_of_many_models_asks_which_is_meant(served: Path, tmp_path: Path) -> None:
    for command in ("report", "drift", "replay"):
        page = ("--html", str(tmp_path / "r.html")) if command == "report" else ()
        done = run("-m", "monitoring", command, str(served), *page)
        assert done.returncode == 1, done.stdout
        assert "301 of houses@1, 301 of three@1" in done.stderr
        assert "Traceback" not in done.stderr


def test_lines_of_no_such_model_are_refused(three: Bundle, tmp_path: Path) -> None:
    log = log_of(three, sample_rows(THREE_FEATURES, 20), tmp_path / "a.jsonl")
    other = house_bundle(tmp_path / "houses", "regression")
    for refused in (drift_of_files, make_report, replay):
        with pytest.raises(LogError, match="20 of three@1"):
            refused([log], other)


def test_versions_are_told_apart(three: Bundle, tmp_path: Path) -> None:
    """Before a publication incomes were a tenth: the new version's lines alone are as in its training."""
    second = monitored_bundle(tmp_path / "second", version="2")
    rows = sample_rows(THREE_FEATURES, 600, seed=3)
    log = log_of(three, [row | {"income": row["income"] / 10} for row in rows[:300]], tmp_path / "a.jsonl")
    log_of(second, rows[300:], log, instance="ba9876543210")
    assert drift_of_files([log], second).drifted == []
    assert {c.name for c in drift_of_files([log], second, "three@1").drifted} >= {"income"}
    assert drift_of_files([log], second, "three").n == 600
    assert replay([log], second).rows == 600
    assert replay([log], second, "three@1").rows == 300
    done = run("-m", "monitoring", "drift", str(log), "--json", "--model", str(second.directory))
    assert done.returncode == 0
    found = orjson.loads(done.stdout)
    assert (found["model"], found["other_models"], found["verdict"]) == ("three@2", {"three@1": 300}, "none")


@pytest.mark.parametrize(
    "names", [("score", "rows", "decision"), ("v14", "V14", "input"), ("été", "u'o/t~e", "probability")]
)
@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_a_feature_may_have_any_name(names: tuple[str, str, str], task: str, tmp_path: Path) -> None:
    features = Schema(
        Feature(**{**f.to_dict(), "name": name}) for f, name in zip(HOUSES.features, names, strict=True)
    )
    bundle = house_bundle(tmp_path / "houses", task, features=features)
    renamed = dict(zip(HOUSES.names, names, strict=True))

    def rows(seed: int, factor: float) -> list[dict[str, Any]]:
        shifted = [row | {"area": min(400.0, row["area"] * factor)} for row in houses(300, seed)]
        return [{renamed[name]: value for name, value in row.items()} for row in shifted]

    usual = log_of(bundle, rows(1, 1.0), tmp_path / "usual.jsonl")
    shifted = log_of(bundle, rows(2, 2.5), tmp_path / "shifted.jsonl")
    assert drift_of_files([usual], bundle).drifted == []
    found = drift_of_files([shifted], bundle)
    assert {names[0], "(score)" if "score" in names else "score"} == {column.name for column in found.drifted}
    assert [column.name for column in found.columns if column.is_score] == [
        "(score)" if "score" in names else "score"
    ]
    assert make_report([usual], bundle).figures.rows == replay([usual], bundle).equal == 300


def test_batches_of_a_feature_called_rows_are_read_row_by_row(tmp_path: Path) -> None:
    features = Schema([Feature("rows", minimum=10, maximum=400), *HOUSES.features[1:]])
    features = Schema([features.features[0], Feature("n", kind="integer"), features.features[2]])
    bundle = house_bundle(tmp_path / "houses", "regression", features=features)
    sent = [{"rows": row["area"], "channel": row["channel"]} for row in houses(50, seed=4)]
    with serving(bundle.directory, tmp_path) as subject:
        batch = post("/predict/batch", orjson.dumps({"rows": sent}))
        single = post("/predict", orjson.dumps(sent[0]))
        assert {a.status for a in exchange(subject.url, batch + single)} == {200}
    assert replay([tmp_path / "logs"], bundle).equal == 51
    assert drift_of_files([tmp_path / "logs"], bundle).n == 51
    assert len(logged(tmp_path / "logs")) == 2


def test_decisions_by_other_names_are_no_flips(tmp_path: Path, three: Bundle) -> None:
    log = log_of(three, sample_rows(THREE_FEATURES, 300, seed=3), tmp_path / "a.jsonl")
    renamed = tmp_path / "renamed.jsonl"
    renamed.write_bytes(log.read_bytes().replace(b'"grant"', b'"oui"').replace(b'"decline"', b'"non"'))
    assert replay([renamed], three).flips == {}
    report = make_report([renamed], three)
    assert report.figures.refusal == "non"
    assert report.figures.refusal_rate == make_report([log], three).figures.refusal_rate > 0.0
