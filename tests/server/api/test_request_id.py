"""A request's own id comes back, is in its line, and finds it; the answer is the same without."""

import asyncio
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.harness.subject import workers_of
from monitoring.__main__ import main
from monitoring.logs.erasure import erase
from monitoring.logs.subject import ResponseIds
from server.scoring.request_identity import NO_IDENTITY, identity_in, identity_of
from server.wire.head_template import template_of
from tests.support.bundles import ROW
from tests.support.monitored import logged
from tests.support.servers import serving

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
IDS = ["a", 'qu"ote\\', "x" * 128, "7f3e-11", "{}"]
NO_IDS = ["", "x" * 129, "caf\u00e9", "a\tb"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ids")


@pytest.fixture(scope="module")
def client(three: Path, folder: Path) -> Iterator[httpx.Client]:
    """A client of a server with two workers."""
    with (
        serving(three, folder, workers="2") as subject,
        httpx.Client(base_url=subject.url, timeout=60.0) as client,
    ):
        yield client


def sent(
    client: httpx.Client, path: str, id_: str, document: Any = ROW, trace: str = PARENT
) -> httpx.Response:
    headers = {b"X-Request-ID": id_.encode("latin-1"), b"traceparent": trace.encode()}
    headers |= {b"Content-Type": b"application/json"}
    return client.post(path, content=json.dumps(document).encode(), headers=headers)


BODIES: dict[str, Any] = {
    "/predict": ROW,
    "/models/three/predict": ROW,
    "/predict/batch": {"rows": [ROW, ROW]},
    "/explain": ROW,
}


@pytest.mark.parametrize("path", BODIES)
def test_id_of_a_request_comes_back_and_changes_nothing_else(client: httpx.Client, path: str) -> None:
    plain = client.post(path, json=BODIES[path])
    assert "x-request-id" not in plain.headers
    for number, id_ in enumerate(IDS):
        answer = sent(client, path, id_ if number else f"{path}-first", BODIES[path])
        assert answer.status_code == 200, answer.text
        assert answer.headers.get_list("x-request-id") == [id_.strip() if number else f"{path}-first"]
        assert {**answer.json(), "id": ""} == {**plain.json(), "id": ""}
    for id_ in NO_IDS:
        answer = sent(client, path, id_, BODIES[path], trace="00-" + "0" * 32 + "-b7ad6b7169203331-01")
        assert (answer.status_code, "x-request-id" in answer.headers) == (200, False)


def test_refusal_has_the_id_too(client: httpx.Client) -> None:
    answer = sent(client, "/predict", "of-a-refusal", {"income": "much"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (422, "of-a-refusal")


@given(st.text(st.characters(max_codepoint=255), max_size=140), st.text(max_size=60) | st.just(PARENT))
def test_members_are_json_whatever_the_headers_hold(request_id: str, parent: str) -> None:
    found = identity_of(request_id.encode("latin-1"), parent.encode())
    members = orjson.loads(b"{%b}" % found.members[1:])
    assert members.get("request_id", "") == found.request_id.decode()
    assert members.get("trace_id", TRACE) == TRACE
    assert members == {} or found != NO_IDENTITY


def test_first_of_two_ids_counts_wherever_it_is_read() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nX-Request-ID: 1\r\nContent-Length: 3\r\nx-request-id: 2\r\n\r\n"
    template = template_of(head)
    assert template is not None
    assert template.read(head) == (3, identity_in([(b"x-request-id", b"1"), (b"x-request-id", b"2")]))


def test_find_and_erase_know_request_trace_and_both_ids_of_the_protocol(three: Path, tmp_path: Path) -> None:
    with (
        serving(three, tmp_path, log_mode="strict") as subject,
        httpx.Client(base_url=subject.url, timeout=60.0) as alone,
    ):
        sent(alone, "/predict", "one")
        sent(alone, "/predict/batch", "many", {"rows": [ROW, ROW]}, trace="none")
        tensor = {"name": "features", "shape": [1, 3], "datatype": "FP64", "data": [1.0, 0, 0]}
        document = {"id": "own", "inputs": [tensor]}
        answer = sent(alone, "/v2/models/three/infer", "proxy", document, trace="none")
        assert (answer.json()["id"], answer.headers["x-request-id"]) == ("own", "proxy")
    found = {id_: _found(tmp_path, id_) for id_ in ("one", TRACE, "many", "own", "proxy", "on", "three")}
    assert {id_: code for id_, (code, _) in found.items()} == dict.fromkeys(found, 0) | {"on": 3, "three": 3}
    assert found["one"] == found[TRACE]
    assert found["own"] == found["proxy"]
    assert len(found["many"][1][0]["input"]["rows"]) == 2
    erased = erase([tmp_path / "logs"], ResponseIds(["proxy", TRACE]))
    assert (erased.lines, erased.is_complete) == (2, True)
    assert [line["request_id"] for line in logged(tmp_path / "logs")] == ["many"]


def test_find_prints_the_lines_of_a_caller(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    callers = ['"caller":"a"', '"request_id":"a","caller":"b"', '"row_id":"a"', '"caller":"a.b"']
    lines = [f'{{"id":"1-{n}","seq":{n},{caller},"input":{{"x":"a"}}}}\n' for n, caller in enumerate(callers)]
    (tmp_path / "logs/predictions-1-0.jsonl").write_text("".join(lines))
    assert [line["id"] for line in _found(tmp_path, "a", "--caller")[1]] == ["1-0"]
    assert _found(tmp_path, "c", "--caller") == (3, [])


def _found(folder: Path, id_: str, option: str = "--id") -> tuple[int, list[dict[str, Any]]]:
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()):
        code = main(["find", str(folder / "logs"), option, id_])
    return code, [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.whole
def test_every_answered_id_of_64_clients_has_one_line_though_workers_are_killed(
    three: Path, tmp_path: Path
) -> None:
    """10,000 requests; an id is sent once, so a lost answer is not asked for again."""
    answered: list[tuple[str, str]] = []
    with serving(three, tmp_path, workers="2") as subject:
        asyncio.run(_flood(urlsplit(subject.url), answered, [child.pid for child in workers_of(subject.pid)]))
    assert len(answered) > 9_000
    lines = Counter((line["request_id"], line["id"]) for line in logged(tmp_path / "logs"))
    assert {lines[pair] for pair in answered} == {1}
    by_request = Counter(request for request, _ in lines)
    assert {by_request[request] for request, _ in answered} == {1}


async def _flood(url: SplitResult, answered: list[tuple[str, str]], victims: list[int]) -> None:
    ids = iter([f"r-{n}" for n in range(10_000)])
    killed = iter(victims)

    async def client(number: int) -> None:
        path = "/predict" if number % 2 else "/models/three/predict"
        writer = None
        for id_ in ids:
            if number == 0 and len(answered) > 2_000 and (pid := next(killed, None)):
                os.kill(pid, signal.SIGKILL)
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(url.hostname, url.port)
                answered.append((id_, await _answer(reader, writer, id_, path)))
            except (OSError, EOFError, ValueError):  # the worker that had it was killed
                if writer is not None:
                    writer.close()
                writer = None
        if writer is not None:
            writer.close()

    await asyncio.gather(*(client(number) for number in range(64)))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id_: str, path: str) -> str:
    """The `id` of the answer to a row that is sent under this request id."""
    body = orjson.dumps(ROW)
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Request-ID: {id_}\r\n"
    writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body))
    answer = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", answer)[1])  # type: ignore[index]
    content = orjson.loads(await reader.readexactly(length))
    assert b"x-request-id: %b\r\n" % id_.encode() in answer
    return str(content["id"])
