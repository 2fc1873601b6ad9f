"""Decisions looked up by their number: computed again, printed, and looked at by a person. No browser."""

import csv
import html
import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from monitoring.__main__ import main
from server.log.lookup import find_lines
from server.log.reviews import Reviews, erase_reviews
from server.model.bundle import Bundle
from tests.support.bundles import CREDIT, rewritten, sample_rows
from tests.support.pages import JSON, decide, decisions, look, page_client, wait_for_lines
from ui.words.values import texts_of

BUNDLE = Bundle.load(CREDIT)
EXAMPLES = {example["name"]: example["row"] for example in BUNDLE.manifest["examples"]}
LOGIN = (("ann", "secret"),)
BASIC = {"Authorization": "Basic YW5uOnNlY3JldA=="}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def client(logs: Path) -> Iterator[TestClient]:
    with page_client(CREDIT, logs, ui_auth=LOGIN) as opened:
        opened.headers.update(BASIC)
        yield opened


def decided(client: TestClient, name: str = "risky", case: str = "C-17") -> str:
    """The id of a decision on a shipped example, as somebody pressed Decide for it."""
    texts = texts_of(BUNDLE.schema, EXAMPLES[name])
    shown = decide(client, {"turn": 1, "texts": texts, "case": case})["html"]
    return str(shown.split("answer ")[1].split("<")[0])


def ask(client: TestClient, call: str, **asked: Any) -> dict[str, Any]:
    answer = client.post(f"/page/{call}", content=orjson.dumps(asked), headers=JSON)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def text_of(markup: str) -> str:
    plain = html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", markup, flags=re.DOTALL)))
    return re.sub(r"\s+", " ", plain)


def test_a_decision_is_found_by_its_number_and_by_its_case_and_equal_to_the_bit(
    client: TestClient, logs: Path
) -> None:
    id_ = decided(client, case="C-18 é")
    (line,) = wait_for_lines(logs, id_)
    assert (line["user"], line["request_id"], line["source"]) == ("ann", "C-18 é", "page")
    assert 1 <= len(line["reasons"]) <= 4
    for number in (id_, "C-18 é"):
        said = text_of(ask(client, "look-up", number=number)["html"])
        assert "equal to the bit" in said
        assert f"Reference {id_} " in said
        assert ", by ann " in said
        assert f"{len(EXAMPLES['risky'])} of {len(BUNDLE.schema)} inputs known." in said
    assert "identique au bit près" in text_of(ask(client, "look-up", number=id_, language="fr")["html"])


def test_case_number_is_found_as_it_was_typed(client: TestClient, logs: Path) -> None:
    """With marks that nobody sees, as copied from a letter; longer than what is logged; with blanks."""
    for typed in (" C\u202e-2\u200b0\x00 ", "C-21" * 100, "<img src=x>\u2028"):
        id_ = decided(client, case=typed)
        wait_for_lines(logs, id_)
        found = ask(client, "look-up", number=typed)["html"]
        assert f"Reference {id_} " in text_of(found)
        assert "<img" not in found


def test_reasons_are_one_list_on_page_log_record_and_letter(client: TestClient, logs: Path) -> None:
    row = EXAMPLES["risky"]
    id_ = decided(client)
    (line,) = wait_for_lines(logs, id_)
    answered = client.post("/predict?reasons=4", json=row).json()["reasons"]
    assert line["reasons"] == answered
    words = [reason["text"] for reason in answered]
    sheet = decide(client, {"turn": 1, "texts": texts_of(BUNDLE.schema, row), "trial": True})["html"]
    grounds = sheet.partition('<div class="grounds">')[2].partition("</div>")[0]
    listed = re.findall(r"<li[^>]*>([^<]*)</li>", grounds)
    assert [html.unescape(item) for item in listed] == words
    page = ask(client, "reasons", texts=texts_of(BUNDLE.schema, row))["html"]
    assert f"Refused. The principal reasons: {'; '.join(words)}." in text_of(page)
    for kind in ("letter", "record"):
        paper = client.get(f"/page/{kind}", params={"id": id_}).text
        listed = re.findall(r"<li>([^<(]*?)(?: \([A-Z]\d+\))?</li>", paper)
        assert [html.unescape(item) for item in listed[: len(words)]] == words
    french = client.get("/page/letter", params={"id": id_, "language": "fr"}).text
    told = client.post("/predict?reasons=4&language=fr", json=row).json()["reasons"]
    assert all(reason["text"] in html.unescape(french) for reason in told)


def test_reasons_are_the_same_on_page_api_file_letter_and_log_in_random_cases(
    client: TestClient, logs: Path
) -> None:
    """And none where none is given; `REASON_CASES` of them."""
    rows = sample_rows(BUNDLE.schema, int(os.environ.get("REASON_CASES", "25")), seed=5)
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(BUNDLE.schema.names)
    writer.writerows([plain(row.get(name)) for name in BUNDLE.schema.names] for row in rows)
    answer = client.post("/page/many", content=table.getvalue(), headers={"Content-Type": "text/csv"}).json()
    text = answer["header"] + "".join(row["text"] for row in answer["rows"])
    scored = list(csv.DictReader(io.StringIO(text, newline="")))
    explained = 0
    for row, in_file in zip(rows, scored, strict=True):
        texts = texts_of(BUNDLE.schema, row)
        shown = decide(client, {"turn": 1, "texts": texts, "case": "C-17"})["html"]
        id_ = shown.split("answer ")[1].split("<")[0]
        answered = client.post("/predict?reasons=4", json=row).json().get("reasons", [])
        words = [reason["text"] for reason in answered]
        grounds = shown.partition('<div class="grounds">')[2].partition("</div>")[0]
        assert [html.unescape(item) for item in re.findall(r"<li[^>]*>([^<]*)</li>", grounds)] == words
        assert in_file["reasons"] == "; ".join(words)
        letter = client.get("/page/letter", params={"id": id_}).text
        listed = [html.unescape(item) for item in re.findall(r"<li>([^<(]*?)</li>", letter)]
        assert any(listed[i : i + len(words)] == words for i in range(len(listed) + 1))
        assert words or "principal reasons" not in letter
        (line,) = [found.record for found in find_lines(logs, id_)]
        assert line.get("reasons", []) == answered
        explained += bool(words)
    assert 0 < explained < len(rows)


def plain(value: Any) -> Any:
    """As a file has it."""
    return "" if value is None else int(value) if isinstance(value, bool) else value


def test_letter_has_reference_date_decision_rights_and_proof(client: TestClient) -> None:
    id_ = decided(client)
    answer = client.get("/page/letter", params={"id": id_})
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    said = text_of(answer.text)
    files = BUNDLE.manifest["files"]
    for words in (
        f"Reference {id_}",
        "Case C-17",
        "The decision: Refused",
        "ask that a person looks at this decision",
        BUNDLE.label,
        files["model.onnx"][:16],
        files["parity.json"][:16],
        "equal to the bit",
    ):
        assert words in said
    accepted = text_of(client.get("/page/letter", params={"id": decided(client, "safe")}).text)
    assert "The decision: Accepted" in accepted
    assert "principal reasons" not in accepted
    assert "qu'une personne examine" in text_of(
        client.get("/page/letter", params={"id": id_, "language": "fr"}).text
    )


#: Refused, and accepted for a smaller credit or repayment.
NEAR = {
    "EXT_SOURCE_2": 0.41,
    "EXT_SOURCE_3": 0.507,
    "NAME_EDUCATION_TYPE": "Secondary / secondary special",
    "NAME_INCOME_TYPE": "Working",
    "FLAG_DOCUMENT_3": 1,
    "CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean": 0.38,
    "BUREAU_AMT_CREDIT_SUM_OVERDUE_max": 0.0,
    "AMT_INCOME_TOTAL": 135000.0,
    "AMT_CREDIT": 610500.0,
    "AMT_ANNUITY": 32800.0,
    "AGE_YEARS": 48.3,
    "YEARS_EMPLOYED": 7.2,
}


def test_letter_says_what_could_be_changed_as_recourse_does(client: TestClient) -> None:
    letters = []
    for row in (NEAR, EXAMPLES["risky"], EXAMPLES["safe"]):
        shown = decide(client, {"turn": 1, "texts": texts_of(BUNDLE.schema, row)})["html"]
        id_ = str(shown.split("answer ")[1].split("<")[0])
        letters.append(text_of(client.get("/page/letter", params={"id": id_}).text))
    near, risky, safe = letters
    proposals = client.post("/recourse", json=NEAR).json()["proposals"]
    assert proposals
    for proposal in proposals:
        assert "; ".join(change["text"] for change in proposal["changes"]) in near
    assert "It is no promise" in near
    assert "Nothing that can be changed leads to the decision “Accepted”. Tried, alone and two" in risky
    assert "What you could change" not in safe


def test_letter_that_rests_on_a_protected_characteristic_says_that_it_must_not_be_sent(
    tmp_path: Path,
) -> None:
    features = orjson.loads((CREDIT / "bundle.json").read_bytes())["features"]
    for feature in features:
        feature["protected"] = feature["name"] == "EXT_SOURCE_2"
    with page_client(rewritten(CREDIT, tmp_path / "protected", features=features), tmp_path) as opened:
        said = {
            name: text_of(opened.get("/page/letter", params={"id": decided(opened, name)}).text)
            for name in ("risky", "safe")
        }
    assert "Not to be sent: a protected characteristic is among the reasons." in said["risky"]
    assert "Not to be sent" not in said["safe"]


def test_letter_of_what_the_policy_decided_says_so_and_what_is_needed(client: TestClient) -> None:
    """The score's reasons are not told as those of a decision that it did not make."""
    texts = {"AMT_INCOME_TOTAL": "172400", "AGE_YEARS": "21.6", "AMT_CREDIT": "1069300"}
    shown = decide(client, {"turn": 1, "texts": texts | {"CODE_GENDER": "2"}})["html"]
    id_ = str(shown.split("answer ")[1].split("<")[0])
    letter = text_of(client.get("/page/letter", params={"id": id_}).text)
    assert "Incomplete . It follows from rules that stand beside a statistical model." in letter
    assert "Needed: External score 3, at least 7 of 13 inputs." in letter
    assert "What the model counted against it" in letter
    french = text_of(client.get("/page/letter", params={"id": id_, "language": "fr"}).text)
    assert "Il faut : Score externe 3, au moins 7 données sur 13." in french
    record = client.get("/page/record", params={"id": id_}).text
    assert "Gender" not in record.partition("<table>")[2].rpartition("</table>")[0]
    assert "Asked for and never scored: Gender: Female." in text_of(record)
    why = text_of(ask(client, "reasons", texts=texts)["html"])
    assert re.search(
        r"Incomplete\. Too little is known .* inputs\. The principal reasons of the score: ", why
    )


def test_each_decision_of_a_policy_is_counted_by_its_own_name(client: TestClient) -> None:
    little = {"AMT_INCOME_TOTAL": 172_400, "AGE_YEARS": 21.6, "AMT_CREDIT": 1_069_300}
    for row, name in ((EXAMPLES["safe"], "accept"), (EXAMPLES["risky"], "refuse"), (little, "incomplete")):
        before = {other: decisions(client, other) for other in BUNDLE.outcomes}
        assert client.post("/predict", json=row).json()["decision"] == name
        after = {other: decisions(client, other) for other in BUNDLE.outcomes}
        assert after == before | {name: before[name] + 1}


def test_a_row_of_a_batch_has_a_record_too(client: TestClient, logs: Path) -> None:
    rows = {"rows": [EXAMPLES["safe"], EXAMPLES["risky"]]}
    batch = client.post("/predict/batch", json=rows["rows"]).json()
    wait_for_lines(logs, batch["id"])
    said = text_of(client.get("/page/letter", params={"id": f"{batch['id']}/1"}).text)
    assert "The decision: Refused" in said
    assert "The principal reasons" in said  # computed from the same row: the line has none
    assert client.get("/page/letter", params={"id": f"{batch['id']}/2"}).status_code == 404


def test_rows_of_a_batch_of_several_lines_are_called_by_their_place_in_it(
    client: TestClient, logs: Path
) -> None:
    rows = [EXAMPLES["safe"], EXAMPLES["risky"]] * 200
    id_ = client.post("/predict/batch", json=rows).json()["id"]
    assert wait_for_lines(logs, f"{id_}.1")
    shown = re.findall(r'data-id="([^"]*)"', ask(client, "look-up", number=id_)["html"])
    assert shown == [f"{id_}/{i}" for i in range(20)]
    for one in (shown[-1], f"{id_}/399"):
        assert f"Reference {one} " in text_of(client.get("/page/record", params={"id": one}).text)
    for place in (0, 1, 255, 398, 399):
        (found,) = find_lines(logs, f"{id_}/{place}")
        assert [found.record["input"]["rows"][row] for row in found.rows] == [rows[place]]


def test_a_person_decides_otherwise_with_a_reason_and_is_counted(client: TestClient) -> None:
    id_ = decided(client)
    assert "a reason" in ask(client, "review", of=id_, decision="accept")["problem"]
    assert "expected a decision" in ask(client, "review", of=id_, decision="<b>", reason="x")["problem"]
    assert "expected the id" in ask(client, "person", of="nobody-1")["problem"]
    assert "Looked at" not in ask(client, "person", of=id_)["html"]
    nothing = "expected a reason or a note, got neither"
    assert ask(client, "review", of=id_, decision="refuse", note=" ")["problem"] == nothing
    assert "expected the id" in ask(client, "review", of="nobody-1", decision="accept", reason="x")["problem"]
    hostile = "Pays <script>alert(1)</script> on time.\x00\n"
    shown = ask(client, "review", of=id_, decision="accept", reason=hostile, note="Called at noon.")["html"]
    assert "<script" not in shown
    said = text_of(shown)
    assert "ann: Accepted . Pays <script>alert(1)</script> on time." in said
    assert "Called at noon." in said
    assert "ann: Accepted . Pays <script>" in text_of(ask(client, "person", of=id_)["html"])
    letter = text_of(client.get("/page/letter", params={"id": id_}).text)
    assert "A person has looked at your application. The decision: Accepted" in letter
    assert "Called at noon" not in letter  # a note is for the file
    other = decided(client)
    ask(client, "review", of=other, decision="refuse", note="Right.")
    assert "Looked at by a person: 2. Decided otherwise: 1" in text_of(look(client))


@pytest.mark.parametrize(
    "number", ["", " ", "nobody-1", '"', "\ud800", "x" * 10_000, None, {"a": 1}, "../x/1"]
)
def test_a_number_of_nothing_finds_nothing(client: TestClient, number: Any) -> None:
    content = b'{"number":"\\ud800"}' if number == "\ud800" else orjson.dumps({"number": number})
    answer = client.post("/page/look-up", content=content, headers=JSON).json()
    assert "No decision of this number" in answer["html"]
    if isinstance(number, str) and number != "\ud800":
        assert client.get("/page/letter", params={"id": number}).status_code == 404


def test_a_line_that_was_changed_is_told_and_a_hidden_field_too(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    with page_client(CREDIT, logs, log_mask=(("AGE_YEARS", "drop"),)) as client:
        id_ = decided(client)
        wait_for_lines(logs, id_)
        said = text_of(ask(client, "look-up", number=id_)["html"])
        assert "the log hides AGE_YEARS" in said
        assert "equal to the bit" not in said
    with page_client(CREDIT, tmp_path / "again") as client:
        (path,) = logs.glob("*.jsonl")
        line = orjson.loads(path.read_bytes()) | {"input": EXAMPLES["risky"], "probability": 0.5}
        (tmp_path / "again" / "old.jsonl").write_bytes(orjson.dumps(line) + b"\n" + b'{"id": "x"}\n{"half')
        said = text_of(ask(client, "look-up", number=id_)["html"])
        assert "Computed again: DIFFERENT. Logged 0.5 (refuse), now 0." in said
        (tmp_path / "again" / "old.jsonl").write_bytes(orjson.dumps(line | {"model": "other@1"}) + b"\n")
        assert "one of other@1" in ask(client, "look-up", number=id_)["problem"]


def test_lines_are_found_across_files_and_steps(tmp_path: Path) -> None:
    lines = [
        orjson.dumps({"id": f"a-{i}", "seq": i, "request_id": f"c/{i % 3}", "model": "m@1", "input": {}})
        for i in range(50)
    ]
    (tmp_path / "one.jsonl").write_bytes(b"\n".join(lines[:20]) + b"\n")
    (tmp_path / "two.jsonl").write_bytes(b"\n".join(lines[20:]))
    (tmp_path / "empty.jsonl").write_bytes(b"")
    for i in (0, 19, 20, 49):
        assert [found.record["seq"] for found in find_lines(tmp_path, f"a-{i}")] == [i]
    assert len(find_lines(tmp_path, "c/1")) == 17
    assert len(find_lines(tmp_path, "c/1", 5)) == 5
    assert find_lines(tmp_path, "a-") == find_lines(tmp_path, "a-99") == []
    assert find_lines(tmp_path / "nowhere", "a-1") == []


def test_reviews_outlive_half_a_line_and_can_be_taken_out(tmp_path: Path) -> None:
    reviews = Reviews(tmp_path, "page-7860")
    assert reviews.all() == []
    for number in range(3):
        reviews.add({"of": f"a-{number}", "decision": "accept"})
    with reviews.path.open("ab") as file:
        file.write(b'{"of": "half')
    assert [review["of"] for review in reviews.all()] == ["a-0", "a-1", "a-2"]
    with reviews.path.open("rb") as opened_before:
        assert erase_reviews(tmp_path, {"a-1"}) == 1
        assert opened_before.read().count(b"\n") == 3, (
            "another file takes its place: no moment has half of it"
        )
    assert [review["of"] for review in reviews.all()] == ["a-0", "a-2"]
    assert [path.name for path in tmp_path.iterdir()] == [reviews.path.name]


def test_find_computes_a_line_again_and_erase_takes_its_reviews(
    client: TestClient, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    id_, other = decided(client), decided(client, "safe")
    for of in (id_, other):
        ask(client, "review", of=of, decision="refuse", reason="x")
    wait_for_lines(logs, other)
    assert main(["find", str(logs), "--id", id_]) == 0
    printed = capsys.readouterr()
    assert orjson.loads(printed.out)["id"] == id_
    assert f"{id_}: computed again with {BUNDLE.label}: equal to the bit" in printed.err
    rows = [{**EXAMPLES["safe"], "id": f"row-{i}"} for i in range(3)]
    batch = client.post("/predict/batch", json={"rows": rows}).json()["id"]
    wait_for_lines(logs, batch)
    assert main(["find", str(logs), "--id", "row-2"]) == 0
    assert f"{batch}/2: computed again with {BUNDLE.label}: equal to the bit" in capsys.readouterr().err
    copy = tmp_path / "copy"
    shutil.copytree(logs, copy)
    (path,) = copy.glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"probability":0.', b'"probability":0.1'))
    main(["find", str(copy), "--id", id_])
    assert "DIFFERENT: logged 0.1" in capsys.readouterr().err
    (reviews,) = copy.glob("*.reviews.ndjson")
    assert id_ in reviews.read_text()
    main(["erase", str(copy), "--id", id_])
    assert id_ not in reviews.read_text()
    assert other in reviews.read_text()
