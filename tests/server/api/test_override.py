"""`POST /decisions/{id}/override`: what a person decided after the model, written down by a program."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from starlette.testclient import TestClient

from monitoring.__main__ import main
from server.access.keys import new_key
from server.api.app import create_app
from server.log.lookup import find_answer
from server.log.reviews import reviews_in
from server.scoring.service import open_service
from server.settings import Settings
from tests.support.bundles import ROW
from tests.support.pages import wait_for_lines

OTHER = {"grant": "decline", "decline": "grant"}


class Office(NamedTuple):
    """A server with keys: `desk` may override alone."""

    client: TestClient
    logs: Path
    desk: dict[str, str]

    def decided(self, rows: int = 0) -> dict[str, Any]:
        """An answer, or one to a batch, whose line is written."""
        path, body = ("/predict/batch", {"rows": [ROW] * rows}) if rows else ("/predict", ROW)
        answer: dict[str, Any] = self.client.post(path, json=body).json()
        assert wait_for_lines(self.logs, answer["id"])
        return answer

    def override(self, id_: str, given: Any, **more: Any) -> Any:
        return self.client.post(f"/decisions/{id_}/override", json=given, headers=self.desk, **more)


@pytest.fixture(scope="module")
def office(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    made = [new_key("all", "admin"), new_key("desk", "override")]
    (folder / "keys").write_text("".join(line for _, line in made))
    (folder / "keys").chmod(0o600)
    settings = Settings(model=(three,), log_dir=folder / "logs", keys_file=folder / "keys")
    with TestClient(create_app(open_service(settings)), headers={"X-API-Key": made[0][0]}) as client:
        yield Office(client, folder / "logs", {"X-API-Key": made[1][0]})


def test_a_decision_is_written_down_with_its_caller_and_found_again(
    office: Office, three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = office.decided()
    other = OTHER[answer["decision"]]
    given = {"decision": other, "reason": " Seen\u202e at\nnoon.\x00 ", "note": "é <b>", "user": "ann"}
    written = office.override(answer["id"], given)
    assert written.status_code == 200, written.text
    review = written.json()
    assert review["ts"].endswith("+00:00")
    assert {name: value for name, value in review.items() if name != "ts"} == {
        "of": answer["id"],
        "by_model": answer["decision"],
        "decision": other,
        "reason": "Seen atnoon.",
        "note": "é <b>",
        "user": "ann",
        "caller": "desk",
    }
    assert review in reviews_in(office.logs)
    again = office.override(answer["id"], {"decision": answer["decision"], "reason": "No."}).json()
    assert (again["user"], again["caller"]) == ("desk", "desk")
    assert main(["find", str(office.logs), "--id", answer["id"], "--model", str(three)]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert (found["id"], found["reviews"]) == (answer["id"], [review, again])


def test_a_row_of_a_batch_is_called_by_its_place_however_many_lines_it_takes(
    office: Office, three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    id_ = office.decided(rows=1500)["id"]
    assert wait_for_lines(office.logs, f"{id_}.1")
    for row in (0, 1499):
        review = office.override(f"{id_}/{row}", {"decision": "grant", "reason": "x"}).json()
        assert review["of"] == f"{id_}/{row}"
    assert office.override(f"{id_}/1500", {"decision": "grant", "reason": "x"}).status_code == 404
    whole = office.override(id_, {"decision": "grant", "reason": "x"})
    assert (whole.status_code, f"like {id_}/0" in whole.json()["detail"]) == (422, True)
    assert main(["find", str(office.logs), "--id", id_, "--model", str(three)]) == 0
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["of"] for line in lines for r in line.get("reviews", ())] == [f"{id_}/0", f"{id_}/1499"]


@pytest.mark.parametrize(
    ("given", "pointers"),
    [
        ({}, ["/decision", "/reason"]),
        ({"decision": "refuse", "reason": "x"}, ["/decision"]),
        ({"decision": "", "reason": "x"}, ["/decision"]),
        ({"decision": "grant"}, ["/reason"]),
        ({"decision": "grant", "reason": " \t\u200b"}, ["/reason"]),
        ({"decision": "grant", "reason": 7}, ["/reason"]),
        ({"decision": ["grant"], "reason": None}, ["/decision", "/reason"]),
        ({"decision": "grant", "reason": "x" * 501}, ["/reason"]),
        ({"decision": "grant", "reason": "x", "note": "y" * 2001}, ["/note"]),
        ({"decision": "grant", "reason": "x", "caller": "eve"}, ["/caller"]),
    ],
)
def test_every_bad_member_is_named_and_nothing_written(
    office: Office, given: Any, pointers: list[str]
) -> None:
    before = reviews_in(office.logs)
    refused = office.override(office.decided()["id"], given)
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == pointers
    assert reviews_in(office.logs) == before


def test_what_is_no_answer_of_the_log_is_404_and_what_is_no_body_says_so(office: Office) -> None:
    right = {"decision": "grant", "reason": "x"}
    id_ = office.decided()["id"]
    for unknown in ("nobody", "000000000000-1", f"{id_}/0/1", f"{id_}/x", "..%2f..%2fetc", "%00", "a" * 4000):
        assert office.override(unknown, right).status_code == 404, unknown
    path = f"/decisions/{id_}/override"
    assert office.client.post(path, content=b"{", headers=office.desk).status_code == 415
    sent = {**office.desk, "Content-Type": "application/json"}
    statuses = {b"": 400, b"{": 400, b"[]": 422, b'{"decision":"\\ud800"}': 400, b" " * 16_385: 413}
    for body, status in statuses.items():
        assert office.client.post(path, content=body, headers=sent).status_code == status, body[:30]
    assert office.client.get(path).status_code == 405


def test_what_a_client_calls_its_request_is_no_id_and_hides_none(office: Office) -> None:
    id_ = office.decided()["id"]
    named = {"X-Request-Id": id_}
    later = office.client.post("/predict", json=ROW, headers=named).json()["id"]
    assert wait_for_lines(office.logs, later)
    found = find_answer(office.logs, id_)
    assert found is not None
    assert found.record["id"] == id_
    assert office.override(id_, {"decision": "grant", "reason": "x"}).json()["of"] == id_


def test_without_a_log_it_says_so(three: Path, office: Office, tmp_path: Path) -> None:
    with TestClient(
        create_app(open_service(Settings(model=(three,), log_dir=tmp_path, log_mode="off")))
    ) as none:
        refused = none.post("/decisions/000000000000-1/override", json={"decision": "grant", "reason": "x"})
    assert (refused.status_code, "HOTROW_LOG_MODE=off" in refused.json()["detail"]) == (409, True)
