"""The Open Inference Protocol, asked over real sockets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from export.assemble import write_conversion
from export.lightgbm.model import convert_lightgbm
from server.model.bundle import Bundle, Decision
from server.model.schema import Feature, Schema
from tests.support import patient
from tests.support.bundles import ROW, THREE_FEATURES, sample_rows, three_feature_bundle, train
from tests.support.servers import serving

OCTETS = {"Content-Type": "application/octet-stream"}
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server with two versions of the three-feature model; no body over 1 MB, 2,000 rows."""
    folder = tmp_path_factory.mktemp("v2")
    three_feature_bundle(folder / "one")
    three_feature_bundle(folder / "two", version="2", trees=5)
    second = ("--model", str(folder / "two"))
    limits = {"max_batch_bytes": "1000000", "max_batch_rows": "2000"}
    with (
        serving(folder / "one", folder, *second, **limits) as subject,
        patient.client(base_url=subject.url) as http,
    ):
        yield http


@pytest.fixture(scope="module")
def golden() -> tuple[np.ndarray[Any, Any], list[dict[str, Any]]]:
    """The golden rows, encoded [n, 3], and as a client sends them."""
    rows = sample_rows(THREE_FEATURES, 200)
    return np.array([np.frombuffer(THREE_FEATURES.encode(row)) for row in rows]), rows


def body(values: Any, shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    """A request of one `features` tensor."""
    array = np.asarray(values, dtype=np.float64)
    data = [None if np.isnan(value) else value for value in array.reshape(-1).tolist()]
    tensor = {"name": "features", "shape": shape or list(array.shape), "datatype": "FP64", "data": data}
    return {"inputs": [tensor], **more}


def binary(values: np.ndarray[Any, Any], **more: Any) -> tuple[bytes, dict[str, str]]:
    """The same with the tensor in binary: a body and its headers."""
    datatype = {8: "FP64", 4: "FP32"}[values.itemsize]
    tensor = {"name": "features", "shape": values.shape, "datatype": datatype}
    tensor["parameters"] = {"binary_data_size": values.nbytes}
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + values.tobytes(), OCTETS | {LENGTH: str(len(head))}


def infer(
    client: httpx.Client, request: dict[str, Any], path: str = "/v2/models/three/infer"
) -> httpx.Response:
    return client.post(path, json=request)


def outputs(answer: httpx.Response) -> dict[str, Any]:
    """The data of each output, from JSON and binary alike."""
    assert answer.status_code == 200, answer.text
    length = answer.headers.get(LENGTH)
    head = json.loads(answer.content[: int(length)] if length else answer.content)
    rest = answer.content[int(length) :] if length else b""
    found = {}
    for tensor in head["outputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        found[tensor["name"]] = tensor["data"] if size is None else np.frombuffer(rest[:size]).tolist()
        rest = rest[size or 0 :]
    assert not rest
    return found


def test_server_is_live_and_ready(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_server_metadata_names_its_extensions(client: httpx.Client, path: str) -> None:
    metadata = client.get(path).json()
    assert metadata["name"] == "hotrow"
    assert {"binary_tensor_data", "statistics", "model_repository"} <= set(metadata["extensions"])


def test_model_metadata_describes_the_tensors_and_every_version(client: httpx.Client) -> None:
    metadata = client.get("/v2/models/three").json()
    assert metadata["versions"] == ["1", "2"]
    assert metadata["platform"] == "onnx_onnxv1"
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 3]}]
    assert metadata["outputs"] == [
        {"name": "probability", "datatype": "FP64", "shape": [-1, 1]},
        {"name": "margin", "datatype": "FP64", "shape": [-1, 1]},
    ]
    assert metadata["properties"]["categories.contract"] == "permanent|fixed-term|none"
    second = client.get("/v2/models/three/versions/2").json()
    assert second["properties"].pop("sha256") != metadata["properties"].pop("sha256")
    assert second == metadata


def test_each_version_is_ready_and_answers_itself(client: httpx.Client) -> None:
    row = [[2500.0, 1, 1]]
    answers = []
    for version in "12":
        prefix = f"/v2/models/three/versions/{version}"
        assert client.get(prefix + "/ready").json() == {"name": "three", "ready": True}
        answer = infer(client, body(row), prefix + "/infer")
        assert answer.json()["model_version"] == version
        answers.append(outputs(answer))
    assert answers[0] != answers[1]
    assert outputs(infer(client, body(row))) == answers[0]


@pytest.mark.parametrize(
    "path",
    ["/v2/models/no", "/v2/models/three/versions/9", "/v2/models/no/ready", "/v2/no", "/v2/models/three/x"],
)
def test_unknown_models_versions_and_paths_are_404_with_an_error(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]


def test_wrong_method_is_405_and_names_the_right_one(client: httpx.Client) -> None:
    answer = client.get("/v2/models/three/infer")
    assert (answer.status_code, answer.headers["Allow"], list(answer.json())) == (405, "POST", ["error"])


def test_golden_rows_score_to_the_bit_in_json_and_binary_and_as_predict(
    client: httpx.Client, golden: tuple[np.ndarray[Any, Any], list[dict[str, Any]]]
) -> None:
    matrix, rows = golden
    flat = outputs(infer(client, body(matrix)))
    nested = body(matrix)
    data = nested["inputs"][0]["data"]
    nested["inputs"][0]["data"] = [data[i : i + 3] for i in range(0, len(data), 3)]
    content, headers = binary(matrix, parameters={"binary_data_output": True})
    assert outputs(infer(client, nested)) == flat
    assert outputs(client.post("/v2/models/three/infer", content=content, headers=headers)) == flat
    assert [client.post("/predict", json=row).json()["probability"] for row in rows[:20]] == flat[
        "probability"
    ][:20]


def test_golden_margins_are_those_of_the_source(client: httpx.Client, three: Path) -> None:
    golden_rows = list(Bundle.load(three).golden_rows())
    matrix = [np.frombuffer(THREE_FEATURES.encode(row.fields)) for row in golden_rows]
    assert outputs(infer(client, body(matrix)))["margin"] == [row.margins[0] for row in golden_rows]


def test_float32_is_read_as_float32_from_json_and_binary(client: httpx.Client) -> None:
    row = np.array([[2500.123456789, 1, np.nan]])
    request = body(row)
    request["inputs"][0]["datatype"] = "FP32"
    content, headers = binary(row.astype(np.float32))
    same = outputs(infer(client, body(row.astype(np.float32))))
    assert outputs(infer(client, request)) == same
    assert outputs(client.post("/v2/models/three/infer", content=content, headers=headers)) == same


def test_nan_is_missing_as_tritons_clients_write_it_but_not_in_what_calls_itself_json(
    client: httpx.Client,
) -> None:
    row = body([[2500.0, np.nan, 1]], id='a "NaN" \\" NaN')
    content = json.dumps(row).replace("null", "NaN").encode()
    loose = client.post("/v2/models/three/infer", content=content)
    assert loose.json()["id"] == row["id"]
    assert outputs(loose) == outputs(infer(client, row))
    strict = client.post(
        "/v2/models/three/infer", content=content, headers={"Content-Type": "application/json"}
    )
    assert strict.status_code == 400


def test_raw_binary_request_is_one_row_and_answers_in_binary(client: httpx.Client) -> None:
    row = np.array([[2500.0, 1, 1]])
    same = outputs(infer(client, body(row)))
    for content in (row.tobytes(), row.astype(np.float32).tobytes()):
        answer = client.post("/v2/models/three/infer", content=content, headers={LENGTH: "0"})
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert outputs(answer) == same
    wrong = client.post("/v2/models/three/infer", content=row.tobytes()[:-1], headers={LENGTH: "0"})
    assert (wrong.status_code, list(wrong.json())) == (400, ["error"])


def test_binary_output_can_be_asked_for_or_refused_one_by_one(client: httpx.Client) -> None:
    asked = [{"name": "margin"}, {"name": "probability", "parameters": {"binary_data": False}}]
    answer = infer(client, body([[1.0, 0, 0]], outputs=asked, parameters={"binary_data_output": True}))
    head = json.loads(answer.content[: int(answer.headers[LENGTH])])
    assert [("data" in tensor, tensor["name"]) for tensor in head["outputs"]] == [
        (False, "margin"),
        (True, "probability"),
    ]


def test_outputs_are_only_those_asked_for_and_the_id_comes_back(client: httpx.Client) -> None:
    answer = infer(
        client, body([[1.0, 0, 0]], id="mine", outputs=[{"name": "margin"}], more="ignored")
    ).json()
    assert (answer["id"], answer["model_name"]) == ("mine", "three")
    assert [tensor["name"] for tensor in answer["outputs"]] == ["margin"]
    assert answer["outputs"][0]["shape"] == [1, 1]


def test_optional_members_may_be_null(client: httpx.Client) -> None:
    request = body([[2500.0, 1, 1]], id=None, parameters=None, outputs=None)
    request["inputs"][0]["parameters"] = None
    assert outputs(infer(client, request)) == outputs(infer(client, body([[2500.0, 1, 1]])))
    request["outputs"] = [{"name": "margin", "parameters": None}]
    request["parameters"] = {"timeout": None, "binary_data_output": None, "priority": {"unknown": []}}
    assert list(outputs(infer(client, request))) == ["margin"]


def test_id_may_be_a_number(client: httpx.Client) -> None:
    assert infer(client, body([[1.0, 0, 0]], id=0)).json()["id"] == 0


@pytest.mark.parametrize("datatype", ["INT64", "INT32", "UINT16", "INT8"])
def test_features_may_be_integers(client: httpx.Client, datatype: str) -> None:
    row = np.array([[100, 1, 1]])
    same = outputs(infer(client, body(row)))
    request = body(row)
    request["inputs"][0] |= {"datatype": datatype, "data": row.tolist()[0]}
    assert outputs(infer(client, request)) == same
    content = row.astype({"INT64": "<i8", "INT32": "<i4", "UINT16": "<u2", "INT8": "i1"}[datatype]).tobytes()
    head: dict[str, Any] = {"name": "features", "shape": [1, 3], "datatype": datatype}
    head["parameters"] = {"binary_data_size": len(content)}
    text = json.dumps({"inputs": [head]}).encode()
    answer = client.post(
        "/v2/models/three/infer", content=text + content, headers=OCTETS | {LENGTH: str(len(text))}
    )
    assert outputs(answer) == same


@pytest.mark.parametrize("shape", [[2001], [2001, 3], [10**18]])
def test_rows_are_counted_before_they_are_read(client: httpx.Client, shape: list[int]) -> None:
    """Were the data looked at, the answer would be another: there is none."""
    name = "features" if len(shape) == 2 else "income"
    head = {"name": name, "datatype": "FP64", "shape": shape, "data": []}
    assert "expected 1 to 2000 rows" in infer(client, {"inputs": [head]}).json()["error"]


def test_request_without_id_is_given_one(client: httpx.Client) -> None:
    assert infer(client, body([[1.0, 0, 0]])).json()["id"]


def test_one_tensor_a_column_by_feature_name(client: httpx.Client) -> None:
    same = outputs(infer(client, body([[2500.5, 1, 1], [10, np.nan, 0]])))
    contract = {"name": "contract", "shape": [2], "datatype": "BYTES", "data": ["fixed-term", None]}
    columns = [
        contract,
        {"name": "income", "shape": [2, 1], "datatype": "FP64", "data": [[2500.5], [10]]},
        {"name": "owner", "shape": [2], "datatype": "BOOL", "data": [True, False]},
    ]
    assert outputs(infer(client, {"inputs": columns})) == same


def test_texts_of_a_column_come_in_binary_too(client: httpx.Client) -> None:
    texts = b"".join(len(text).to_bytes(4, "little") + text for text in (b"none", b"permanent"))
    columns: list[dict[str, Any]] = [
        {"name": "income", "shape": [2], "datatype": "INT64", "data": [1, 2]},
        {
            "name": "contract",
            "shape": [2],
            "datatype": "BYTES",
            "parameters": {"binary_data_size": len(texts)},
        },
    ]
    head = json.dumps({"inputs": columns}).encode()
    answer = client.post(
        "/v2/models/three/infer", content=head + texts, headers=OCTETS | {LENGTH: str(len(head))}
    )
    assert outputs(answer) == outputs(infer(client, body([[1, 2, np.nan], [2, 0, np.nan]])))


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (99, "99 values are not acceptable:"),
        (100, "100 values are not acceptable:"),
        (1500, "100 values are not acceptable, and 1400 more were not looked at:"),
    ],
)
def test_bad_texts_of_a_column_are_named_up_to_a_hundred(client: httpx.Client, count: int, told: str) -> None:
    """To word one takes as long as to encode fifty."""
    column = {"name": "contract", "shape": [count], "datatype": "BYTES", "data": ["no such"] * count}
    error = infer(client, {"inputs": [column]}).json()["error"]
    assert error.startswith(told)
    assert "/0/contract: expected one of" in error


def _changed(**members: Any) -> dict[str, Any]:
    request = body([[1.0, 0, 0]])
    request["inputs"][0] |= members
    return {"inputs": [{k: v for k, v in request["inputs"][0].items() if v != "absent"}]}


REFUSED = {
    "element count": _changed(shape=[2, 3]),
    "width": _changed(shape=[3, 1]),
    "negative shape": _changed(shape=[-1, 3]),
    "fractional shape": _changed(shape=[1.5, 3]),
    "overflowing shape": _changed(shape=[2**62, 2**62]),
    "beyond int64": _changed(shape=[2**70, 3]),
    "five dimensions": _changed(shape=[1, 1, 1, 1, 3]),
    "no dimensions": _changed(shape=[]),
    "one dimension": _changed(shape=[3]),
    "no rows": _changed(shape=[0, 3], data=[]),
    "no name": _changed(name="absent"),
    "no shape": _changed(shape="absent"),
    "no datatype": _changed(datatype="absent"),
    "no data": _changed(data="absent"),
    "unknown datatype": _changed(datatype="FP99"),
    "lower case": _changed(datatype="fp64"),
    "half in JSON": _changed(datatype="FP16"),
    "fractions as integers": _changed(datatype="INT64", data=[1.5, 0, 0]),
    "booleans": _changed(datatype="BOOL", data=[True, False, False]),
    "unknown input": _changed(name="other"),
    "text for a number": _changed(data=["1.5", 0, 0]),
    "boolean for a number": _changed(data=[True, 0, 0]),
    "ragged": _changed(shape=[2, 3], data=[[1, 2, 3], [1, 2]]),
    "mixed nesting": _changed(shape=[2, 3], data=[[1, 2, 3], 1, 2, 3]),
    "deep nesting": _changed(data=[[[1, 0, 0]]]),
    "data and binary": _changed(parameters={"binary_data_size": 24}),
    "binary without a body": _changed(data="absent", parameters={"binary_data_size": 24}),
    "negative binary": _changed(data="absent", parameters={"binary_data_size": -1}),
    "binary size as text": _changed(data="absent", parameters={"binary_data_size": "24"}),
    "out of range": _changed(data=[-1.0, 0, 0]),
    "unknown code": _changed(data=[1.0, 3, 0]),
    "fractional code": _changed(data=[1.0, 0.5, 0]),
    "required is missing": _changed(data=[None, 0, 0]),
    "beyond float32": _changed(datatype="FP32", data=[1e300, 0, 0]),
    "inputs no list": {"inputs": {}},
    "no inputs": {"inputs": []},
    "no member inputs": {},
    "twice the same": {"inputs": _changed()["inputs"] * 2},
    "unknown output": body([[1.0, 0, 0]], outputs=[{"name": "label"}]),
    "output without a name": body([[1.0, 0, 0]], outputs=[{}]),
    "output twice": body([[1.0, 0, 0]], outputs=[{"name": "margin"}] * 2),
    "binary as a number": body([[1.0, 0, 0]], outputs=[{"name": "margin", "parameters": {"binary_data": 1}}]),
    "endless id": body([[1.0, 0, 0]], id="x" * 257),
    "endless shape": _changed(shape=[1] * 1000),
    "more inputs than features": {"inputs": _changed()["inputs"] * 2000},
    "integers beyond a float64": _changed(datatype="INT64", data=[2**53 + 1, 0, 0]),
    "the least integer": _changed(datatype="INT64", data=[-(2**63), 0, 0]),
    "classification": body([[1.0, 0, 0]], outputs=[{"name": "margin", "parameters": {"classification": 1}}]),
    "too many rows": body(np.zeros((2001, 3))),
    "columns of two lengths": {
        "inputs": [
            {"name": "income", "shape": [1], "datatype": "FP64", "data": [1]},
            {"name": "owner", "shape": [2], "datatype": "BOOL", "data": [True, False]},
        ]
    },
    "integer too large": {"inputs": [{"name": "income", "shape": [1], "datatype": "UINT8", "data": [300]}]},
    "unknown category": {"inputs": [{"name": "contract", "shape": [1], "datatype": "BYTES", "data": ["?"]}]},
}


@pytest.mark.parametrize("case", REFUSED)
def test_unacceptable_request_is_400_with_only_an_error(client: httpx.Client, case: str) -> None:
    answer = infer(client, REFUSED[case])
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"inputs":[{"data":[NaN]}]}', b"[" * 100_000, b'{"a":' * 5000, b"{}{}"],
    ids=["empty", "cut", "array", "no UTF-8", "NaN", "brackets", "objects", "two"],
)
def test_what_is_no_request_is_400(client: httpx.Client, content: bytes) -> None:
    for headers in ({"Content-Type": "application/json"}, {LENGTH: str(len(content) or 1)}):
        answer = client.post("/v2/models/three/infer", content=content, headers=headers)
        assert (answer.status_code, list(answer.json())) == (400, ["error"])


@pytest.mark.parametrize("length", ["-1", "1.5", "x", "", "99999999", "9" * 40, "+5", "\u0663".encode()])
def test_head_length_that_is_none_is_400(client: httpx.Client, length: Any) -> None:
    content, _ = binary(np.array([[1.0, 0, 0]]))
    answer = client.post("/v2/models/three/infer", content=content, headers=[(LENGTH.encode(), length)])
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


@pytest.mark.parametrize("cut", [1, 8, 23])
def test_binary_of_another_size_is_400(client: httpx.Client, cut: int) -> None:
    content, headers = binary(np.array([[1.0, 0, 0]]))
    for wrong in (content[:-cut], content + b"\0" * cut):
        answer = client.post("/v2/models/three/infer", content=wrong, headers=headers)
        assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_media_types_and_encodings_that_are_not_read_are_415(client: httpx.Client) -> None:
    for headers in ({"Content-Type": "application/x-pickle"}, {"Content-Encoding": "br"}):
        answer = client.post("/v2/models/three/infer", json=body([[1.0, 0, 0]]), headers=headers)
        assert (answer.status_code, list(answer.json())) == (415, ["error"])


def test_body_above_the_limit_is_413_with_an_error(client: httpx.Client) -> None:
    answer = client.post("/v2/models/three/infer", content=b" " * 1_000_001)
    assert (answer.status_code, list(answer.json())) == (413, ["error"])


def test_connection_goes_on_after_a_refusal(client: httpx.Client) -> None:
    assert infer(client, {}).status_code == 400
    assert infer(client, body([[1.0, 0, 0]])).status_code == 200


def test_statistics_count_rows_and_calls(client: httpx.Client) -> None:
    def counts() -> tuple[int, int, int]:
        stats = client.get("/v2/models/three/versions/1/stats").json()["model_stats"][0]
        return stats["inference_count"], stats["execution_count"], stats["inference_stats"]["fail"]["count"]

    before = counts()
    infer(client, body(np.zeros((5, 3))))
    infer(client, {})
    after = counts()
    assert [b - a for a, b in zip(before, after, strict=True)] == [5, 1, 1]
    assert [s["version"] for s in client.get("/v2/models/stats").json()["model_stats"]] == ["1", "2"]


def test_repository_index_lists_the_models_and_changes_nothing(client: httpx.Client) -> None:
    index = client.post("/v2/repository/index").json()
    assert [(m["name"], m["version"], m["state"]) for m in index] == [
        ("three", "1", "READY"),
        ("three", "2", "READY"),
    ]
    assert client.post("/v2/repository/index", json={"ready": True}).json() == index
    assert client.post("/v2/repository/index", json={"ready": 1}).status_code == 400
    for action in ("load", "unload"):
        assert client.post(f"/v2/repository/models/three/{action}").status_code == 501


def test_many_rows_answer_as_single_rows_do(client: httpx.Client) -> None:
    matrix = np.array([np.frombuffer(THREE_FEATURES.encode(row)) for row in sample_rows(THREE_FEATURES, 200)])
    many = np.tile(matrix, (8, 1))[:1500]
    content, headers = binary(many)
    margins = outputs(client.post("/v2/models/three/infer", content=content, headers=headers))["margin"]
    alone = outputs(infer(client, body(matrix[:1])))["margin"]
    assert margins[0] == alone[0]
    assert margins == (outputs(infer(client, body(matrix)))["margin"] * 8)[:1500]


def test_scored_rows_are_counted_and_logged(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path) as subject, patient.client(base_url=subject.url) as http:
        answer = infer(http, body([[2500.5, 1, 1], [10, np.nan, 0]])).json()
        metrics = http.get("/metrics").text
    counted = [line for line in metrics.splitlines() if line.startswith("hotrow_predictions_total")]
    assert sum(float(line.split(" ")[-1]) for line in counted) == 2
    assert (
        'route="/v2/infer",method="POST",code="200"' in metrics.replace(", ", ",") or "/v2/infer" in metrics
    )
    (log,) = (tmp_path / "logs").glob("*.jsonl")
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line["id"] == answer["id"]
    assert line["probabilities"] == answer["outputs"][0]["data"]
    assert line["input"]["rows"] == [ROW | {"owner": 1.0}, {"income": 10.0, "contract": None, "owner": 0.0}]


NUMBERED = Schema(
    [
        Feature("income", "number", minimum=0, maximum=1e6),
        Feature("month", "category", categories=tuple(map(str, range(1, 13)))),
        Feature("rate", "category", categories=("2.5", "0.5", "10.0")),
        Feature("owner", "category", categories=("True", "False")),
        Feature("grade", "category", categories=("C", "B", "A")),
    ]
)
MIXED = Schema(
    [
        Feature("income", "number", minimum=0, maximum=1e6),
        Feature("rooms", "category", categories=("1", "2", "3+")),
        Feature("area", "category", categories=("007", "1e3", "42")),
        Feature("owner", "category", categories=("True", "False", "unknown")),
        Feature("half", "category", categories=("1", "1.0")),
        Feature("grade", "category", categories=("C", "B", "A")),
    ]
)


def assembled(directory: Path, schema: Schema) -> tuple[list[dict[str, Any]], np.ndarray[Any, Any]]:
    """A bundle of these features; its rows, and as they are encoded."""
    rows = sample_rows(schema, 300)
    matrix = np.array([np.frombuffer(schema.encode(row)) for row in rows])
    sums = np.nan_to_num(matrix).sum(axis=1)
    write_conversion(
        directory,
        convert_lightgbm(train(matrix, sums > np.median(sums), schema, 20)),
        schema=schema,
        name="numbered",
        version="1",
        decision=Decision(0.4, "grant", "decline", 5.0, 1.0),
        golden=rows,
    )
    return rows, matrix


def test_category_that_is_a_number_is_sent_as_that_number(tmp_path: Path) -> None:
    """Month 5 is the fifth of twelve, not the sixth: tables of numbers are sent as they were trained on."""
    rows, matrix = assembled(tmp_path / "numbered", NUMBERED)
    numbers = matrix.copy()
    for column, feature in enumerate(NUMBERED.features[1:4], 1):
        spelled = {"True": 1.0, "False": 0.0} if feature.name == "owner" else {}
        for row, code in enumerate(matrix[:, column]):
            if not np.isnan(code):
                text = feature.categories[int(code)]
                numbers[row, column] = spelled[text] if spelled else float(text)
    path = "/v2/models/numbered/infer"
    with serving(tmp_path / "numbered", tmp_path) as subject, patient.client(base_url=subject.url) as client:
        expected = client.post("/predict/batch", json={"rows": rows}).json()["probabilities"]
        content, headers = binary(numbers)
        by_column = [
            {"name": name, "shape": [len(rows)], "datatype": "FP64", "data": _nulls(numbers[:, column])}
            for column, name in enumerate(NUMBERED.names)
        ]
        for answer in (
            infer(client, body(numbers), path),
            client.post(path, content=content, headers=headers),
            infer(client, {"inputs": by_column}, path),
        ):
            assert outputs(answer)["probability"] == expected
        raw = client.post(path, content=numbers[0].tobytes(), headers=OCTETS | {LENGTH: "0"})
        assert outputs(raw)["probability"] == expected[:1]
        for column, beyond in ((1, 0.0), (1, 13.0), (2, 1.0), (3, 2.0)):
            wrong = numbers[:1].copy()
            wrong[0, column] = beyond
            refused = infer(client, body(wrong), path)
            assert refused.status_code == 400
            assert "expected one of" in refused.json()["error"], refused.text


def test_number_that_could_be_a_category_or_its_code_is_refused(tmp_path: Path) -> None:
    """Of "1", "2" and "3+" the number 1 is the first or the second: texts are asked for."""
    rows, matrix = assembled(tmp_path / "numbered", MIXED)
    path = "/v2/models/numbered/infer"
    with serving(tmp_path / "numbered", tmp_path) as subject, patient.client(base_url=subject.url) as client:
        expected = client.post("/predict/batch", json={"rows": rows}).json()["probabilities"]
        texts = [
            {"name": name, "shape": [len(rows)], "datatype": "BYTES", "data": [row.get(name) for row in rows]}
            for name in MIXED.names[1:]
        ]
        income = {"name": "income", "shape": [len(rows)], "datatype": "FP64", "data": _nulls(matrix[:, 0])}
        answer = infer(client, {"inputs": [income, *texts]}, path)
        assert outputs(answer)["probability"] == expected
        for column in range(1, 5):
            for number in (0.0, 1.0, 2.0, 7.0):
                row = np.full((1, len(MIXED)), np.nan)
                row[0, column] = number
                named = {"name": MIXED.names[column], "shape": [1], "datatype": "FP64", "data": [number]}
                octets = client.post(path, content=row.tobytes(), headers=OCTETS | {LENGTH: "0"})
                for refused in (
                    infer(client, body(row), path),
                    infer(client, {"inputs": [named]}, path),
                    octets,
                ):
                    assert refused.status_code == 400, (column, number)
                    assert "as text (BYTES)" in refused.json()["error"], refused.text
        missing = np.full((1, len(MIXED)), np.nan)
        missing[0, 5] = 1.0
        by_name = client.post("/predict", json={"grade": "B"}).json()["probability"]
        assert outputs(infer(client, body(missing), path))["probability"] == [by_name]


def test_truths_stand_for_flags_and_categories_that_are_truths_alone(tmp_path: Path) -> None:
    assembled(tmp_path / "numbered", NUMBERED)
    path = "/v2/models/numbered/infer"
    with serving(tmp_path / "numbered", tmp_path) as subject, patient.client(base_url=subject.url) as client:
        for name in NUMBERED.names:
            truth = {"name": name, "shape": [1], "datatype": "BOOL", "data": [True]}
            answer = infer(client, {"inputs": [truth]}, path)
            if name == "owner":
                expected = client.post("/predict", json={name: True}).json()["probability"]
                assert outputs(answer)["probability"] == [expected]
            else:
                assert answer.status_code == 400
                assert answer.json()["error"].endswith("got BOOL")


def _nulls(column: np.ndarray[Any, Any]) -> list[float | None]:
    return [None if np.isnan(value) else value for value in column.tolist()]
