"""`POST /predict/batch`: many rows in a request, in three formats."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from server.tables.arrow_stream import STREAM
from tests.support import patient
from tests.support.bundles import ROW, THREE_FEATURES, sample_rows
from tests.support.servers import serving

ROWS = sample_rows(THREE_FEATURES, 60)


@pytest.fixture(scope="module")
def client(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that takes 5,000 rows and 300,000 bytes."""
    limits = {"max_batch_rows": "5000", "max_batch_bytes": "300000"}
    with (
        serving(three, tmp_path_factory.mktemp("batch"), **limits) as subject,
        patient.client(base_url=subject.url) as http,
    ):
        yield http


def post(client: httpx.Client, content: bytes | str, media_type: str, **headers: str) -> httpx.Response:
    return client.post("/predict/batch", content=content, headers={"Content-Type": media_type, **headers})


def ndjson(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, THREE_FEATURES.names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def test_batch_answers_as_its_rows_alone_to_the_bit(client: httpx.Client) -> None:
    batch = client.post("/predict/batch", json={"rows": ROWS}).json()
    alone = [client.post("/predict", json=row).json() for row in ROWS]
    assert list(batch) == ["id", "model", "probabilities", "decisions"]
    assert batch["model"] == "three@1"
    assert batch["probabilities"] == [answer["probability"] for answer in alone]
    assert batch["decisions"] == [answer["decision"] for answer in alone]


@pytest.mark.parametrize(
    "media_type", ["application/x-ndjson", "application/jsonl", "text/csv; charset=utf-8"]
)
def test_lines_and_tables_answer_as_json_does(client: httpx.Client, media_type: str) -> None:
    same = client.post("/predict/batch", json={"rows": ROWS}).json()["probabilities"]
    content = table(ROWS) if "csv" in media_type else ndjson(ROWS)
    assert post(client, content, media_type).json()["probabilities"] == same


def test_answer_comes_a_line_a_row_where_that_is_asked_for(client: httpx.Client) -> None:
    same = client.post("/predict/batch", json={"rows": ROWS}).json()
    lines = post(client, table(ROWS), "text/csv", Accept="application/x-ndjson")
    assert [json.loads(line)["probability"] for line in lines.text.splitlines()] == same["probabilities"]
    cells = post(client, table(ROWS), "text/csv", Accept="text/csv")
    assert cells.headers["Content-Type"].startswith("text/csv")
    read = list(csv.DictReader(io.StringIO(cells.text)))
    assert [(float(row["probability"]), row["decision"]) for row in read] == list(
        zip(same["probabilities"], same["decisions"], strict=True)
    )


def test_arrow_comes_and_goes_with_the_bits_of_json(client: httpx.Client) -> None:
    frame = pl.from_dicts(ROWS).with_columns(id=pl.int_range(pl.len()))
    body = io.BytesIO()
    frame.write_ipc_stream(body)
    same = client.post("/predict/batch", json=frame.to_dicts()).json()
    given = post(client, body.getvalue(), STREAM).json()
    assert given | {"id": ""} == same | {"id": ""}
    answer = post(client, body.getvalue(), STREAM, Accept=STREAM)
    assert answer.headers["Content-Type"] == STREAM
    assert pl.read_ipc_stream(answer.content).to_dict(as_series=False) == {
        "id": same["row_ids"],
        "probability": same["probabilities"],
        "decision": same["decisions"],
    }
    broken = post(client, body.getvalue()[:-9], STREAM)
    assert (broken.status_code, broken.headers["Content-Type"]) == (400, "application/problem+json")


def test_empty_cells_are_missing_and_cells_may_have_blanks(client: httpx.Client) -> None:
    content = "\ufeffincome,contract,owner\r\n 2500.5 ,fixed-term,TRUE\r\n1e3,,\r\n\r\n"
    rows = [ROW, {"income": 1000}]
    same = client.post("/predict/batch", json={"rows": rows}).json()["probabilities"]
    assert post(client, content.encode(), "text/csv").json()["probabilities"] == same


def test_blank_lines_of_a_table_are_no_rows_but_count_as_lines(client: httpx.Client) -> None:
    blank = b"\n" * 100_000
    content = b"income,contract,owner\n" + blank + b'2500.5,"fixed-term",1\r\n' + blank + b"1000,,\n\r\n"
    rows = [{"income": 2500.5, "contract": "fixed-term", "owner": 1}, {"income": 1000}]
    same = client.post("/predict/batch", json={"rows": rows}).json()["probabilities"]
    answer = post(client, content, "text/csv").json()
    assert answer.get("probabilities") == same, answer
    (error,) = post(client, content + b"x,,\n", "text/csv").json()["errors"]
    assert error["detail"].startswith("line 200005:")


def test_every_bad_row_is_named_and_none_is_scored(client: httpx.Client) -> None:
    rows = [ROW, ROW | {"income": -1}, 5, {"contract": "none"}, ROW | {"salary": 1}]
    answer = client.post("/predict/batch", json={"rows": rows})
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert pointers == ["/rows/1/income", "/rows/2", "/rows/3/income", "/rows/4/salary"]


def test_bad_rows_are_named_until_there_are_many(client: httpx.Client) -> None:
    """To word what is wrong takes a hundred times as long as to decode: not for thousands of rows."""
    refused = client.post("/predict/batch", json={"rows": [ROW] * 3 + [{}] * 250 + [5]}).json()
    assert (
        refused["detail"] == "100 rows are not acceptable, and 151 more were not looked at; no row was scored"
    )
    assert [error["pointer"] for error in refused["errors"]] == [f"/rows/{n}/income" for n in range(3, 103)]
    whole = client.post("/predict/batch", json={"rows": [{}] * 100}).json()
    assert whole["detail"] == "100 rows are not acceptable; no row was scored"


def test_bad_lines_of_text_are_named_by_row_and_line(client: httpx.Client) -> None:
    content = 'income,contract,owner\n1,none,1\n"x\ny",none,1\n3,other,nan\n'
    errors = post(client, content, "text/csv").json()["errors"]
    assert [(e["pointer"], e["detail"].partition(":")[0]) for e in errors] == [
        ("/rows/1/income", "line 3"),
        ("/rows/2/contract", "line 5"),
    ]
    problem = post(client, ndjson([ROW]) + "\n{oops\n", "application/x-ndjson")
    assert problem.status_code == 400
    assert "row 1 of the batch: line 3" in problem.json()["detail"]


@pytest.mark.parametrize("cell", ["inf", "nan", "1e400", "1_000", "0x10", "--1", "١"])
def test_cells_that_are_no_number_are_refused(client: httpx.Client, cell: str) -> None:
    assert post(client, f"income\n{cell}\n".encode(), "text/csv").status_code == 422


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"rows":{}}', 422),
        (b'{"rows":[]}', 422),
        (b'{"rows":[{"income":1}],"more":1}', 422),
        (b'{"rows":[{"income":NaN}]}', 400),
        (b'{"rows":' + b"[" * 100_000, 400),
        (b'{"rows":[' + b'{"a":' * 5_000, 400),
        (b'{"rows":[{"income":1}' + b',{"income":1}' * 5000 + b"]}", 422),
        (b" " * 300_001, 413),
    ],
)
def test_what_is_no_batch_is_refused(client: httpx.Client, content: bytes, status: int) -> None:
    answer = post(client, content, "application/json")
    assert (answer.status_code, answer.json()["status"]) == (status, status)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"income,income\n1,2\n", b"key,income\n1,2\n", b"income\n1,2\n", b"income\n"]
)
def test_what_is_no_table_of_features_is_refused(client: httpx.Client, content: bytes) -> None:
    assert post(client, content, "text/csv").status_code == 422


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\u2029"])
def test_no_other_character_than_a_line_end_ends_a_record(client: httpx.Client, mark: str) -> None:
    """One line of the client's is one row, or none: its answers would be others' otherwise."""
    problem = post(client, f"income,contract,owner\n1,none,1{mark}2,none,0\n".encode(), "text/csv")
    assert problem.status_code == 422
    assert "expected 3 cells in line 2, got 5" in problem.json()["detail"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"income\n1\n"), "got what gzip packed: unpack it first"),
        (b"PK\x03\x04\x14\0", "got a zip archive or a workbook"),
        (b"\x89PNG\r\n\x1a\n", "got a picture"),
        (b"a\0b\n1\n", "got bytes of another kind of file"),
        (b"Report,,\n\nincome,contract,owner\n1,none,1\n", "got them in line 3: remove the lines above"),
        (b'income,contract,owner\n"1,234",none,1\n', "without what parts thousands"),
        ("income\n1\n".encode("utf-16-le") + b"\n", "expected the body in utf-16-le, as it begins"),
    ],
    ids=["gzip", "zip", "picture", "zeros", "title", "thousands", "utf-16"],
)
def test_what_else_is_sent_as_csv_is_named(client: httpx.Client, content: bytes, words: str) -> None:
    problem = post(client, content, "text/csv")
    assert (problem.status_code in (400, 422), words in problem.json()["detail"]) == (True, True), (
        problem.text
    )


@pytest.mark.parametrize("cell", ["1" * 100_000 + "x", "1." * 50_000, "1," * 3, '"' + "1\n" * 50_000 + '"'])
def test_long_cell_is_refused_at_once(client: httpx.Client, cell: str) -> None:
    assert post(client, f"income\n{cell}\n".encode(), "text/csv").status_code in (400, 422)


@pytest.mark.parametrize("header", ["income,{}", "income;{}", "income\t{}"])
def test_columns_are_counted_before_they_are_named(client: httpx.Client, header: str) -> None:
    separator = header.partition("income")[2].partition("{}")[0]
    names = header.format(separator.join(f"a{i}" for i in range(2000)))
    refused = post(client, f"{names}\n1\n".encode(), "text/csv")
    assert (refused.status_code, "at most 1006 columns in the body" in refused.json()["detail"]) == (
        422,
        True,
    )


def test_header_of_endless_lines_is_refused(client: httpx.Client) -> None:
    refused = post(client, b'income,"' + b"\n" * 5000 + b'"\n1,2\n', "text/csv")
    assert refused.status_code == 422
    assert (
        "header of at most 1000 lines in the body, got a longer one: is a quote" in refused.json()["detail"]
    )


def test_rows_are_counted_before_they_are_built(client: httpx.Client) -> None:
    problem = post(client, b"income\n" + b"1\n" * 140_000, "text/csv")
    assert problem.status_code == 422
    assert "at most 5000 rows" in problem.json()["detail"]


@pytest.mark.parametrize(
    "content",
    [
        "income;contract;owner\n2500,5;fixed-term;true\n".encode("utf-16"),
        b"Monthly income\tContract\tOwns a home\r\n2500.5\tfixed-term\tyes\r\n",
        b"sep=|\nINCOME|contract|owner\n2'500.5|fixed-term|TRUE\n",
        b'income,contract,owner\r2500.5,"fixed-term",1',
        "income;contract;owner\n2 500,5;fixed-term;1\n".encode("cp1252"),
    ],
)
def test_table_is_read_as_files_are(client: httpx.Client, content: bytes) -> None:
    same = client.post("/predict/batch", json={"rows": [ROW]}).json()["probabilities"]
    assert post(client, content, "text/csv").json()["probabilities"] == same


def test_words_for_missing_are_missing(client: httpx.Client) -> None:
    words = ("NA", "null", "\\N", "#N/A", "")
    content = "income,contract,owner\n" + "".join(f"1000,{word},{word}\n" for word in words)
    same = client.post("/predict/batch", json={"rows": [{"income": 1000}] * 5}).json()["probabilities"]
    assert post(client, content, "text/csv").json()["probabilities"] == same


def test_misplaced_quote_is_refused_by_its_line(client: httpx.Client) -> None:
    problem = post(client, b'income,contract\n1,none\n2,"5" pipe"\n', "text/csv")
    assert problem.status_code == 400
    assert "in line 3 a quote inside a cell" in problem.json()["detail"]


def test_other_media_types_are_415_and_named(client: httpx.Client) -> None:
    answer = post(client, b"x", "application/vnd.apache.parquet")
    assert answer.status_code == 415
    assert "text/csv" in answer.headers["Accept-Post"]
    assert post(client, "income\n1\n", "text/csv; charset=utf-16").status_code == 415


def test_large_batch_is_logged_in_lines_that_are_whole(three: Path, tmp_path: Path) -> None:
    rows = ROWS * 70
    with serving(three, tmp_path) as subject, patient.client(base_url=subject.url) as http:
        answer = http.post("/predict/batch", json={"rows": rows}).json()
        single = http.post("/predict", json=ROW).json()
    (log,) = (tmp_path / "logs").glob("*.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(line["seq"] for line in lines) == list(range(1, len(lines) + 1))
    parts = sorted((line for line in lines if "decisions" in line), key=lambda line: line["seq"])
    ids = [answer["id"], *(f"{answer['id']}.{part}" for part in range(1, len(parts)))]
    assert sorted(line["id"] for line in parts) == sorted(ids)
    ordered = sorted(parts, key=lambda line: ids.index(line["id"]))
    assert [row for line in ordered for row in line["input"]["rows"]] == rows
    assert [p for line in ordered for p in line["probabilities"]] == answer["probabilities"]
    assert single["id"] in {line["id"] for line in lines}


def test_strict_log_is_written_before_the_answer(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, log_mode="strict") as subject:
        answer = patient.post(subject.url + "/predict/batch", json={"rows": ROWS}).json()
        (log,) = (tmp_path / "logs").glob("*.jsonl")
        assert answer["id"] in log.read_text()


@pytest.mark.parametrize("row", [b"{}", b"1", b"[]", b'{"a":{}}'])
def test_rows_are_counted_before_they_are_read(client: httpx.Client, row: bytes) -> None:
    """Were the first row looked at, the answer would name it."""
    answer = post(client, b'{"rows":[' + b",".join([row] * 30_000) + b"]}", "application/json")
    lines = post(client, b"\n".join([row] * 30_000), "application/x-ndjson")
    assert (answer.status_code, lines.status_code) == (422, 422)
    if b"{" in row:
        assert "expected 1 to 5000 rows" in answer.json()["detail"]
    assert "expected 1 to 5000 rows" in lines.json()["detail"]


def test_braces_in_texts_are_no_rows(client: httpx.Client) -> None:
    answer = client.post("/predict/batch", json={"rows": [ROW, ROW | {"contract": "{" * 6000}]})
    assert answer.json()["errors"][0]["pointer"] == "/rows/1/contract"


def test_row_of_a_batch_is_no_longer_than_one_alone(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, max_body_bytes="200") as subject:
        padded = {"rows": [ROW, {"contract": " " * 200}]}
        answer = patient.post(subject.url + "/predict/batch", json=padded)
    assert answer.status_code == 422
    assert "200 bytes" in answer.json()["detail"]


def test_rows_times_features_fit_into_the_largest_body(three: Path, tmp_path: Path) -> None:
    """Three features and a margin are 32 bytes of float64 a row: 100 rows fit into 3,200."""
    with (
        serving(three, tmp_path, max_batch_bytes="3200") as subject,
        patient.client(base_url=subject.url) as http,
    ):
        for count, status in ((100, 200), (101, 422)):
            assert http.post("/predict/batch", json={"rows": [{"income": 1}] * count}).status_code == status
            column = {"name": "income", "datatype": "FP64", "shape": [count], "data": [0.0] * count}
            answer = http.post("/v2/models/three/infer", json={"inputs": [column]})
            assert answer.status_code == (200 if status == 200 else 400)
        assert http.get("/v2/models/three/config").json()["max_batch_size"] == 100


def test_name_without_end_is_told_by_its_beginning(client: httpx.Client) -> None:
    answer = client.post("/predict/batch", json={"rows": [{"x" * 10_000: 1} | ROW]})
    assert answer.status_code == 422
    assert len(answer.content) < 1000
