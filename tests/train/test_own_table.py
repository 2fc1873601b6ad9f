"""`python -m train --table`: which column is what, what is refused, and a bundle from a stranger's file."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest

import train.study.fit
from export.errors import ExportRefused
from server.errors import HotrowError
from server.model.bundle import CARD_FILE, Bundle
from server.model.decoder import row_decoder
from server.model.predictor import Predictor
from train.__main__ import main
from train.errors import DataError
from train.own_table import Asked, load_table

pytestmark = pytest.mark.whole

ROWS = 900


def loans(rows: int = ROWS) -> pl.DataFrame:
    random = np.random.default_rng(7)
    amount, income = np.exp(random.normal(8, 0.8, rows)), np.exp(random.normal(10, 0.6, rows))
    purpose = random.choice(["car", "école", "repairs"], rows)
    odds = 0.9 * np.log(amount / income * 8) - 0.6 * (purpose == "car") - 0.8
    bad = random.random(rows) < 1 / (1 + np.exp(-odds))
    return pl.DataFrame(
        {
            "No": [f"K{i:05d}" for i in range(rows)],
            "Age in years": random.integers(19, 75, rows),
            "income": pl.Series(np.where(random.random(rows) < 0.1, np.nan, np.round(income, 2))).fill_nan(
                None
            ),
            "amount": np.round(amount, 2),
            "purpose": purpose,
            "owner": random.random(rows) < 0.4,
            "branch": "north",
            "note": pl.Series([None] * rows, dtype=pl.String),
            "default": np.where(bad, "bad", "good"),
        }
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    loans().write_parquet(tmp_path / "loans.parquet")
    return tmp_path / "loans.parquet"


@pytest.fixture
def asked(path: Path) -> Asked:
    return Asked(path, "default", positive="bad", key="No")


def test_columns_are_what_their_values_are(asked: Asked) -> None:
    table = load_table(replace(asked, groups=("purpose", "income", "owner")))
    rows, schema = table.rows, table.rows.inputs.schema
    assert schema.names == ("Age in years", "income", "amount", "purpose", "owner")
    assert [f.form_kind for f in schema.features] == ["integer", "number", "number", "category", "flag"]
    assert [f.nullable for f in schema.features] == [False, True, False, False, False]
    assert schema["purpose"].categories == ("car", "repairs", "école")
    assert rows.inputs.unordered == ("purpose",)
    assert [len(group.bands) for group in rows.inputs.groups] == [0, 4, 0]
    assert rows.target.sum() == (loans()["default"] == "bad").sum()
    assert table.notes == (
        "column branch left out: it has one value",
        "column note left out: it is empty",
    )


def test_a_semicolon_file_of_another_code_page_is_the_same_table(asked: Asked, tmp_path: Path) -> None:
    text = loans().write_csv(separator=";", null_value="NA")
    text = re.sub(r"(\d)\.(\d)", r"\1,\2", text)
    (tmp_path / "loans.csv").write_bytes(text.encode("cp1252"))
    other = load_table(replace(asked, path=tmp_path / "loans.csv"))
    np.testing.assert_array_equal(other.rows.features, load_table(asked).rows.features)


def test_a_schema_file_says_what_columns_are_called_and_how_words_are_ordered(
    asked: Asked, tmp_path: Path
) -> None:
    described: list[dict[str, Any]] = [
        {"name": "Age_in_years", "label": "Age", "unit": "years", "minimum": 18, "maximum": 100},
        {"name": "purpose", "kind": "category", "categories": ["école", "repairs", "car"]},
    ]
    (tmp_path / "schema.json").write_text(json.dumps({"features": described}))
    table = load_table(replace(asked, schema=tmp_path / "schema.json", groups=("Age in years",)))
    schema = table.rows.inputs.schema
    assert (schema["Age in years"].label, schema["Age in years"].range) == ("Age", (18, 100))
    codes = [{"école": 0, "repairs": 1, "car": 2}[word] for word in loans()["purpose"]]
    assert table.rows.features[:, 3].tolist() == codes
    described[0]["maximum"] = 50
    (tmp_path / "schema.json").write_text(json.dumps({"features": described}))
    with pytest.raises(DataError, match=r"row \d+, Age in years: expected a number between 18 and 50, got"):
        load_table(replace(asked, schema=tmp_path / "schema.json"))


def test_columns_keep_their_names(asked: Asked, tmp_path: Path) -> None:
    names = {"amount": "Age in_years", "owner": '[own], "er"', "purpose": "a\nb|c", "income": "TARGET"}
    frame = loans().rename(names).with_row_index("")
    (tmp_path / "loans.csv").write_text(frame.write_csv().replace("\n", ",,\n").replace("a,,\nb", "a\nb"))
    table = load_table(replace(asked, path=tmp_path / "loans.csv"))
    assert table.rows.inputs.schema.names == (
        "Age in years",
        *[names[k] for k in ("income", "amount", "purpose", "owner")],
    )
    assert "column without a name left out: it holds the numbers of the rows" in " ".join(table.notes)
    with pytest.raises(DataError, match=r"a column target in .*: the nearest is 'TARGET'"):
        load_table(replace(asked, path=tmp_path / "loans.csv", target="target"))
    (tmp_path / "loans.csv").write_text("x,y,x\n1,2,3\n")
    with pytest.raises(ExportRefused, match=r"each column once in .*, got 'x' 2 times: rename or remove"):
        load_table(replace(asked, path=tmp_path / "loans.csv"))


def test_column_without_a_name_that_holds_no_row_numbers_is_refused(asked: Asked) -> None:
    loans().with_columns(pl.lit(None).alias("")).write_parquet(asked.path)
    assert "column without a name left out: it is empty" in " ".join(load_table(asked).notes)
    loans().rename({"owner": ""}).write_parquet(asked.path)
    with pytest.raises(DataError, match="got a column without one that holds"):
        load_table(asked)


def test_rows_without_a_target_are_left_out_and_counted(asked: Asked) -> None:
    frame = loans().with_columns(default=pl.when(pl.int_range(pl.len()) < 9).then(None).otherwise("default"))
    frame.write_parquet(asked.path)
    table = load_table(asked)
    assert len(table.rows) == ROWS - 9
    assert table.notes[0] == "9 rows without default left out"


@pytest.mark.parametrize(
    ("values", "positive"),
    [((0, 1), "1"), ((False, True), "true"), (("No", "Yes"), "Yes"), ((0.0, 1.0), "1.0")],
)
def test_words_that_everybody_knows_need_no_positive(
    asked: Asked, values: tuple[object, object], positive: str
) -> None:
    bad = (loans()["default"] == "bad").to_list()
    loans().with_columns(default=pl.Series([values[one] for one in bad])).write_parquet(asked.path)
    table = load_table(replace(asked, positive=None))
    assert table.positive == positive
    assert table.rows.target.sum() == sum(bad)


FIRST_DAY = pl.date(2020, 1, 1)
CHANGES: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "dates": (
        lambda frame: frame.with_columns(since=FIRST_DAY + pl.duration(days="Age in years")),
        r"numbers or words in the column since .*, got Date: .* --drop since",
    ),
    "dates in words": (
        lambda frame: frame.with_columns(since=pl.format("{}.11.2026", pl.int_range(pl.len()) % 30 + 1)),
        r"numbers or words in the column since .*, got dates \('1.11.2026'\)",
    ),
    "names": (
        lambda frame: frame.with_columns(name=pl.format("n{}", pl.int_range(pl.len()))),
        r"at most 100 different words in the column name .*, got 900 \('n0', .* --drop name",
    ),
    "one typing mistake": (
        lambda frame: frame.with_columns(
            amount=pl.when(pl.int_range(pl.len()) == 41).then(pl.lit("12oo")).otherwise(pl.col("amount"))
        ),
        r"row 42, amount: expected a number, got '12oo', in .*loans.parquet",
    ),
    "three outcomes": (
        lambda frame: frame.with_columns(
            default=pl.when(pl.int_range(pl.len()) < 5).then(pl.lit("late")).otherwise("default")
        ),
        r"two values in the column default .*, got 3 \('bad', 'good', 'late'\)",
    ),
    "one outcome": (lambda frame: frame.with_columns(default=pl.lit("good")), "two values .* got 1"),
    "a key twice": (
        lambda frame: pl.concat([frame, frame.head(1)]),
        "every No once in .*, got K00000 2 times",
    ),
    "no rows": (lambda frame: frame.head(0), "expected rows in"),
    "nothing to learn from": (lambda frame: frame.select("No", "default"), "a column to learn from"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_cannot_be_learned_from_is_one_sentence_with_a_way_out(asked: Asked, name: str) -> None:
    change, expected = CHANGES[name]
    change(loans()).write_parquet(asked.path)
    with pytest.raises(HotrowError, match=expected) as refusal:
        load_table(asked)
    assert "\n" not in str(refusal.value)


def test_what_the_reader_left_out_is_said(asked: Asked, tmp_path: Path) -> None:
    lines = loans().write_csv().splitlines()
    lines[8] += ",surplus"
    (tmp_path / "loans.csv").write_text("\n".join(lines))
    table = load_table(replace(asked, path=tmp_path / "loans.csv"))
    assert len(table.rows) == ROWS - 1
    assert "Left out 1 record of" in table.notes[0]


def test_a_workbook_that_is_none_is_one_sentence(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "loans.xlsx").write_bytes(b"PK\x03\x04junk")
    with pytest.raises(ExportRefused, match=r"expected .*loans\.xlsx to be .*, got"):
        load_table(replace(asked, path=tmp_path / "loans.xlsx"))


def test_names_that_are_none_are_refused_with_the_nearest(asked: Asked) -> None:
    with pytest.raises(DataError, match=r"a column defaults in .*: the nearest is 'default'"):
        load_table(replace(asked, target="defaults"))
    with pytest.raises(
        ExportRefused, match=r"which value of default .* 'bad' or 'good': say it with --positive"
    ):
        load_table(replace(asked, positive=None))
    with pytest.raises(ExportRefused, match="--positive to be 'bad' or 'good', got 'ugly'"):
        load_table(replace(asked, positive="ugly"))
    with pytest.raises(ExportRefused, match="--groups to name columns that are learned from, got branch"):
        load_table(replace(asked, groups=("branch",)))
    with pytest.raises(ExportRefused, match="readable data at"):
        load_table(replace(asked, path=Path("nowhere.csv")))


OWNER = 'own, $er$ [日本|"]'
DESCRIPTION = """
version: "3"
decisions: [lend, decline]
costs: {false_negative: 4, false_positive: 1}
wording: {probability: risk of default}
features:
  - name: amount
    unit: EUR
    monotone: up
    reason: {up: {code: B3, text: {en: "The amount is high."}}}
  - name: income
    monotone: down
    missing: highest
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("own")
    loans().rename({"owner": OWNER}).write_csv(folder / "my loans.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train.study.fit, "MAX_REPEATS", 1)
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        options = ["--table", str(folder / "my loans.csv"), "--target", "default", "--positive", "bad"]
        options += ["--id", "No", "--groups", 'Age in years,purpose,"own, $er$ [日本|""]"']
        (folder / "loans.yaml").write_text(DESCRIPTION)
        options += [
            "--describe",
            str(folder / "loans.yaml"),
            "--trials",
            "1",
            "--runs",
            str(folder / "runs"),
            "--out",
            str(folder / "out"),
        ]
        assert main(options) == 0
    return Bundle.load(folder / "out")


def test_a_table_becomes_a_bundle_that_answers_as_it_was_trained(trained: Bundle) -> None:
    assert trained.label == "my-loans@3"
    assert trained.exact
    assert (trained.decision.below, trained.decision.otherwise) == ("lend", "decline")
    predictor = Predictor(trained)
    assert predictor.check_golden_rows() >= 200
    answers = [
        predictor.predict(trained.schema.encode(example["row"]))[0]
        for example in trained.manifest["examples"]
    ]
    assert trained.schema.names == ("Age in years", "income", "amount", "purpose", OWNER)
    decode = row_decoder(trained.schema)
    for example in trained.manifest["examples"]:
        assert decode(orjson.dumps(example["row"])) == trained.schema.encode(example["row"])
    safe, borderline, risky = answers
    assert safe < borderline < trained.decision.threshold <= risky
    known = {tuple(row.values()) for row in loans().select("income", "amount", "purpose").to_dicts()}
    for example in trained.manifest["examples"]:
        assert tuple(example["row"][name] for name in ("income", "amount", "purpose")) not in known


def test_a_description_says_costs_words_and_what_the_answer_follows(trained: Bundle) -> None:
    decision, wording = trained.decision, trained.manifest["wording"]
    assert (decision.cost_false_negative, decision.cost_false_positive) == (4.0, 1.0)
    assert wording == {"title": "my-loans", "probability": "risk of default"}
    assert trained.manifest["reasons"]["amount"]["up"]["code"] == "B3"
    assert (trained.schema["amount"].unit, trained.schema["amount"].monotone) == ("EUR", "up")
    predictor = Predictor(trained)
    (row, *_) = [example["row"] for example in trained.manifest["examples"]]
    amounts = np.geomspace(100, 60_000, 200)
    scores = [predictor.predict(trained.schema.encode({**row, "amount": float(a)}))[0] for a in amounts]
    assert scores == sorted(scores)
    assert len({*scores}) > 3
    incomes = [None, *np.geomspace(1000, 200_000, 60).tolist()]
    of_missing, *of_known = [
        predictor.predict(trained.schema.encode({**row, "income": x}))[0] for x in incomes
    ]
    assert of_missing >= of_known[0] > of_known[-1]
    shown = trained.read_json("parity.json")["missing"]["income"]
    assert (shown["gives"], shown["against"]) == ("highest", 0)


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("threshold: 0.3", "expected costs in .*got a threshold"),
        ("costs: 5", "as costs of the description, got 5"),
        ("features: [{name: purpose, monotone: up}]", "monotone of numbers, got purpose, a category"),
        ("features: [{name: income, missing: highest}]", "monotone of a feature whose missing values"),
        ("groups: [purposes]", "purposes"),
        ("policy: {needed: {incomes: refer}}", "policy"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_before_training(
    path: Path, tmp_path: Path, description: str, expected: str
) -> None:
    (tmp_path / "d.yaml").write_text(description)
    options = ["--table", str(path), "--target", "default", "--positive", "bad", "--id", "No"]
    with pytest.raises(HotrowError, match=expected):
        main([*options, "--describe", str(tmp_path / "d.yaml"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_its_card_and_report_say_what_is_known(trained: Bundle) -> None:
    figures = trained.manifest["evaluation"]
    card = (trained.directory / CARD_FILE).read_text()
    assert f"{figures['held_out']['auc']:.4f}" in card
    assert "{" not in card
    assert r'| own, $er$ [日本\|"] | flag |' in card
    page = trained.directory.with_suffix(".html").read_text()
    for words in (
        "ROC",
        "calibration",
        "What decisions cost",
        "learning curve",
        "importance",
        "Groups: purpose",
    ):
        assert words in page
    assert page.count("data:image/png;base64,") == 8
    assert not re.findall(r"(?:src|href)=.https?:", page)
    assert [point["rows"] for point in figures["learning_curve"]] == [108, 216, 324, 432, 540]
    assert sum(figures["importance"].values()) == pytest.approx(1, abs=1e-4)
    assert sum(part["rows"] for part in figures["held_out"]["groups"]["purpose"].values()) == ROWS / 4


def test_a_run_is_logged_to_mlflow_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs MLflow: uv pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(train.study.fit, "MAX_REPEATS", 1)
    loans().write_parquet(tmp_path / "loans.parquet")
    options = ["--table", str(tmp_path / "loans.parquet"), "--target", "default", "--positive", "bad"]
    options += [
        "--id",
        "No",
        "--trials",
        "1",
        "--runs",
        str(tmp_path / "runs"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(options) == 0
    (run,) = mlflow.search_runs(experiment_names=["loans"], output_format="list")
    auc = Bundle.load(tmp_path / "out").manifest["evaluation"]["held_out"]["auc"]
    assert run.data.metrics["held_out.auc"] == auc
    assert run.data.tags["hotrow.bundle"] == "loans@1"
    assert {file.path for file in mlflow.artifacts.list_artifacts(run_id=run.info.run_id)} == {
        "bundle",
        "out.html",
    }


@pytest.mark.parametrize(
    "options",
    [
        ["--table", "x.csv"],
        ["--target", "y"],
        ["--table", "x.csv", "--target", "y", "--data", "."],
        ["--decisions", "a"],
    ],
)
def test_options_that_make_no_sense_together_are_exit_2(options: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(options)
    assert exit_.value.code == 2


def test_tracking_that_is_asked_for_and_cannot_be_is_said_before_any_work(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'mlflow' else find(name, *more)\n"
        "from server.cli import run; from train.__main__ import main\n"
        "sys.argv = ['train', '--out', sys.argv[1]]; run(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("expected MLflow to be installed, as MLFLOW_TRACKING_URI is set")
    assert not (tmp_path / "out").exists()
