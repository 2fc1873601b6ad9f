"""The schema: what a file says wins and binds requests; what is inferred guides forms."""

import json
import os
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]  # ships no types
import numpy as np
import orjson
import polars
import pytest
import xgboost
from sklearn.ensemble import RandomForestClassifier

from export.arguments import parse
from export.command import export
from export.errors import ExportRefused
from export.reading.describe import apply_schema, entries, template
from server.model.bundle import REFERENCE_FILE, Bundle
from server.model.predictor import Predictor
from server.model.schema import Feature, Inferred
from tests.support.export_models import WIDTH, rows, target, train_lightgbm

FEATURES = [Feature("age", inferred=Inferred(minimum=1.0, maximum=9.0)), Feature("b")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "credit model.txt"
    path.write_text(train_lightgbm({"objective": "binary"}, "binary", 10))
    return path


def command(*arguments: Any) -> None:
    export(parse([str(argument) for argument in arguments]))


def test_the_template_is_a_schema_file_that_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_bytes(template(FEATURES))
    assert apply_schema(FEATURES, path) == FEATURES


def test_a_range_from_a_file_is_enforced_an_inferred_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text('{"features": [{"name": "age", "maximum": 120, "label": "Age", "unit": "years"}]}')
    age, b = apply_schema(FEATURES, path)
    assert (age.range, age.form_range, age.label, b) == ((-np.inf, 120), (1.0, 120), "Age", FEATURES[1])
    assert FEATURES[0].range == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"features": [{"name": "nobody"}]}', "got nobody"),
        ('{"features": [{"name": "age", "colour": "red"}]}', "got colour"),
        ('{"features": [{"name": "age", "kind": "date"}]}', "got 'date'"),
        ('{"features": [{"name": "age", "minimum": "low"}]}', "a finite number as minimum"),
        ('{"features": [{"name": "age", "minimum": true}]}', "a finite number as minimum"),
        ('{"features": [{"name": "age", "minimum": 3, "maximum": 2}]}', "minimum .* at most its maximum"),
        ('{"features": [{"name": "age", "nullable": "no"}]}', "true or false as nullable"),
        ('{"features": [{"name": "age", "personal": true}]}', "one of keep, drop, hash, bucket as personal"),
        ('{"features": [{"name": "age", "labl": "x"}]}', "did you mean label"),
        ('{"features": [{"name": "aeg"}]}', "did you mean age"),
        ('{"features": [{"name": "age"}, {"name": "age"}]}', "age twice"),
        ('{"features": [{"name": "age", "inferred": {"median": 3}}]}', "kind, minimum and maximum"),
        ('{"features": [{"name": "age", "kind": "category"}]}', "categories of age"),
        ('{"features": [1]}', "an object with a name"),
        ('{"features": 1}', "a list of features"),
        ("{", "to be JSON"),
    ],
)
def test_a_schema_that_makes_no_sense_is_refused_by_name(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(content)
    with pytest.raises(ExportRefused, match=words):
        apply_schema(FEATURES, path)


def test_a_list_of_names_is_a_schema_too(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("age\n\n b \n")
    assert entries(path) == [{"name": "age"}, {"name": "b"}]


def test_a_name_written_with_blanks_is_the_feature_of_an_xgboost_file(tmp_path: Path) -> None:
    """Of another library's file than LightGBM's the names are those of training, and stay."""
    matrix = xgboost.DMatrix(rows(300)[:, :2], target(rows(300)), feature_names=["late_payments", "b"])
    xgboost.train({"objective": "binary:logistic", "max_depth": 2}, matrix, 3).save_model(tmp_path / "m.json")
    said = {"features": [{"name": "late payments", "label": "Late payments"}]}
    (tmp_path / "d.json").write_text(json.dumps(said))
    command(tmp_path / "m.json", "--describe", tmp_path / "d.json", "--out", tmp_path / "out")
    first = Bundle.load(tmp_path / "out").schema.features[0]
    assert (first.name, first.label) == ("late_payments", "Late payments")


def test_the_command_writes_reference_names_and_decisions(source: Path, tmp_path: Path) -> None:
    matrix = rows(300)
    names = [f"Column_{i}" for i in range(WIDTH)]
    polars.DataFrame(dict(zip(names, matrix.T, strict=True))).write_csv(tmp_path / "train.csv")
    command(
        source, "--out", tmp_path / "out", "--data", tmp_path / "train.csv",
        "--decisions", "yes,no", "--threshold", 0.3, "--version", "7",
    )  # fmt: skip
    bundle = Bundle.load(tmp_path / "out")
    assert (bundle.label, bundle.decision.threshold, bundle.outcomes) == (
        "credit-model@7",
        0.3,
        ("yes", "no"),
    )
    reference = bundle.read_json(REFERENCE_FILE)
    assert (reference["score"]["n"], len(reference["features"])) == (300, WIDTH)
    assert all(feature.range == (-np.inf, np.inf) for feature in bundle.schema.features)
    assert bundle.schema["Column_3"].inferred == Inferred("integer", 0.0, 79.0)


def test_a_bundle_is_exported_again_with_all_it_says(source: Path, tmp_path: Path) -> None:
    command(source, "--out", tmp_path / "first", "--decisions", "yes,no", "--name", "credit")
    command(tmp_path / "first", "--out", tmp_path / "second")
    first, second = Bundle.load(tmp_path / "first"), Bundle.load(tmp_path / "second")
    assert first.manifest == second.manifest


def test_the_template_of_a_source_is_printed(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command(source, "--schema-template")
    printed = json.loads(capfd.readouterr().out)
    assert [feature["name"] for feature in printed["features"]][:2] == ["Column_0", "Column_1"]
    assert printed["features"][0]["inferred"]


def test_a_pickle_is_loaded_only_when_trusted(tmp_path: Path) -> None:
    matrix = rows(300)
    estimator = RandomForestClassifier(5, max_depth=3).fit(matrix, target(matrix))
    joblib.dump(estimator, tmp_path / "model.joblib")
    with pytest.raises(ExportRefused, match="--trust-pickle"):
        command(tmp_path / "model.joblib", "--out", tmp_path / "out")
    command(tmp_path / "model.joblib", "--out", tmp_path / "out", "--trust-pickle")
    assert Predictor(Bundle.load(tmp_path / "out")).check_golden_rows() == 240


@pytest.mark.parametrize("arguments", [["--threshold", "2"], ["--decisions", "one"], ["--name", "a/b"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(["model.txt", "--out", "x", *arguments])
    assert exit_.value.code == 2


def test_golden_rows_carry_the_margin_as_a_hexadecimal_float(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a bundle that an image could not read, for the umask, is said to be one."""
    before = os.umask(0o077)
    try:
        command(source, "--out", tmp_path / "out")
    finally:
        os.umask(before)
    assert f"chmod -R go+rX {tmp_path / 'out'}" in capsys.readouterr().err
    line = orjson.loads((tmp_path / "out" / "golden.jsonl").read_bytes().split(b"\n")[0])
    assert float.fromhex(line["margin"]) == next(Bundle.load(tmp_path / "out").golden_rows()).margins[0]


@pytest.mark.parametrize("given", ["--evaluate", "--target", "--fn-cost", "--fp-cost"])
def test_option_that_lacks_its_other_names_both(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = {"--evaluate": "--target", "--fn-cost": "--fp-cost"}
    other = (pairs | {b: a for a, b in pairs.items()})[given]
    with pytest.raises(SystemExit):
        parse(["model.txt", "--out", "bundle", given, "README.md" if given == "--evaluate" else "1"])
    assert capsys.readouterr().err.endswith(f"argument {given}: expected {other} with it\n")
