"""`python -m server.batch`: files in, files out."""

import csv
import io
import json
import os
import signal
import subprocess
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from loadtest.harness.subject import python
from server.batch import blocks as batch_blocks
from server.batch.blocks import csv_blocks
from server.batch.columns import encode_table
from server.batch.csv_block import quoted
from server.batch.formats import FileFormat
from server.batch.job import BatchJob
from server.batch.layout import Reading, layout_of
from server.batch.progress import summary
from server.batch.scorer import OnBadRow
from server.errors import BatchRefused
from server.explain.explainer import Explainer
from server.explain.reasons import ReasonTexts
from server.model.bounds import Bounds
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.row_order import RowOrder
from server.model.schema import Feature, Schema
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.servers import run

ROWS = sample_rows(THREE_FEATURES, 300)
#: The model's features may be missing, and nothing tells that one ever was in training.
LENIENT = Reading(allow_missing=True)
NAMES = ("client", *THREE_FEATURES.names)


def table(rows: list[dict[str, Any]]) -> str:
    """A CSV file of rows with a column that is no feature, a comma and a line break in it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, NAMES, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {"client": f"{i}, A\nB" if i % 50 == 0 else f"c{i}", **row} for i, row in enumerate(rows)
    )
    return text.getvalue()


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps({"client": {"id": i}, **row}) + "\n" for i, row in enumerate(rows))


@pytest.fixture(scope="module")
def expected(three: Path) -> list[float]:
    predictor = Predictor(Bundle.load(three))
    return [predictor.predict(THREE_FEATURES.encode(row))[0] for row in ROWS]


def score(source: Path, target: Path, three: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return run("-m", "server.batch", "--nice", "0", str(source), str(target), "--model", str(three), *options)


def job(source: Path, target: Path, three: Path, on_bad_row: Any = "fail", threads: int = 2) -> Any:
    return BatchJob(source, target, Bundle.load(three), on_bad_row, threads, LENIENT).run(lambda *_: None)


@pytest.mark.parametrize(("options", "expected_nice"), [((), 10), (("--nice", "0"), 0)])
def test_it_stands_behind_others_of_the_machine(
    options: tuple[str, ...], expected_nice: int, three: Path, tmp_path: Path
) -> None:
    command = python("-m", "server.batch", "-", str(tmp_path / "out.csv"), "--model", str(three), *options)
    here = os.getpriority(os.PRIO_PROCESS, 0)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(table(ROWS * 30).encode())  # more than a pipe holds: it has begun to read
        nice = os.getpriority(os.PRIO_PROCESS, process.pid)
        _, said = process.communicate()
    assert (process.returncode, nice) == (0, min(19, here + expected_nice)), said


def test_table_keeps_its_columns_and_gains_the_answers(
    three: Path, tmp_path: Path, expected: list[float]
) -> None:
    (tmp_path / "in.csv").write_text(table(ROWS))
    done = score(tmp_path / "in.csv", tmp_path / "out.csv", three)
    assert (done.returncode, done.stdout) == (0, "")
    assert "300 rows scored with three@1" in done.stderr
    before = list(csv.DictReader(io.StringIO(table(ROWS))))
    after = read(tmp_path / "out.csv")
    assert list(after[0]) == [*NAMES, "probability", "decision"]
    assert [{name: row[name] for name in NAMES} for row in after] == before
    assert [float(row["probability"]) for row in after] == expected
    assert [row["decision"] for row in after] == ["decline" if p >= 0.4 else "grant" for p in expected]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_reasons_are_the_codes_of_a_single_answer(three: Path, tmp_path: Path) -> None:
    """In every kind of file, beside a bad row, which has none."""
    bundle = Bundle.load(three)
    predictor = Predictor(bundle)
    texts, explainer = ReasonTexts(bundle), Explainer(bundle, predictor)
    codes = []
    for fields in ROWS:
        row = THREE_FEATURES.encode(fields)
        told = texts.principal(memoryview(row).cast("d").tolist(), explainer.terms(row)[:-1], 2)
        codes.append(";".join(reason["code"] for reason in told) if predictor.predict(row)[1] else "")
    assert len(set(codes)) > 3
    (tmp_path / "in.jsonl").write_text(lines([*ROWS, {**ROWS[0], "income": -5}]))
    for ending in ("csv", "jsonl", "parquet"):
        target = tmp_path / f"out.{ending}"
        reading = LENIENT._replace(reasons=2)
        BatchJob(tmp_path / "in.jsonl", target, bundle, "null", 1, reading).run(lambda *_: None)
        if ending == "csv":
            found: list[Any] = [row["reasons"] for row in read(target)]
        elif ending == "jsonl":
            found = [json.loads(line)["reasons"] for line in target.read_text().splitlines()]
        else:
            found = pl.read_parquet(target)["reasons"].to_list()
        assert [code or "" for code in found] == [*codes, ""]


@pytest.mark.parametrize("source", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("target", ["csv", "jsonl", "parquet"])
def test_every_format_becomes_every_other(
    three: Path, tmp_path: Path, expected: list[float], source: str, target: str
) -> None:
    path, out = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
    if source == "jsonl":
        path.write_text(lines(ROWS))
    elif source == "csv":
        path.write_text(table(ROWS))
    else:
        columns = {n: [row.get(n) for row in ROWS] for n in ("income", "contract")}
        owners = [None if row.get("owner") is None else bool(row["owner"]) for row in ROWS]
        pl.DataFrame(columns | {"owner": owners, "client": range(len(ROWS))}).write_parquet(path)
    assert job(path, out, three).rows == 300
    if target == "jsonl":
        found = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        found = (pl.read_csv(out) if target == "csv" else pl.read_parquet(out)).to_dicts()
    assert [row["probability"] for row in found] == expected
    assert {"client", "income", "decision"} <= set(found[0])


def carrying(column: pl.Series, path: Path) -> Path:
    """A Parquet file of good rows with one more column."""
    features = {name: [row.get(name) for row in ROWS[: len(column)]] for name in ("income", "contract")}
    pl.DataFrame({**features, "carried": column}).write_parquet(path)
    return path


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([2**60 + 1, 2]),
        pl.Series([2**64 - 1, 2], dtype=pl.UInt64),
        pl.Series(["12345678901234567890.12", "1.10"]).cast(pl.Decimal(38, 2)),
        pl.Series([datetime(2026, 1, 1, tzinfo=UTC), None]),
        pl.Series([date(1850, 5, 17), date(2026, 1, 1)]),
    ],
    ids=["whole numbers", "unsigned numbers", "decimal numbers", "times with a zone", "old days"],
)
def test_what_a_worksheet_has_no_cells_for_is_text_in_it(
    three: Path, tmp_path: Path, values: pl.Series
) -> None:
    assert job(carrying(values, tmp_path / "in.parquet"), tmp_path / "out.xlsx", three).rows == 2
    found = pl.read_excel(tmp_path / "out.xlsx")["carried"].to_list()
    assert found == values.cast(pl.String).to_list()


@pytest.mark.parametrize(
    ("values", "ending", "words"),
    [
        (pl.Series([float("inf"), 1.0]), "jsonl", "numbers that a .jsonl file can hold in column carried"),
        (pl.Series([[{"a": -float("inf")}], None]), "jsonl", "an infinite one"),
        (pl.Series([float("inf"), 1.0]), "xlsx", "numbers that a .xlsx file can hold in column carried"),
        (pl.Series(["x" * 32_768, ""]), "xlsx", "at most 32,767 characters for a worksheet, got 32,768"),
    ],
)
def test_carried_value_that_the_output_cannot_hold_is_refused(
    three: Path, tmp_path: Path, values: pl.Series, ending: str, words: str
) -> None:
    with pytest.raises(BatchRefused, match=words):
        job(carrying(values, tmp_path / "in.parquet"), tmp_path / f"out.{ending}", three)
    assert not (tmp_path / f"out.{ending}").exists()
    assert job(tmp_path / "in.parquet", tmp_path / "out.parquet", three).rows == 2


def test_lines_keep_their_text(three: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"note": [1.50, {"x": null}], "income": 1e3}\n\n{"income": 2}')
    job(tmp_path / "in.jsonl", tmp_path / "out.jsonl", three)
    first, second = (tmp_path / "out.jsonl").read_text().splitlines()
    assert first.startswith('{"note": [1.50, {"x": null}], "income": 1e3,"probability":0.')
    assert second.startswith('{"income": 2,"probability":0.')


BAD: list[dict[str, Any]] = [
    {"income": 1, "contract": "none"},
    {"income": "abc", "contract": "none"},
    {"income": 3, "contract": "other"},
    {"contract": "none"},
    {"income": 5},
]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_bad_rows_refuse_the_file_by_line_and_nothing_is_written(
    three: Path, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"in.{ending}"
    path.write_text(table(BAD) if ending == "csv" else lines(BAD))
    done = score(path, tmp_path / "out.csv", three)
    assert done.returncode == 1
    assert "got 3 rows that are not" in done.stderr
    first = 4 if ending == "csv" else 2  # the header, and a line break in the first record
    for line in (first, first + 1, first + 2):
        assert f"line {line}: " in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize(("on_bad_row", "rows"), [("skip", 2), ("null", 5)])
def test_bad_rows_are_left_out_or_left_empty_and_reported(
    three: Path, tmp_path: Path, ending: str, on_bad_row: str, rows: int
) -> None:
    path, out = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    path.write_text(table(BAD) if ending == "csv" else lines(BAD))
    totals = job(path, out, three, on_bad_row)
    assert (totals.rows, totals.bad_rows) == (5, 3)
    if ending == "csv":
        found: list[Any] = [row["probability"] or None for row in read(out)]
    else:
        found = [json.loads(line)["probability"] for line in out.read_text().splitlines()]
    assert len(found) == rows
    assert [value is None for value in found] == (
        [False] * 2 if rows == 2 else [False, True, True, True, False]
    )
    report = pl.read_csv(f"{out}.bad.csv")
    first = 4 if ending == "csv" else 2
    assert report["line"].to_list() == [first, first + 1, first + 2]
    assert report["feature"].to_list() == ["income", "contract", "income"]
    assert not report["detail"].str.contains("abc").any()


def test_interrupted_job_goes_on_where_it_was(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_blocks, "BLOCK_BYTES", 1000)
    for name, content in (("in.csv", table(ROWS)), ("in.jsonl", lines(ROWS))):
        source, whole, out = tmp_path / name, tmp_path / f"whole-{name}", tmp_path / f"out-{name}"
        source.write_text(content)
        job(source, whole, three)
        bundle = Bundle.load(three)
        parts: list[int] = []

        def stop(size: int, rows: int, parts: list[int] = parts) -> None:
            del size
            parts.append(rows)
            if len(parts) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            BatchJob(source, out, bundle, "fail", 1, LENIENT).run(stop)
        assert not out.exists()
        totals = BatchJob(source, out, bundle, "fail", 1, LENIENT).run(lambda *_: None)
        assert totals.resumed_rows >= sum(parts)
        assert totals.rows == 300
        assert out.read_bytes() == whole.read_bytes()


def test_changed_input_is_scored_anew(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_blocks, "BLOCK_BYTES", 1000)
    source = tmp_path / "in.csv"
    source.write_text(table(ROWS))

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BatchJob(source, tmp_path / "out.csv", Bundle.load(three), "fail", 1).run(stop)
    source.write_text(table(ROWS[:200]))
    totals = job(source, tmp_path / "out.csv", three)
    assert (totals.rows, totals.resumed_rows) == (200, 0)


def test_killed_command_leaves_no_output_and_the_next_one_is_complete(three: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    header, _, records = table(ROWS).partition("\n")
    source.write_text(header + "\n" + records * 1500)
    command = python(
        "-m", "server.batch", "--nice", "0", str(source), str(out), "--model", str(three), "--threads", "1"
    )
    folder = tmp_path / ".out.csv.parts"
    for _ in range(5):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(list(folder.glob("0*.json"))) < 2 and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        if process.wait() != 0:
            break
        out.unlink()  # it was done before it could be killed
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    done = score(source, out, three)
    assert "of an interrupted run" in done.stderr
    assert pl.scan_csv(out).select(pl.len()).collect().item() == 450_000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("in.doc", b"", "ends in .csv"),
        ("in.xlsx", b"", "xlsx file"),
        ("in.xlsx", b"PK\x03\x04", "whole xlsx file"),
        ("in.csv", b"", "CSV header"),
        ("in.csv", b"income,income,contract,owner\n1,2,,\n", "one column for income"),
        ("in.csv", b"income,contract,owner\n1,none,1\n1,none,1,1\n", "line 3"),
        ("in.parquet", b"PAR1", "parquet file"),
        ("in.parquet", b"x", "parquet file"),
        ("in.csv.gz", b"\x1f\x8b\x08", "to be whole"),
        ("in.csv", b'income,contract,owner\n1,"5" pipe",1\n', "line 2 a quote inside a cell"),
        ("in.csv", b'income,contract,owner\n1,none,1\n1,"none,1\n', "line 3 a quote that is never closed"),
        ("in.csv", b"1,none,1\n2,,0\n", "got a line of values"),
        ("in.csv", b"a,b\n1,2\n", "none of them is one"),
        ("in.csv", b"income,contract\n1,none\n", "--allow-missing"),
        ("in.csv", "income,contract,owner,n\n1,,,é\n2,,,".encode() + b"\xe9\n", "line 3"),
        ("in.csv", b"income;contract;owner\n1,5;none;1\n1.5;none;0\n", "--decimal"),
    ],
)
def test_file_that_cannot_be_scored_is_one_sentence(
    three: Path, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = score(tmp_path / name, tmp_path / "out.csv", three)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_missing_input_and_unknown_engine_are_refused(three: Path, tmp_path: Path) -> None:
    assert score(tmp_path / "no.csv", tmp_path / "out.csv", three).returncode == 1
    assert score(tmp_path / "no.csv", tmp_path / "out.csv", three, "--engine", "spark").returncode == 2


def test_parquet_column_of_another_type_is_refused_by_name(three: Path, tmp_path: Path) -> None:
    pl.DataFrame({"income": [[1.0]]}).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(BatchRefused, match="column income"):
        job(tmp_path / "in.parquet", tmp_path / "out.parquet", three)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_blocks_are_whole_records_whatever_their_size(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(batch_blocks, "BLOCK_BYTES", size + 300)
    (tmp_path / "in.csv").write_text(table(ROWS))
    layout = layout_of(tmp_path / "in.csv", FileFormat(".csv"), Bundle.load(three), LENIENT, "it")
    with open(tmp_path / "in.csv", "rb") as file:
        blocks = list(csv_blocks(file, layout, "it"))
    content = b"".join(block.content for block in blocks if isinstance(block.content, bytes))
    assert content.decode() == table(ROWS).partition("\n")[2]
    for block in blocks:
        assert isinstance(block.content, bytes)
        assert {len(record) for record in csv.reader(io.StringIO(block.content.decode()))} == {4}


def test_table_is_encoded_as_the_schema_encodes_each_row() -> None:
    columns = {name: [row.get(name) for row in ROWS] for name in ("income", "contract")}
    texts = {
        "income": [None if v is None else repr(v) for v in columns["income"]],
        "contract": columns["contract"],
    }
    places = {name: i for i, name in enumerate(texts)}
    found = encode_table(pl.DataFrame(texts), THREE_FEATURES, Bounds(THREE_FEATURES), places)
    same = THREE_FEATURES.encode_columns(columns)
    assert not found.bad.any()
    assert np.array_equal(found.rows, same, equal_nan=True)


@pytest.mark.parametrize("bits", [8, 16, 32, 64, 128])
@pytest.mark.parametrize("sign", ["Int", "UInt"])
def test_whole_numbers_of_every_width_are_read(sign: str, bits: int) -> None:
    """Those alone are bad that float64 cannot tell from their neighbours, where the type has any."""
    schema, dtype = Schema([Feature("n", "integer")]), getattr(pl, f"{sign}{bits}")
    values = [0, 100, None, *([2**53, 2**53 + 1] if bits > 32 else [])]
    values += [-100, -(2**53), -(2**53) - 1] if bits > 32 and sign == "Int" else []
    found = encode_table(
        pl.DataFrame({"n": pl.Series(values, dtype=dtype)}), schema, Bounds(schema), {"n": 0}
    )
    expected = [None if value is None else float(value) for value in values]
    assert pl.Series(found.rows[:, 0], nan_to_null=True).to_list() == expected
    assert found.bad.tolist() == [value is not None and abs(value) > 2**53 for value in values]


def test_rows_in_order_score_as_rows_as_they_come(three: Path) -> None:
    predictor = Predictor(Bundle.load(three))
    matrix = np.array([np.frombuffer(THREE_FEATURES.encode(row)) for row in ROWS])
    assert RowOrder(predictor).margins(matrix).tolist() == predictor.margins(matrix).tolist()


def scored_text(
    three: Path,
    folder: Path,
    text: str,
    on_bad_row: OnBadRow = "fail",
    *,
    ending: str = ".csv",
    reading: Reading = LENIENT,
) -> str:
    """What the command says at the end of scoring a file."""
    source, bundle = folder / f"in{ending}", Bundle.load(three)
    source.write_text(text)
    job = BatchJob(source, folder / "out.csv", bundle, on_bad_row, 1, reading)
    notes = ", ".join(job.layout.notes)
    return notes + summary(job, bundle, job.run(lambda *_: None), 1.0)


@pytest.mark.parametrize(("column", "got"), [("incomes", "incomes: rename it"), ("x", "a table without")])
def test_table_without_a_column_it_needs_is_refused_as_a_whole(
    three: Path, tmp_path: Path, column: str, got: str
) -> None:
    with pytest.raises(BatchRefused, match=f"expected the column income in .*, got {got}"):
        scored_text(three, tmp_path, f"{column},contract\n5,permanent\n")


def test_column_that_differs_by_dashes_is_refused(three: Path, tmp_path: Path) -> None:
    """It may be missing, so no row would tell."""
    with pytest.raises(BatchRefused, match=r"expected the column contract in .*, got con_tract: rename"):
        scored_text(three, tmp_path, "income,con_tract\n5,permanent\n")


@pytest.mark.parametrize("name", ["Contract", " CONTRACT "])
def test_column_that_differs_by_case_or_blanks_is_the_features(
    three: Path, tmp_path: Path, name: str
) -> None:
    words = scored_text(three, tmp_path, f"income,{name},owner\n5,permanent,1\n6,other,0\n", "null")
    assert "taken for contract" in words
    assert "1 of 2 rows scored" in words
    with pytest.raises(BatchRefused, match=r"expected the member contract in line 1, got Contract: rename"):
        scored_text(three, tmp_path, '{"income": 5, "Contract": "permanent"}\n', ending=".jsonl")


def test_labels_of_the_description_are_names_too(three: Path, tmp_path: Path) -> None:
    words = scored_text(three, tmp_path, "Monthly income,Contract,Owns a home\n5,none,1\n", reading=Reading())
    assert "'Monthly income' taken for income" in words


def test_column_that_is_missing_in_every_row_is_named_and_must_be_allowed(
    three: Path, tmp_path: Path
) -> None:
    words = scored_text(three, tmp_path, "income\n5\n")
    assert words.startswith("no column for contract, owner: missing in every row")
    with pytest.raises(BatchRefused, match=r"the columns contract, owner in .*--allow-missing"):
        scored_text(three, tmp_path, "income\n5\n", reading=Reading())


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize(("line", "cells"), [("7,permanent", 2), ("7,permanent,1,more", 4), ("7", 1)])
def test_row_with_cells_too_few_or_too_many_is_bad(
    three: Path, tmp_path: Path, quote: str, line: str, cells: int
) -> None:
    table = f"income,contract,owner\n5,{quote}permanent{quote},1\n{line}\n6,,0\n"
    with pytest.raises(BatchRefused, match=f"line 3: expected 3 cells, got {cells}"):
        scored_text(three, tmp_path, table)
    assert "2 of 3 rows scored" in scored_text(three, tmp_path, table, "skip")
    read = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))
    assert [row["income"] for row in read] == ["5", "6"]


def test_added_cells_are_quoted_as_csv_asks_for() -> None:
    words = pl.Series("", ["plain", "a;b", 'a "b"', "two\nlines", "", None, "a,b"])
    assert quoted(words, ";").to_list() == [
        "plain", '"a;b"', '"a ""b"""', '"two\nlines"', '""', None, "a,b",
    ]  # fmt: skip
    assert quoted(words.head(1), ";").to_list() == ["plain"]
