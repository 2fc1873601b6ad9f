"""`python -m train` from the command line to the written bundle."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # PyYAML ships no types
from lightgbm import Booster

import train.study.fit
from server.model.bundle import CARD_FILE, REFERENCE_FILE, SOURCE_FILE, Bundle
from server.model.distribution import Reference
from server.model.predictor import Predictor
from train.__main__ import _parser, main
from train.golden import encode
from train.study.report import mean_figures
from train.synthetic_tables import write_tables
from train.tables.data import APPLICATIONS

pytestmark = pytest.mark.whole

CLIENTS = 2500


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_tables(folder, CLIENTS, seed=0)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train.study.fit, "MAX_REPEATS", 1)
        options = ["--out", str(folder / "credit"), "--runs", str(folder / "runs"), "--clients", str(CLIENTS)]
        assert main([*options, "--trials", "1", "--name", "synthetic", "--version", "2026-11"]) == 0
    return Bundle.load(folder / "credit")


@pytest.fixture(scope="module")
def evaluation(bundle: Bundle) -> dict[str, Any]:
    found: dict[str, Any] = bundle.manifest["evaluation"]
    return found


def test_the_bundle_serves_its_golden_rows(bundle: Bundle) -> None:
    assert Predictor(bundle).check_golden_rows() >= 200
    assert bundle.label == "synthetic@2026-11"
    assert bundle.exact


def test_decisions_are_accept_and_refuse_with_the_costs_given(bundle: Bundle) -> None:
    decision = bundle.decision
    assert (decision.below, decision.otherwise) == ("accept", "refuse")
    assert (decision.cost_false_negative, decision.cost_false_positive) == (10, 1)
    assert 0 < decision.threshold < 1
    assert decision.threshold == bundle.manifest["evaluation"]["threshold"]["chosen"]
    assert bundle.manifest["evaluation"]["threshold"]["analytic"] == pytest.approx(1 / 11, abs=1e-6)


def test_examples_come_out_as_they_are_called(bundle: Bundle) -> None:
    booster = Booster(model_file=bundle.directory / SOURCE_FILE)
    safe, borderline, risky = booster.predict(encode([e["row"] for e in bundle.manifest["examples"]]))
    assert safe < borderline < bundle.decision.threshold <= risky


def test_the_evaluation_is_of_held_out_clients(evaluation: dict[str, Any]) -> None:
    held, unseen = evaluation["held_out"], evaluation["out_of_fold"]
    assert held["rows"] == CLIENTS / 4
    assert held["rows"] + unseen["rows"] == evaluation["recipe"]["rows"] == CLIENTS
    assert held["auc_interval"][0] < held["auc"] < held["auc_interval"][1]
    assert sum(group["rows"] for group in held["groups"]["gender"].values()) == held["rows"]


def test_a_figure_has_one_value_wherever_it_stands(evaluation: dict[str, Any], bundle: Bundle) -> None:
    unseen = evaluation["out_of_fold"]
    assert unseen["cost"]["model"] == evaluation["threshold"]["out_of_fold_cost_at_chosen"]
    text = (bundle.directory / CARD_FILE).read_text()
    assert f"({unseen['cost']['model']:.4f} a client, a little optimistic" in text


def test_figures_of_repeats_are_their_means_and_the_curves_of_the_first() -> None:
    repeats = [
        {"auc": 0.5, "n": 3, "pair": [0.0, 1.0], "curve": [{"x": i}], "none": None} for i in (0.0, 1.0)
    ]
    repeats[1]["auc"], repeats[1]["pair"] = 0.7, [1.0, 1.0]
    assert mean_figures(repeats) == {
        "auc": 0.6,
        "n": 3,
        "pair": [0.5, 1.0],
        "curve": [{"x": 0.0}],
        "none": None,
    }


def test_the_reference_is_of_the_clients_learned_from(bundle: Bundle) -> None:
    reference = Reference.from_dict(bundle.read_json(REFERENCE_FILE))
    assert list(reference.features) == list(bundle.schema.names)
    assert reference.score.n == CLIENTS * 3 / 4
    assert reference.features["EXT_SOURCE_1"].missing_rate == pytest.approx(0.56, abs=0.05)


def test_the_card_says_what_the_issue_asks_for(bundle: Bundle) -> None:
    text = (bundle.directory / CARD_FILE).read_text()
    _, front_matter, body = text.split("---\n", 2)
    fields = yaml.safe_load(front_matter)
    assert fields["pipeline_tag"] == "tabular-classification"
    metric = fields["model-index"][0]["results"][0]["metrics"][0]
    assert metric["value"] == bundle.manifest["evaluation"]["held_out"]["auc"]
    assert "(synthetic)" in fields["model-index"][0]["results"][0]["dataset"]["name"]
    for phrase in (
        "invented ones",
        "have rows in `bureau.csv`",
        "Gender is none of the inputs",
        "A lender must not use it as it stands",
    ):
        assert phrase in body
    assert "{" not in body
    assert "nan" not in body.split()


def test_provenance_names_the_data_seed_and_libraries_but_no_time(bundle: Bundle) -> None:
    provenance = bundle.manifest["provenance"]
    assert provenance["synthetic"] is True
    assert provenance["data"][0]["rows"] == CLIENTS
    assert provenance["seed"] == 0
    assert provenance["libraries"]["lightgbm"]
    assert provenance["parameters"]["trees"] <= train.study.fit.MAX_TREES


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "train", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_damaged_data_is_one_sentence_and_exit_1(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = (tmp_path / APPLICATIONS).read_bytes()
    (tmp_path / APPLICATIONS).write_bytes(whole[: len(whole) // 2])
    done = command("--data", tmp_path, "--out", tmp_path / "credit", "--runs", tmp_path / "runs")
    assert done.returncode == 1
    assert done.stderr.startswith("expected 14 fields in data row")
    assert "cut short" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "credit").exists()


@pytest.mark.parametrize(
    "option",
    [
        ("--trials", "0"),
        ("--fn-cost", "-1"),
        ("--fp-cost", "nan"),
        ("--fn-cost", "abc"),
        ("--seed", "x"),
        ("--name", "a/b"),
    ],
)
def test_wrong_usage_is_exit_2(option: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(option)
    assert exit_.value.code == 2


def test_every_option_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    for action in _parser()._actions:
        if action.dest != "help":
            assert f"`{action.option_strings[0]}`" in text


def test_names_of_columns_that_no_list_can_be_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        _parser().parse_args(["--table", "t.csv", "--target", "y", "--drop", "a\nb"])
    assert exit_.value.code == 2
    assert "expected names parted by commas" in capsys.readouterr().err
