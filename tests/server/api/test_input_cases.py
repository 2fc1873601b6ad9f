"""Every bad input, at every place that takes rows: alone, among good ones, as a tensor and in a file."""

import csv
import socket
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from loadtest.harness.subject import Subject
from tests.support import patient
from tests.support.bundles import ROW
from tests.support.servers import address, exchange, post, run, serving

GOOD = orjson.dumps(ROW)
NESTED = {
    depth: b'{"income":' + b"[" * depth + b"]" * depth + b"}" for depth in (65, 255, 1024, 1025, 100_000)
}

#: Bytes that are no JSON document of their own.
NO_JSON = {
    "empty": b"",
    "blanks": b" \t ",
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16-le"),
    "invalid UTF-8": b'{"contract":"\xff"}',
    "overlong UTF-8": b'{"contract":"\xc0\xaf"}',
    "lone surrogate": b'{"contract":"\\ud800"}',
    "raw control character": b'{"contract":"a\x01"}',
    "trailing bytes": GOOD + b"x",
    "two documents": GOOD + GOOD,
    "trailing comma": GOOD[:-1] + b",}",
    "comment": b"/* row */" + GOOD,
    "single quotes": b"{'income':1}",
    "unclosed": b"[" * 1_000_000,
    "NaN": b'{"income":NaN}',
    "Infinity": b'{"income":-Infinity}',
    "beyond float64": b'{"income":1e400}',
    "leading zero": b'{"income":01}',
    "hexadecimal": b'{"income":0x1}',
    "nested 1025 deep": NESTED[1025],
    "nested 100000 deep": NESTED[100_000],
}
#: JSON that is no row of the model.
NO_ROW = {
    "scalar": b"1",
    "text": b'"income"',
    "array": b"[1,2,3]",
    "null": b"null",
    "boolean for a number": b'{"income":true}',
    "text for a number": b'{"income":"1.5"}',
    "nan as text": b'{"income":"nan"}',
    "blanks around a number": b'{"income":" 7 "}',
    "list for a number": b'{"income":[1]}',
    "object for a number": b'{"income":{"value":1}}',
    "null where a value is required": b'{"income":null}',
    "missing": b"{}",
    "below the range": b'{"income":-1}',
    "above the range": b'{"income":1000000.1}',
    "beyond 64 bits": b'{"income":18446744073709551616}',
    "400 digits": b'{"income":' + b"9" * 400 + b"}",
    "unknown category": b'{"income":1,"contract":"Permanent"}',
    "number for a category": b'{"income":1,"contract":0}',
    "two for a flag": b'{"income":1,"owner":2}',
    "text for a flag": b'{"income":1,"owner":"true"}',
    "fraction for a flag": b'{"income":1,"owner":0.5}',
    "unknown feature": b'{"income":1,"Income":1}',
    "empty name": b'{"income":1,"":1}',
    "nested 65 deep": NESTED[65],
    "nested 255 deep": NESTED[255],
}
CASES = {name: (body, 400) for name, body in NO_JSON.items()} | {
    name: (body, 422) for name, body in NO_ROW.items()
}
#: Those that are about the value of one feature.
VALUES = [n for n, (body, _) in CASES.items() if body.startswith(b'{"income":') and b"," not in body]
#: A parser's limit decides which of both an integer of 400 digits is.
EITHER = {"400 digits"}


@pytest.fixture(scope="module")
def subject(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with serving(three, tmp_path_factory.mktemp("cases"), max_body_bytes="2000000") as subject:
        yield subject


def right(name: str, status: int, expected: int) -> bool:
    return status == expected or (name in EITHER and status in (400, 422))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("headers", [(), ("Connection: keep-alive",)], ids=["fast", "ordinary"])
def test_alone(subject: Subject, name: str, headers: tuple[str, ...]) -> None:
    body, expected = CASES[name]
    problem, good = exchange(subject.url, post("/predict", body, *headers), post("/predict", GOOD))
    assert right(name, problem.status, expected), problem
    assert problem.headers["content-type"] == "application/problem+json"
    assert orjson.loads(problem.body)["status"] == problem.status
    assert good.status == 200


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_among_good_rows(subject: Subject, name: str, kind: str) -> None:
    """One bad row refuses all; a row of a table of lines is named by its line."""
    body, expected = CASES[name]
    if kind == "application/json":
        content = b'{"rows":[%b,%b,%b]}' % (GOOD, body, GOOD)
        if name == "two documents":
            content = content.replace(b"}{", b"} {")
    else:
        content = b"\n".join([GOOD, body, GOOD])
    answer = patient.post(subject.url + "/predict/batch", content=content, headers={"Content-Type": kind})
    if kind != "application/json" and name in ("empty", "blanks"):
        assert answer.status_code == 200  # an empty line is no row
        return
    assert answer.status_code in (400, 422)
    if expected == 422 and name not in EITHER:
        assert answer.status_code == 422
        assert all(error["pointer"].startswith("/rows/1") for error in answer.json()["errors"])


@pytest.mark.parametrize("name", VALUES)
def test_as_a_tensor(subject: Subject, name: str) -> None:
    value = CASES[name][0].removeprefix(b'{"income":').removesuffix(b"}")
    content = b'{"inputs":[{"name":"income","datatype":"FP64","shape":[1],"data":[%b]}]}' % value
    headers = {"Content-Type": "application/json"}
    answer = patient.post(subject.url + "/v2/models/three/infer", content=content, headers=headers)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_in_a_file(three: Path, tmp_path: Path) -> None:
    """A bad row a line, good ones between: the command names every bad one, and can leave them out."""
    # An empty line is no row, and a column that is no feature is carried along.
    # Bytes of no encoding are no matter of one row: the file is problem, by the line.
    beside = {"empty", "blanks", "unknown feature", "empty name", "invalid UTF-8", "overlong UTF-8"}
    names = sorted(set(CASES) - beside)
    lines = [line for name in names for line in (GOOD, CASES[name][0])]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    files = (str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl"), "--model", str(three))
    problem = run("-m", "server.batch", "--nice", "0", *files)
    assert problem.returncode == 1
    assert "Traceback" not in problem.stderr
    assert "line 2" in problem.stderr
    assert not (tmp_path / "out.jsonl").exists()
    assert run("-m", "server.batch", "--nice", "0", *files, "--on-bad-row", "skip").returncode == 0
    with (tmp_path / "out.jsonl.bad.csv").open() as file:
        named = {int(row["line"]) for row in csv.DictReader(file)}
    assert named == {2 * place + 2 for place in range(len(names))}
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == len(names)


def test_a_million_chunks_of_one_byte_end_no_worker(subject: Subject) -> None:
    head = post("/predict", b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    before = psutil.Process(subject.pid).memory_info().rss
    with socket.create_connection(address(subject.url), 60) as connection:
        connection.sendall(head + b"1\r\n \r\n" * 1_000_000 + b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD))
        assert connection.recv(65_536).startswith((b"HTTP/1.1 200", b"HTTP/1.1 413", b"HTTP/1.1 408"))
    assert psutil.Process(subject.pid).memory_info().rss - before < 100 * 2**20
    assert exchange(subject.url, post("/predict", GOOD))[0].status == 200


@pytest.mark.parametrize(
    "kind",
    [
        "application/octet-stream",
        "application/x-python-pickle",
        "application/msgpack",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
    ],
)
def test_other_media_types_are_415_and_name_the_right_one(subject: Subject, kind: str) -> None:
    (answer,) = exchange(subject.url, post("/predict", GOOD, content_type=kind))
    assert (answer.status, answer.headers["accept-post"]) == (415, "application/json")


def test_text_of_clients_is_in_no_header_no_body_and_no_message(three: Path, tmp_path: Path) -> None:
    """Paths, queries, headers and values with a mark: it is in the log's `input` alone."""
    mark, number, other = "canary7d1f", "71234.25", "76,543"
    with serving(three, tmp_path) as subject:
        requests = [
            f"GET /{mark}?{mark} HTTP/1.1\r\nHost: a\r\nX-Client: {mark}\r\n\r\n".encode(),
            f"GET /%0d%0a{mark} HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
            post("/predict", orjson.dumps(ROW | {"contract": mark})),
            post("/predict", orjson.dumps(ROW | {"owner": mark * 1000})),
            post(f"/models/{mark}/predict", GOOD),
            post("/v2/models/three/infer", f'{{"id":"1","inputs":"{mark}"}}'.encode()),
            post(f"/predict?reasons={mark}", GOOD),
            post(f"/predict?reasons=1&language={mark}", GOOD),
            post("/predict/batch", f"income;contract\n{number}\n{other}\n".encode(), content_type="text/csv"),
            post("/predict/batch", f'income,contract\n"{other}",a\n'.encode(), content_type="text/csv"),
        ]
        answers = [answer for request in requests for answer in exchange(subject.url, request)]
        answers += exchange(subject.url, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    said = b"\n".join(str(answer.headers).encode() + answer.body for answer in answers[:-1])
    assert not [text for text in (mark, number, other) if text.encode() in said + answers[-1].body]
    assert [answer.status for answer in answers[-5:-1]] == [422] * 4
    for file in (tmp_path / "server.log", *(tmp_path / "logs").glob("*")):
        assert mark not in file.read_text(), file
