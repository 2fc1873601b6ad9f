"""`--data`: training data as people have it, what it tells of the features, and what it never enforces."""

import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import orjson
import pandas  # type: ignore[import-untyped]  # its stubs are a package of their own
import polars
import pytest

from export.arguments import parse
from export.command import export
from export.errors import ExportRefused
from export.reading.observe import infer, read_data
from export.reading.table import read_table
from server.errors import HotrowError
from server.model.bundle import REFERENCE_FILE, Bundle
from server.model.decoder import row_decoder
from server.model.schema import Feature, Inferred, Schema
from server.zstandard import zstd

AMOUNT_CITY = [Feature("amount"), Feature("city", "category", categories=("Lyon", "Oslo"))]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def matrix_of(features: list[Feature], path: Path) -> list[list[float]]:
    names = {feature.name for feature in features}
    data = read_data(features, read_table(path, names.__contains__))
    rows: list[list[float]] = np.nan_to_num(data.matrix, nan=-1.0).tolist()
    return rows


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("t.csv", lambda text: text.encode()),
        ("t.csv", lambda text: b"\xef\xbb\xbf" + text.encode()),
        ("t.CSV", lambda text: text.replace("\n", "\r\n").encode("utf-16")),
        ("t.tsv", lambda text: text.replace(",", "\t").encode()),
        ("t.txt", lambda text: text.replace(",", "|").encode()),
        ("t.csv", lambda text: text.replace(",", ";").replace(".", ",").encode("cp1252")),
        ("t.csv", lambda text: b"sep=;\n" + text.replace(",", ";").encode()),
        ("t.csv.gz", lambda text: gzip.compress(text.encode())),
        ("t.csv.zst", lambda text: zstd.compress(text.encode())),
    ],
)
def test_text_files_of_every_dialect_give_the_same_numbers(
    name: str, pack: Callable[[str], bytes], tmp_path: Path
) -> None:
    text = "amount,city,naïve\n1.5,Lyon,x\n,Oslo,y\n\n2000.25,NA,z\n"
    path = written(tmp_path / name, pack(text))
    assert matrix_of(AMOUNT_CITY, path) == [[1.5, 0.0], [-1.0, 1.0], [2000.25, -1.0]]


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        ("parquet", polars.DataFrame.write_parquet),
        ("feather", polars.DataFrame.write_ipc),
        ("jsonl", polars.DataFrame.write_ndjson),
    ],
)
def test_typed_files_give_the_same_numbers(
    suffix: str, write: Callable[[polars.DataFrame, Path], Any], tmp_path: Path
) -> None:
    frame = polars.DataFrame({"amount": [1.5, None, 2000.25], "city": ["Lyon", "Oslo", None]})
    path = tmp_path / f"t.{suffix}"
    write(frame, path)
    assert matrix_of(AMOUNT_CITY, path) == [[1.5, 0.0], [-1.0, 1.0], [2000.25, -1.0]]


@pytest.mark.parametrize("word", ["", "NA", "NaN", "nan", "null", "NULL", "None", "#N/A", "\\N", " NA "])
def test_words_for_missing_are_missing(word: str, tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", f"amount,city\n1,Lyon\n{word},Oslo\n3,{word}\n")
    features = infer(AMOUNT_CITY, read_data(AMOUNT_CITY, read_table(path)), takes_missing=True)
    assert [feature.nullable for feature in features] == [True, True]
    assert matrix_of(AMOUNT_CITY, path)[1][0] == matrix_of(AMOUNT_CITY, path)[2][1] == -1.0


def test_a_word_that_is_a_category_of_the_model_is_no_missing_value(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "grade\nA\nNA\n\nNULL\n")
    grade = [Feature("grade", "category", categories=("A", "NA"))]
    assert matrix_of(grade, path) == [[0.0], [1.0], [-1.0]]


def test_types_are_inferred_over_the_whole_file(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "amount\n" + "7\n" * 300 + "7.5\n")
    (amount,) = infer(
        [Feature("amount")], read_data([Feature("amount")], read_table(path)), takes_missing=True
    )
    assert (amount.inferred, amount.default) == (Inferred(None, 7.0, 7.5), 7.0)


def test_data_tells_kinds_ranges_medians_and_gaps_as_inferred(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "age,late,owner,more\n20,0,true,x\n30,1,false,y\n70,,true,z\n")
    features = [Feature("age"), Feature("late"), Feature("owner")]
    age, late, owner = infer(features, read_data(features, read_table(path)), takes_missing=True)
    assert age == Feature("age", default=30.0, nullable=False, inferred=Inferred("integer", 20.0, 70.0))
    assert late == Feature("late", inferred=Inferred("flag"))
    assert owner == Feature("owner", nullable=False, inferred=Inferred("flag"))


def test_what_the_model_saw_missing_stays_nullable_without_a_gap_in_the_data(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "amount,city\n1,Lyon\n2,Oslo\n")
    data = read_data(AMOUNT_CITY, read_table(path))
    found = infer(AMOUNT_CITY, data, takes_missing=True, gaps={0})
    assert [feature.nullable for feature in found] == [True, False]
    refused = infer(AMOUNT_CITY, data, takes_missing=False, gaps={0})
    assert [feature.nullable for feature in refused] == [False, False]


@pytest.mark.parametrize(
    ("categories", "cells", "codes"),
    [
        (("web", "shop"), "web\nshop\nweb", [0, 1, 0]),
        (("web", "shop"), "0\n1\n0", [0, 1, 0]),
        (("True", "False"), "True\nfalse\nTRUE", [0, 1, 0]),
        (("3", "1", "2"), "1\n2\n3", [1, 2, 0]),
        (("1.0", "2.5"), "1\n2.5\n1.0", [0, 1, 0]),
    ],
)
def test_categories_are_read_as_words_codes_numbers_or_booleans(
    categories: tuple[str, ...], cells: str, codes: list[int], tmp_path: Path
) -> None:
    feature = Feature("channel", "category", categories=categories)
    path = written(tmp_path / "t.csv", f"channel\n{cells}\n")
    assert [row[0] for row in matrix_of([feature], path)] == codes
    if not cells.startswith("True"):
        read = polars.read_csv(path)
        read.write_parquet(tmp_path / "t.parquet")
        assert [row[0] for row in matrix_of([feature], tmp_path / "t.parquet")] == codes


def test_decimals_big_integers_and_booleans_of_a_warehouse_are_numbers(tmp_path: Path) -> None:
    frame = polars.DataFrame(
        {
            "amount": [Decimal("1.25"), None],
            "id": [2**60 + 1, 3],
            "owner": [True, False],
            "none": [None, None],
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    features = [Feature(name) for name in frame.columns]
    assert matrix_of(features, tmp_path / "t.parquet") == [[1.25, 2.0**60, 1.0, -1.0], [-1.0, 3.0, 0.0, -1.0]]


def test_thousands_and_decimal_commas_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "amount;city\n1.234,5;Lyon\n1 000,25;Oslo\n0,5;Lyon\n")
    assert [row[0] for row in matrix_of(AMOUNT_CITY, path)] == [1234.5, 1000.25, 0.5]


def test_ragged_records_are_left_out_and_said(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "amount,city\n1,Lyon\n2,Oslo,x\n3,Oslo\n")
    assert matrix_of(AMOUNT_CITY, path) == [[1.0, 0.0], [3.0, 1.0]]
    assert "Left out 1 record of" in read_table(path).notes[0]


def test_single_bad_values_are_named_and_count_as_missing(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "amount,city\n1,Lyon\ninf,Oslo\n3,Rome\nx,Lyon\n5,Oslo\n")
    data = read_data(AMOUNT_CITY, read_table(path))
    assert data.faults(Schema(AMOUNT_CITY)) == [
        "row 2, amount: expected a number or null, got 'inf'",
        "row 4, amount: expected a number or null, got 'x'",
        'row 3, city: expected one of "Lyon", "Oslo" or null, got \'Rome\'',
    ]
    assert not data.columns[0].has_gaps
    narrow = Schema([Feature("amount", maximum=4.0), AMOUNT_CITY[1]])
    assert "row 5, amount: expected a number of at most 4 or null, got '5'" in data.faults(narrow)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", "amont,city\n1,Lyon\n", "a column of amount .*nearest: 'amont'"),
        ("t.csv", "city\nLyon\n", "a column of amount"),
        ("t.csv", "amount,city\nweb,Lyon\nshop,Lyon\n", "'web' in row 1.*codes of 2 words.*--describe"),
        ("t.csv", "amount,city\n1,Rome\n2,Bonn\n", "in the column city of .*got 'Rome' in row 1 and 1 more"),
        ("t.csv", "", "a CSV header"),
        ("t.csv", "amount,city\n", "expected rows in .*, got none"),
        ("t.csv", "amount,city\n1,Lyon,3\n", "expected rows"),
        ("t.csv", "amount;city\n1.5;Lyon\n2,5;Oslo\n", "one decimal sign"),
        ("t.csv.gz", "\x1f\x00", "another kind of file"),
        ("t.csv", "amount,city,city\n1,Lyon,Oslo\n", "'city' 2 times"),
        ("t.parquet", "PAR1", "a whole table"),
        ("t.xls", "", "ends in .csv"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_cause(
    name: str, content: str, words: str, tmp_path: Path
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(ExportRefused, match=words):
        read_data(AMOUNT_CITY, read_table(path, {"amount", "city"}.__contains__))


def command(*arguments: Any) -> None:
    export(parse([str(argument) for argument in arguments]), ordinary_rows=3000)


@pytest.fixture(scope="module")
def frame() -> pandas.DataFrame:
    random = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "yearly income": random.integers(15, 90, 400) * 1000,
            "late": (random.random(400) < 0.2).astype(int),
            "rate": np.where(random.random(400) < 0.1, np.nan, random.random(400)),
            "city": pandas.Categorical(random.choice(["Lyon", "Oslo"], 400)),
        }
    )


@pytest.fixture(scope="module")
def bundle(frame: pandas.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model of a frame with a blank in a name, exported with its own training file."""
    folder = tmp_path_factory.mktemp("data")
    target = frame["yearly income"] / 50000 + frame["late"] + (frame["city"] == "Oslo") > 1.8
    data = lightgbm.Dataset(frame, target.astype(int))
    lightgbm.train({"objective": "binary", "verbosity": -1}, data, 10).save_model(folder / "m.txt")
    frame.to_csv(folder / "t.csv", index=False, na_rep="NA")
    command(folder / "m.txt", "--data", folder / "t.csv", "--out", folder / "out")
    return Bundle.load(folder / "out")


def test_inferred_kinds_bind_no_request(bundle: Bundle) -> None:
    assert bundle.schema["late"].form_kind == "flag"
    row = {"yearly income": 52000.5, "late": 2, "rate": 7.0, "city": "Oslo"}
    decode = row_decoder(bundle.schema)
    assert np.frombuffer(decode(orjson.dumps(row))).tolist() == [52000.5, 2.0, 7.0, 1.0]
    assert np.frombuffer(decode(orjson.dumps(row | {"late": True})))[1] == 1.0


def test_blanks_in_names_are_the_datas_unless_a_description_has_others(
    bundle: Bundle, tmp_path: Path
) -> None:
    assert bundle.schema.names[0] == "yearly income"
    assert {"yearly income"} < set(bundle.golden_fields()[0])
    command(bundle.directory, "--version", "2", "--out", tmp_path / "again")
    assert Bundle.load(tmp_path / "again").schema.names == bundle.schema.names
    (tmp_path / "s.json").write_bytes(orjson.dumps([{"name": "yearly_income", "unit": "EUR"}]))
    command(bundle.directory, "--schema", tmp_path / "s.json", "--version", "3", "--out", tmp_path / "said")
    assert Bundle.load(tmp_path / "said").schema["yearly income"].unit == "EUR"
    source, data = bundle.directory.parent / "m.txt", bundle.directory.parent / "t.csv"
    command(source, "--data", data, "--schema", tmp_path / "s.json", "--out", tmp_path / "named")
    assert Bundle.load(tmp_path / "named").schema["yearly_income"].unit == "EUR"


def test_what_training_saw_whole_is_required_and_gaps_may_stay(bundle: Bundle) -> None:
    required = {feature.name for feature in bundle.schema.features if not feature.nullable}
    assert required == {"yearly income", "late", "city"}
    with pytest.raises(HotrowError, match="3 fields are not acceptable"):
        row_decoder(bundle.schema)(b"{}")


def test_the_reference_holds_every_training_row(bundle: Bundle, frame: pandas.DataFrame) -> None:
    reference = bundle.read_json(REFERENCE_FILE)
    assert reference["score"]["n"] == len(frame)
    assert reference["features"]["rate"]["missing_rate"] == round(float(frame["rate"].isna().mean()), 9)


def test_a_written_kind_binds_and_the_template_takes_the_data(
    bundle: Bundle, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    source, data = bundle.directory.parent / "m.txt", bundle.directory.parent / "t.csv"
    command(source, "--data", data, "--schema-template")
    template = orjson.loads(capfdbinary.readouterr().out)
    assert template["features"][0]["inferred"] == {"kind": "integer", "minimum": 15000.0, "maximum": 89000.0}
    template["features"][0] |= {"name": "yearly income", "kind": "integer", "nullable": True}
    (tmp_path / "s.json").write_bytes(orjson.dumps(template))
    command(source, "--schema", tmp_path / "s.json", "--data", data, "--out", tmp_path / "out")
    income = Bundle.load(tmp_path / "out").schema["yearly income"]
    assert (income.kind, income.nullable) == ("integer", True)
    with pytest.raises(HotrowError, match="1 field"):
        Bundle.load(tmp_path / "out").schema.encode({"yearly income": 52000.5, "late": 0, "city": "Oslo"})
    described = Bundle.load(tmp_path / "out").schema
    command(source, "--schema", tmp_path / "s.json", "--out", tmp_path / "again")
    assert Bundle.load(tmp_path / "again").schema.features == described.features


def test_a_model_tells_itself_what_training_saw_whole(bundle: Bundle, tmp_path: Path) -> None:
    city = {"name": "city", "kind": "category", "categories": ["Lyon", "Oslo"]}
    (tmp_path / "s.json").write_bytes(orjson.dumps([city]))
    command(bundle.directory.parent / "m.txt", "--out", tmp_path / "out", "--schema", tmp_path / "s.json")
    schema = Bundle.load(tmp_path / "out").schema
    assert not schema["yearly_income"].nullable
    text = (bundle.directory.parent / "m.txt").read_text()
    (tmp_path / "m.txt").write_text(text.replace("[use_missing: 1]", "[use_missing: 0]"))
    command(tmp_path / "m.txt", "--out", tmp_path / "blind", "--schema", tmp_path / "s.json")
    assert Bundle.load(tmp_path / "blind").schema["yearly_income"].nullable
