"""The id that a client gives a row comes back beside the row's answer, on every route, and is in the log."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from server.scoring.row_id import MAX_ID_BYTES
from tests.support import patient
from tests.support.bundles import ROW, THREE_FEATURES
from tests.support.monitored import logged
from tests.support.servers import run, serving

#: Ids that are text or integers, whatever they look like; a float64 has no 2^53 + 1.
IDS: list[Any] = ["a", "Zoë \u2028 \U0001f600", 'qu"ote\\', 0, -7, 2**53 + 1, 10**60, "9007199254740993", ""]
NO_IDS: list[Any] = [1.5, True, None, [1], {"a": 1}, "x" * MAX_ID_BYTES, 10**MAX_ID_BYTES]
CODES = np.frombuffer(THREE_FEATURES.encode(ROW)).tolist()


@pytest.fixture(scope="module", params=["on", "off"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a server logs, with the fast path and without: `on0`, `off0`."""
    return tmp_path_factory.mktemp(request.param)


@pytest.fixture(scope="module")
def client(three: Path, folder: Path) -> Iterator[httpx.Client]:
    """A client of that server."""
    with (
        serving(three, folder, fast_path=folder.name.rstrip("0123456789")) as subject,
        patient.client(base_url=subject.url) as client,
    ):
        yield client


def sent(client: httpx.Client, path: str, document: Any, kind: str = "application/json") -> httpx.Response:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return client.post(path, content=content, headers={"Content-Type": kind})


@pytest.mark.parametrize("path", ["/predict", "/explain", "/models/three/predict"])
def test_id_of_one_row_is_echoed(client: httpx.Client, path: str) -> None:
    plain = sent(client, path, ROW).json()
    for given in IDS:
        answer = sent(client, path, {"id": given, **ROW})
        assert answer.status_code == 200, answer.text
        document = json.loads(answer.content)
        assert document.pop("row_id") == given
        assert document.pop("id") != given
        assert document == {name: plain[name] for name in plain if name != "id"}


@pytest.mark.parametrize("given", NO_IDS, ids=lambda value: str(value)[:9])
def test_what_is_no_id_is_refused_by_name(client: httpx.Client, given: Any) -> None:
    one = sent(client, "/predict", {**ROW, "id": given})
    many = sent(client, "/predict/batch", {"rows": [{**ROW, "id": 1}, {**ROW, "id": given}]})
    assert (one.status_code, many.status_code) == (422, 422)
    assert one.json()["errors"][0]["pointer"] == "/id"
    assert many.json()["errors"][0]["pointer"] == "/rows/1/id"


@pytest.mark.parametrize("form", ["object", "array", "lines"])
def test_ids_of_a_batch_are_echoed_in_order(client: httpx.Client, form: str) -> None:
    rows = [{**ROW, "income": 1000 + n, "id": given} for n, given in enumerate(IDS)]
    bodies = {
        "object": json.dumps({"rows": rows}).encode(),
        "array": json.dumps(rows).encode(),
        "lines": "\n".join(map(json.dumps, rows)).encode(),
    }
    kind = "application/x-ndjson" if form == "lines" else "application/json"
    document = json.loads(sent(client, "/predict/batch", bodies[form], kind).content)
    assert document["row_ids"] == IDS
    assert len(document["probabilities"]) == len(IDS)
    headers = {"Content-Type": kind, "Accept": "application/x-ndjson"}
    lines = client.post("/predict/batch", content=bodies[form], headers=headers).text.split("\n")[:-1]
    assert [json.loads(line)["id"] for line in lines] == IDS
    assert [json.loads(line)["probability"] for line in lines] == document["probabilities"]


def test_column_of_ids_is_echoed_as_text(client: httpx.Client) -> None:
    ids = ["007", "a,b", 'q"', "12345678901234567890", "é"]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerows([["income", "id"], *([1000 + n, given] for n, given in enumerate(ids))])
    headers = {"Content-Type": "text/csv", "Accept": "text/csv"}
    answer = client.post("/predict/batch", content=text.getvalue().encode(), headers=headers)
    read = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["id"] for row in read] == ids
    assert list(read[0]) == ["id", "probability", "decision"]
    del headers["Accept"]
    assert (
        client.post("/predict/batch", content=text.getvalue().encode(), headers=headers).json()["row_ids"]
        == ids
    )


def test_batch_has_an_id_in_every_row_or_in_none(client: httpx.Client) -> None:
    problem = sent(client, "/predict/batch", {"rows": [{**ROW, "id": 1}, ROW]})
    assert (problem.status_code, problem.json()["errors"][0]["pointer"]) == (422, "/rows/1/id")
    assert sent(client, "/predict/batch", {"rows": [ROW, {**ROW, "id": 1}]}).status_code == 422
    assert "row_ids" not in sent(client, "/predict/batch", {"rows": [ROW]}).json()


def test_input_of_ids_is_echoed_as_an_output(client: httpx.Client) -> None:
    features = {"name": "features", "shape": [2, 3], "datatype": "FP64", "data": [CODES, CODES]}
    for datatype, ids in (("BYTES", ["x", "y"]), ("INT64", [2**53 + 1, -5])):
        given = {"name": "id", "shape": [2, 1], "datatype": datatype, "data": ids}
        answer = sent(client, "/v2/models/three/infer", {"id": 42, "inputs": [given, features]}).json()
        assert answer["id"] == 42
        outputs = {output["name"]: output for output in answer["outputs"]}
        assert (outputs["id"]["data"], outputs["id"]["datatype"], outputs["id"]["shape"]) == (
            ids,
            datatype,
            [2, 1],
        )
        assert "probability" in outputs
    column = {"name": "income", "shape": [2], "datatype": "FP64", "data": [1000, 2000]}
    given = {"name": "id", "shape": [2], "datatype": "BYTES", "data": ["x", "y"]}
    asked = {"inputs": [column, given], "outputs": [{"name": "id"}]}
    assert sent(client, "/v2/models/three/infer", asked).json()["outputs"][0]["data"] == ["x", "y"]
    for wrong in ({"shape": [3]}, {"datatype": "FP64", "data": [1, 2]}, {"data": ["x", None]}):
        assert (
            sent(client, "/v2/models/three/infer", {"inputs": [column, {**given, **wrong}]}).status_code
            == 400
        )


def test_members_that_many_serialisers_write_as_null_are_absent(client: httpx.Client) -> None:
    features = {
        "name": "features",
        "shape": [1, 3],
        "datatype": "INT64",
        "data": [2500, 1, 1],
        "parameters": None,
    }
    plain = sent(client, "/v2/models/three/infer", {"inputs": [{**features, "datatype": "FP64"}]}).json()
    asked = {"id": None, "parameters": None, "outputs": None, "inputs": [features]}
    answer = sent(client, "/v2/models/three/infer", asked)
    assert answer.json()["outputs"] == plain["outputs"]
    exact = [2**53, 1, 1]
    assert (
        sent(client, "/v2/models/three/infer", {"inputs": [{**features, "data": exact}]}).status_code == 400
    )
    large = sent(client, "/v2/models/three/infer", {"inputs": [{**features, "data": [2**53 + 1, 1, 1]}]})
    assert "expected integers within" in large.json()["error"]


def test_ids_are_in_the_log_which_is_read_as_before(three: Path, tmp_path: Path) -> None:
    features = {"name": "features", "shape": [1, 3], "datatype": "FP64", "data": CODES}
    with serving(three, tmp_path) as subject, patient.client(base_url=subject.url) as client:
        sent(client, "/predict", {**ROW, "id": "one"})
        sent(client, "/predict/batch", [{**ROW, "id": "two"}, {**ROW, "id": 3}])
        sent(client, "/v2/models/three/infer", {"id": "four", "inputs": [features]})
        sent(client, "/v2/models/three/infer", {"inputs": [features]})
    lines = logged(tmp_path / "logs")
    named = [
        {name: line[name] for name in ("row_id", "row_ids", "request_id") if name in line} for line in lines
    ]
    assert named == [{"row_id": "one"}, {"row_ids": ["two", 3]}, {"request_id": "four"}, {}]
    for command in (("verify-log",), ("report", "--model", str(three))):
        done = run("-m", "monitoring", command[0], str(tmp_path / "logs"), *command[1:])
        assert done.returncode == 0, done.stderr


WORDS = [
    (b'{"income":NaN}', "got NaN at column 11, which JSON does not have: send null"),
    (b'{"income":1,\n "owner": -Infinity}', "got Infinity at line 2"),
    (b'\xef\xbb\xbf{"income":1}', "got a byte order mark (BOM) before it"),
    ('{"income":1}'.encode("utf-16"), "got text in UTF-16 or UTF-32"),
    (b"{'income':1}", "got something that is not JSON at column 2: "),
]


@pytest.mark.parametrize(("body", "words"), WORDS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/explain"])
def test_what_is_no_json_is_named(client: httpx.Client, path: str, body: bytes, words: str) -> None:
    answer = sent(client, path, body)
    assert (answer.status_code, words in answer.json()["detail"]) == (400, True), answer.text


def test_array_where_an_object_is_due_is_named(client: httpx.Client) -> None:
    """As R's and pandas' data frames come, and what was encoded twice."""
    for body, words in (
        ([ROW, ROW], "an array"),
        ([ROW], "an array of one value: send the value alone"),
        (orjson.dumps(ROW).decode(), "a string that holds one: encode the object once, not twice"),
    ):
        text = orjson.dumps(body)
        assert sent(client, "/predict", text).json()["detail"] == f"expected a JSON object, got {words}"
    by_column = {name: [value] for name, value in ROW.items()}
    assert "got a table by column: " in sent(client, "/predict/batch", by_column).json()["detail"]
    for no_batch in ([1], [[ROW]], []):
        assert sent(client, "/predict/batch", no_batch).status_code == 422
    assert sent(client, "/predict/batch", b"[" + orjson.dumps(ROW)).status_code == 400
