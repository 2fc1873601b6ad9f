"""`POST /outcomes`: what became of decisions, written down by a program."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from server.access.keys import new_key
from server.api.app import create_app
from server.outcomes.store import outcome_files
from server.scoring.service import open_service
from server.settings import Settings

OUTCOME = {"id": "000000000000-1", "outcome": 1}


@pytest.fixture
def client(three: Path, tmp_path: Path) -> Iterator[TestClient]:
    """A server that takes outcomes, asked with the key of one who may send these alone."""
    made = [new_key("desk", "outcomes"), new_key("shop", "score")]
    (tmp_path / "keys").write_text("".join(line for _, line in made))
    (tmp_path / "keys").chmod(0o600)
    settings = Settings(
        model=(three,),
        log_dir=tmp_path / "logs",
        keys_file=tmp_path / "keys",
        outcomes=True,
        max_batch_rows=9,
    )
    with TestClient(create_app(open_service(settings)), headers={"X-API-Key": made[0][0]}) as client:
        client.headers["X-Other"] = made[1][0]
        yield client


def kept(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for file in outcome_files([folder]) for line in file.read_bytes().splitlines()]


def send(client: TestClient, kind: str, content: str | bytes) -> Any:
    return client.post("/outcomes", content=content, headers={"Content-Type": kind})


def test_outcomes_of_each_form_are_written_with_their_caller(client: TestClient, tmp_path: Path) -> None:
    forms = [
        ("application/json", orjson.dumps(OUTCOME | {"at": "2026-03-01T14:00+02:00"}), 1),
        ("application/json", b'[{"row_id": 7, "outcome": 0}, {"request_id": "r", "outcome": null}]', 2),
        (
            "application/x-ndjson",
            b'{"trace_id": "t", "outcome": true}\n\n{"id": "a-1/0", "outcome": "no"}\n',
            2,
        ),
        ("text/csv", "\ufeffROW_ID;Outcome;at;Betrag\r\n007;1;30.03.2026;1,5\r\n8;0;;2\r\n".encode(), 2),
        ("application/json", orjson.dumps(OUTCOME), 1),  # twice
    ]
    for kind, content, count in forms:
        answer = send(client, kind, content)
        assert (answer.status_code, answer.json()) == (200, {"outcomes": count}), answer.text
    lines = kept(tmp_path / "logs")
    assert {line["caller"] for line in lines} == {"desk"}
    assert [line.get("row_id") for line in lines if "row_id" in line] == ["7", "007", "8"]
    assert lines[0]["at"] == "2026-03-01T12:00:00.000000Z"
    assert [line["outcome"] for line in lines] == [1, 0, None, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("kind", "content", "status", "words"),
    [
        ("application/json", '{"id": "a", "outcome": 2}', 422, "/0/outcome"),
        ("application/json", '[{"id": "a", "outcome": 1}, {"outcome": 1}]', 422, "one of id, request_id"),
        ("application/json", '{"id": "a", "outcome": 1, "at": "2199-01-01"}', 422, "in the future"),
        ("application/json", '{"id": "a", "outcome": 1, "at": "3/4/2026"}', 422, "not told apart"),
        ("application/json", '{"id": "a", "outcome": 1, "secret": 1}', 422, "no such member"),
        ("application/json", "[" + ",".join(['{"id": "a", "outcome": 1}'] * 10) + "]", 422, "9"),
        ("application/json", "[]", 422, ""),
        ("application/json", "[1]", 422, ""),
        ("application/json", '{"id": "a"', 400, ""),
        ("application/x-ndjson", '{"id": "a", "outcome": 1}\n{"id"\n', 400, "line 2"),
        ("text/csv", "income,outcome\n1,1\n", 422, "columns"),
        ("text/csv", "row_id,outcome\n1,1,2\n", 422, "line 2"),
        ("text/csv", "row_id,outcome\n1,maybe\n", 422, "line 2"),
        ("text/plain", "1", 415, ""),
    ],
)
def test_what_is_no_outcome_is_refused_whole(
    client: TestClient, tmp_path: Path, kind: str, content: str, status: int, words: str
) -> None:
    answer = send(client, kind, content)
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert "maybe" not in answer.text
    assert kept(tmp_path / "logs") == []


def test_other_keys_may_not_and_a_server_that_was_not_asked_to_does_not(
    client: TestClient, three: Path, tmp_path: Path
) -> None:
    other = client.post("/outcomes", json=OUTCOME, headers={"X-API-Key": client.headers["X-Other"]})
    assert other.status_code == 403
    with TestClient(create_app(open_service(Settings(model=(three,), log_dir=tmp_path / "other")))) as off:
        refused = off.post("/outcomes", json=OUTCOME)
    assert (refused.status_code, "HOTROW_OUTCOMES=on" in refused.text) == (501, True)
    settings = Settings(model=(three,), log_mode="off", outcomes=True)
    with TestClient(create_app(open_service(settings))) as none:
        assert none.post("/outcomes", json=OUTCOME).status_code == 409
