"""`POST /predict` and the routes beside it, at the bytes, through both paths."""

import http.client
import math
from pathlib import Path

import orjson
import pytest

from server.model.bundle import Bundle
from tests.support.bundles import ROW
from tests.support.servers import RawResponse, address, exchange, post, serving


@pytest.fixture(params=["server", "asgi_server"])
def way(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


def predict(url: str, body: bytes, **options: str) -> RawResponse:
    (answer,) = exchange(url, post("/predict", body, **options))
    return answer


def get(url: str, path: str, method: str = "GET") -> RawResponse:
    (answer,) = exchange(url, f"{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    return answer


def pointers(answer: RawResponse) -> set[str]:
    return {error["pointer"] for error in orjson.loads(answer.body)["errors"]}


def test_answer_has_the_members_of_the_contract(way: str) -> None:
    answer = predict(way, orjson.dumps(ROW))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    document = orjson.loads(answer.body)
    assert list(document) == ["id", "probability", "decision", "model"]
    assert 0.0 < document["probability"] < 1.0
    assert document["decision"] == ("grant" if document["probability"] < 0.4 else "decline")


def test_ids_are_unique(way: str) -> None:
    answers = exchange(way, post("/predict", orjson.dumps(ROW)) * 50)
    assert len({orjson.loads(answer.body)["id"] for answer in answers}) == 50


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"income": "12"}, {"/income"}),
        ({"income": "nan"}, {"/income"}),
        ({"income": True}, {"/income"}),
        ({"income": 1e7}, {"/income"}),
        ({"income": -1}, {"/income"}),
        ({"income": None}, {"/income"}),
        ({"contract": "freelance"}, {"/contract"}),
        ({"contract": 1}, {"/contract"}),
        ({"owner": 2}, {"/owner"}),
        ({"SK_ID_CURR": 100001}, {"/SK_ID_CURR"}),
        ({"income": [], "contract": {}, "owner": "yes", "x": 1}, {"/income", "/contract", "/owner", "/x"}),
    ],
)
def test_bad_field_is_422_and_named(way: str, changes: dict[str, object], named: set[str]) -> None:
    answer = predict(way, orjson.dumps(ROW | changes))
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert pointers(answer) == named


def test_missing_required_field_is_422_and_named(way: str) -> None:
    answer = predict(way, b'{"owner":1}')
    assert (answer.status, pointers(answer)) == (422, {"/income"})


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"{", 400), (b"income=1", 400), (b"[1]", 422), (b"7", 422)]
)
def test_body_that_is_no_object(way: str, body: bytes, status: int) -> None:
    answer = predict(way, body)
    assert answer.status == status
    assert orjson.loads(answer.body)["detail"].startswith("expected a JSON object")


def test_body_over_the_limit_is_413_and_closes(way: str) -> None:
    answer = predict(way, b'{"income":1,"x":"' + b"x" * 2_000_000 + b'"}')
    assert answer.status == 413
    assert answer.headers["connection"] == "close"


def test_chunked_body_over_the_limit_is_413(way: str) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    answer = exchange(way, head + chunk * 17 + b"0\r\n\r\n")[0]
    assert answer.status == 413


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_other_media_type_is_415(way: str, content_type: str | None) -> None:
    (answer,) = exchange(way, post("/predict", orjson.dumps(ROW), content_type=content_type))
    assert answer.status == 415
    assert answer.headers["accept-post"] == "application/json"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf8",
        'application/json; charset="UTF-8"',
        "application/json;charset=US-ASCII;x=y",
        "text/json",
        "application/vnd.acme.v1+json",
        "Application/LD+JSON; profile=x",
    ],
)
def test_json_by_another_name_is_json(way: str, content_type: str) -> None:
    (answer,) = exchange(way, post("/predict", orjson.dumps(ROW), content_type=content_type))
    assert answer.status == 200


def test_other_charset_is_told_from_another_media_type(way: str) -> None:
    for content_type, words in (
        ("application/json; charset=latin-1", b"charset"),
        ("text/html", b"media type"),
    ):
        (answer,) = exchange(way, post("/predict", orjson.dumps(ROW), content_type=content_type))
        assert (answer.status, words in answer.body) == (415, True)


def test_body_of_an_unknown_coding_is_415(way: str) -> None:
    (answer,) = exchange(way, post("/predict", b"x", "Content-Encoding: br"))
    assert answer.status == 415


def test_unknown_path_is_404_and_wrong_method_405(way: str) -> None:
    assert get(way, "/nothing").status == 404
    answer = get(way, "/predict")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    for problem in (answer, get(way, "/nothing")):
        assert problem.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail"} <= set(orjson.loads(problem.body))


def test_health(way: str) -> None:
    assert get(way, "/livez").status == 200
    assert get(way, "/readyz").status == 200
    connection = http.client.HTTPConnection(*address(way))
    connection.request("HEAD", "/livez")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.close()


def test_model_tells_schema_threshold_and_parity_report(way: str, three: Path) -> None:
    document = orjson.loads(get(way, "/model").body)
    assert document["name"] == "three"
    assert document["decision"]["threshold"] == 0.4
    assert [feature["name"] for feature in document["features"]] == ["income", "contract", "owner"]
    assert document["parity"]["exact"] is True
    assert document["files"] == Bundle.load(three).manifest["files"]


def test_metrics_count_what_was_answered(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path) as subject:
        exchange(subject.url, post("/predict", orjson.dumps(ROW)) * 7)
        for _ in range(3):
            predict(subject.url, orjson.dumps(ROW))
        for _ in range(5):
            predict(subject.url, b"{}")
        page = get(subject.url, "/metrics").body.decode()
    samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    decided = [float(v) for k, v in samples.items() if k.startswith("hotrow_predictions_total")]
    assert sum(decided) == 10
    durations = 'hotrow_request_duration_seconds_count{code="%s",method="POST",route="/predict"}'
    assert float(samples[durations % "200"]) == 10
    assert float(samples[durations % "422"]) == 5
    assert float(samples['hotrow_probability_count{model="three@1"}']) == 10


@pytest.mark.parametrize("fast_path", ["on", "off"])
def test_every_answer_has_its_log_line(three: Path, tmp_path: Path, fast_path: str) -> None:
    with serving(three, tmp_path, fast_path=fast_path) as subject:
        answers = [predict(subject.url, orjson.dumps(ROW | {"income": i})) for i in range(20)]
        predict(subject.url, b"{}")
        predict(subject.url, b'{\n"income":\r\n5}')
    (file,) = (tmp_path / "logs").glob("*.jsonl")
    lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, 22))
    for line, answer in zip(lines, answers, strict=False):
        document = orjson.loads(answer.body)
        assert {name: line[name] for name in document} == document
    assert [line["input"]["income"] for line in lines] == [*range(20), 5]
    assert all(line["duration_us"] > 0 and line["rss_mb"] > 0 for line in lines)


def test_strict_log_is_written_before_the_answer(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, log_mode="strict") as subject:
        answer = predict(subject.url, orjson.dumps(ROW))
        (file,) = (tmp_path / "logs").glob("*.jsonl")
        line = orjson.loads(file.read_bytes())
        assert line["id"] == orjson.loads(answer.body)["id"]


def test_log_can_be_off(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, log_mode="off") as subject:
        assert predict(subject.url, orjson.dumps(ROW)).status == 200
    assert not (tmp_path / "logs").exists()


def test_probability_parses_back_to_the_same_bits(server: str, three: Path) -> None:
    bundle = Bundle.load(three)
    for golden in list(bundle.golden_rows())[:50]:
        answer = orjson.loads(predict(server, orjson.dumps(golden.fields)).body)
        assert answer["probability"] == 1.0 / (1.0 + math.exp(-golden.margins[0]))
