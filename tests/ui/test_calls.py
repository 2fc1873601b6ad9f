"""What the tabs of the page ask for: cases supposed, explained, turned, and many at once. No browser."""

import csv
import html
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from server.model.bundle import Bundle
from server.model.schema import Feature
from tests.support.bundles import CREDIT, compared_rows, sample_rows
from tests.support.export_models import lightgbm_bundle
from tests.support.pages import JSON, decide, decisions, look, page_client, wait_for_lines
from ui.tabs.work_list import Groups
from ui.words.policy import Because
from ui.words.values import texts_of
from ui.words.wording import Wording, decided, percents

pytestmark = pytest.mark.whole

CREDIT_BUNDLE = Bundle.load(CREDIT)
SCHEMA, LIMIT = CREDIT_BUNDLE.schema, CREDIT_BUNDLE.decision.threshold
#: What a verdict is called, and what its policy says.
HEADINGS = {name: words.en for name, words in decided(CREDIT_BUNDLE, Wording.of(CREDIT_BUNDLE)).items()}
BECAUSE = {name: words.en for name, words in Because(CREDIT_BUNDLE).words.items()}
RISKY = next(e["row"] for e in CREDIT_BUNDLE.manifest["examples"] if e["name"] == "risky")
HOSTILE = ("<script>alert(1)</script>", "9" * 10_000, "=HYPERLINK('http://x')")
CSV = {"Content-Type": "text/csv"}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def client(logs: Path) -> Iterator[TestClient]:
    with page_client(CREDIT, logs) as opened:
        yield opened


def ask(client: TestClient, call: str, texts: Any) -> dict[str, Any]:
    """A call of the page's scripts about a form."""
    answer = client.post(f"/page/{call}", content=json.dumps({"texts": texts}), headers=JSON)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def words_of(markup: str) -> str:
    """The English of some markup."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", markup))).replace(
        "\N{NO-BREAK SPACE}", " "
    )


def answer_in(markup: str) -> dict[str, Any]:
    """The answer that a decision offers for sharing."""
    found = re.search(r'data-block="answer">(.*?)</pre>', markup, re.DOTALL)
    assert found is not None
    document: dict[str, Any] = json.loads(html.unescape(found[1]))
    return document


def test_decision_shown_is_that_of_predict_in_random_cases(client: TestClient) -> None:
    for row in sample_rows(SCHEMA, int(os.environ.get("PAGE_CASES", "300")), seed=11):
        texts = texts_of(SCHEMA, row)
        answer = client.post("/predict", json=row).json()
        shown = decide(client, {"turn": 1, "texts": texts})["html"]
        document = answer_in(shown)
        assert document["probability"] == answer["probability"]
        assert document["decision"] == answer["decision"]
        heading = HEADINGS[answer["decision"]]
        assert f">{heading}</h2>" in shown
        assert f">{heading}</h2>" in ask(client, "what-if", texts)["html"]


@pytest.mark.parametrize("feature", SCHEMA.features, ids=lambda feature: str(feature.name))
def test_hostile_texts_change_nothing_but_an_error_beside_their_field(
    client: TestClient, feature: Feature
) -> None:
    for hostile in HOSTILE:
        texts = {**texts_of(SCHEMA, RISKY), feature.name: hostile}
        before = decisions(client, "refuse")
        shown = decide(client, {"turn": 1, "texts": texts})
        assert set(shown["errors"]) == {feature.name}
        assert hostile not in shown["html"]
        assert "<script" not in shown["html"]
        assert "Not decided" in shown["html"]
        supposed = ask(client, "what-if", texts)
        assert supposed["whole"] is False
        assert hostile not in supposed["html"]
        assert decisions(client, "refuse") == before


def test_a_supposition_is_neither_counted_nor_logged(client: TestClient, logs: Path) -> None:
    texts = texts_of(SCHEMA, RISKY)
    before = decisions(client, "refuse")
    for call in ("what-if", "flip", "reasons", "changes"):
        assert ask(client, call, texts)["html"]
    assert decisions(client, "refuse") == before
    # The next decision has the next number: nothing in between was logged.
    numbers = [answer_in(decide(client, {"turn": 1, "texts": texts})["html"])["id"] for _ in range(2)]
    first, second = (int(number.rpartition("-")[2]) for number in numbers)
    assert second == first + 1
    assert wait_for_lines(logs, numbers[1])


def test_reasons_are_the_models_and_at_most_four_are_principal(client: TestClient) -> None:
    shown = ask(client, "reasons", texts_of(SCHEMA, RISKY))["html"]
    said = words_of(shown)
    assert "Refused. The principal reasons: " in said
    assert 1 <= shown.count("principal reason</span>") <= 4
    assert "points of probability" in said
    scored = client.post("/predict", json=RISKY).json()["probability"]
    assert f"{percents(scored, 0.0)[0].en}</span></li></ol>" in shown
    labels = {feature.label for feature in SCHEMA.features}
    steps = re.findall(r'<li class="(?:raises|lowers)"[^>]*>.*?<span[^>]*>([^<]*)</span>', shown)
    assert steps
    for step in steps:
        assert "other input" in step or any(step.startswith(label.rstrip("0123456789")) for label in labels)


def test_unknown_inputs_of_a_group_are_one_reason(client: TestClient) -> None:
    texts = {**texts_of(SCHEMA, RISKY), "EXT_SOURCE_1": "", "EXT_SOURCE_3": ""}
    shown = ask(client, "reasons", texts)["html"]
    said = words_of(shown)
    # Principal ones stand alone, as everywhere else; the others of a group together.
    assert "External score 1 is unknown" in said or "External score 1 and 3 are unknown" in said


def test_the_change_that_turns_the_decision_really_turns_it(client: TestClient) -> None:
    texts = texts_of(SCHEMA, RISKY)
    shown = ask(client, "flip", texts)["html"]
    assert "What the applicant could change" in shown
    beside, _, errors = ask(client, "changes", texts)["html"].partition('<h3 data-fr="Petites erreurs')
    assert errors
    assert shown.startswith(beside)  # on the sheet as beside the sliders
    for proposal in map(html.unescape, re.findall(r'data-changes="([^"]*)"', shown)):
        changed = decide(client, {"turn": 1, "texts": {**texts, **json.loads(proposal)}})
        assert answer_in(changed["html"])["decision"] == "accept"
    buttons = re.findall(r'data-feature="([^"]*)" data-text="([^"]*)"', shown)
    assert buttons
    for name, text in buttons:
        changed = decide(client, {"turn": 1, "texts": {**texts, name: text}})
        assert answer_in(changed["html"])["decision"] == "accept"


def test_a_verdict_says_what_a_small_error_of_entry_would_do(client: TestClient) -> None:
    safe = next(e["row"] for e in CREDIT_BUNDLE.manifest["examples"] if e["name"] == "safe")
    refused, accepted = (words_of(ask(client, "changes", texts_of(SCHEMA, r))["html"]) for r in (RISKY, safe))
    # 5 % younger the applicant would be unlike those of training: for a person.
    assert "One of these alone, 5 % off, would change it: Age." in refused
    assert "could change" in refused
    assert "No single figure that is 5 % off would change this decision." in accepted
    assert "could change" not in accepted


@pytest.mark.parametrize(
    "texts", [None, [], "x", {"AMT_CREDIT": None}, {"other": "1"}, {"AMT_CREDIT": "\ud800"}]
)
@pytest.mark.parametrize("call", ["what-if", "flip", "reasons", "changes"])
def test_what_is_no_case_is_answered_all_the_same(client: TestClient, call: str, texts: Any) -> None:
    ask(client, call, texts)


@pytest.mark.parametrize(
    ("path", "content_type", "body", "status"),
    [
        ("/page/what-if", "text/plain", b"{}", 415),
        ("/page/what-if", "application/json", b"x" * (2**20 + 1), 413),
        ("/page/what-if", "application/json", b"not json", 200),
        ("/page/many", "application/json", b"{}", 415),
        ("/page/many", "text/csv", b"x" * (2**18 + 1), 413),
        ("/page/many/check", "text/csv", b"x" * (2**18 + 1), 413),
        ("/page/many?first=\N{SUPERSCRIPT TWO}", "text/csv", b"a\n1", 200),
        ("/page/other", "text/csv", b"", 404),
        ("/page/look-up", "text/plain", b"{}", 415),
        ("/page/operations", "text/plain", b"{}", 415),
    ],
)
def test_calls_take_what_the_page_sends_alone(
    client: TestClient, path: str, content_type: str, body: bytes, status: int
) -> None:
    answer = client.post(path, content=body, headers={"Content-Type": content_type})
    assert answer.status_code == status


def test_calls_say_how_long_the_server_worked(client: TestClient) -> None:
    answer = client.post("/page/what-if", content=b'{"texts": {}}', headers=JSON)
    assert answer.headers["Server-Timing"].startswith("page;dur=")


def table_of(rows: list[dict[str, Any]], **more: str) -> str:
    """Rows as the CSV of a person, with further columns of the same value."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*more, *SCHEMA.names])
    for row in rows:
        writer.writerow([*more.values(), *(plain(row.get(name, "")) for name in SCHEMA.names)])
    return text.getvalue()


def plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def scored_in(answer: dict[str, Any]) -> list[dict[str, str]]:
    """The rows of the scored file."""
    text = answer["header"] + "".join(row["text"] for row in answer["rows"])
    return list(csv.DictReader(io.StringIO(text, newline="")))


def refused_in(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in answer["rows"] if "faults" in row]


def test_many_cases_are_answered_as_predict_answers_each(client: TestClient) -> None:
    rows = sample_rows(SCHEMA, 300, seed=3)
    before = sum(decisions(client, decision) for decision in HEADINGS)
    answer = client.post("/page/many?first=2", content=table_of(rows, client="C-1"), headers=CSV).json()
    assert refused_in(answer) == []
    assert sum(decisions(client, decision) for decision in HEADINGS) == before + 300
    scored = scored_in(answer)
    assert sum(answer["counts"]) == len(scored) == 300
    judge = cast(Starlette, client.app).state.service.models[0].rows.judge
    groups = Groups(CREDIT_BUNDLE, judge).words
    for row, given, listed in zip(rows[:50], scored, answer["rows"], strict=False):
        alone = client.post("/predict?reasons=4", json=row).json()
        assert float(given["probability"]) == listed["result"] == alone["probability"]
        assert given["decision"] == alone["decision"]
        assert (given["client"], given["error"]) == ("C-1", "")
        # What the row is listed under is what its answer says.
        said = {HEADINGS[alone["decision"]], *(BECAUSE[reason] for reason in alone.get("because", []))}
        is_near = abs(alone["probability"] - LIMIT) <= 0.1 * LIMIT
        words = [groups[group].en for group in listed["groups"]]
        assert set(words) == said | ({"Near a limit (within a tenth of it)"} if is_near else set())
        assert [SCHEMA.names[i] for i in listed["reasons"]] == [
            reason["feature"] for reason in alone.get("reasons", [])
        ]
        assert listed["id"] == given["id"]


def test_row_of_a_file_is_opened_on_the_form_as_the_form_would_send_it(client: TestClient) -> None:
    """Its texts decide what the row decides, and a value that is refused stays as it was typed."""
    good, bad = client.post(
        "/page/many?first=2", content=table_of([RISKY, {**RISKY, "AMT_CREDIT": "much"}]), headers=CSV
    ).json()["rows"]
    alone = client.post("/page/many/texts", content=table_of([RISKY]), headers=CSV).json()["texts"]
    assert alone == texts_of(SCHEMA, RISKY)
    shown = answer_in(decide(client, {"turn": 1, "texts": alone, "trial": True})["html"])
    assert shown["probability"] == good["result"]
    assert bad["faults"][0]["cell"] == SCHEMA.names.index("AMT_CREDIT")
    assert bad["cells"][SCHEMA.names.index("AMT_CREDIT")] == "much"
    typed = table_of([{**RISKY, "AMT_CREDIT": "much"}])
    assert client.post("/page/many/texts", content=typed, headers=CSV).json()["texts"]["AMT_CREDIT"] == "much"
    short = ",".join(SCHEMA.names) + "\r\n1\r\n"
    assert client.post("/page/many/texts", content=short, headers=CSV).json()["texts"] == {
        SCHEMA.names[0]: "1"
    }
    (whole,) = refused_in(client.post("/page/many", content=short, headers=CSV).json())
    assert [fault["cell"] for fault in whole["faults"]] == [-1]  # the line as a whole


def test_context_in_a_file_is_logged_opened_and_not_asked_about(client: TestClient, logs: Path) -> None:
    """By its name or its label, a category by its label too; one that is too long is named."""
    for name, said in (("CODE_GENDER", "F"), ("gender", "Female")):
        content = table_of([RISKY], **{name: said})
        answer = client.post("/page/many?first=2", content=content, headers=CSV).json()
        (scored,) = scored_in(answer)
        assert float(scored["probability"]) == client.post("/predict", json=RISKY).json()["probability"]
        (line,) = wait_for_lines(logs, scored["id"].partition("/")[0])
        assert line["input"]["rows"][0]["CODE_GENDER"] == "F"
        texts = client.post("/page/many/texts", content=content, headers=CSV).json()["texts"]
        assert texts == {**texts_of(SCHEMA, RISKY), "CODE_GENDER": "2"}
        checked = client.post("/page/many/check?first=2", content=content, headers=CSV).json()["html"]
        assert f"Logged and never scored: {name}." in checked
    few = "CODE_GENDER,AMT_CREDIT,age,income\nF,1,2,3\n"
    asked = client.post("/page/many/check", content=few, headers=CSV).json()["html"]
    assert 'data-column="income"' in asked
    assert "CODE_GENDER" not in asked
    long = client.post("/page/many", content=table_of([RISKY], CODE_GENDER="F" * 300), headers=CSV).json()
    (row,) = refused_in(long)
    assert "Gender" in row["faults"][0]["label"]


def test_a_trial_of_a_file_is_no_decision(client: TestClient) -> None:
    before = sum(decisions(client, decision) for decision in HEADINGS)
    content = table_of([RISKY, {**RISKY, "AGE_YEARS": 7}])
    tried, real = (
        client.post(f"/page/many{q}", content=content, headers=CSV).json() for q in ("?trial=1", "")
    )
    assert sum(decisions(client, decision) for decision in HEADINGS) == before + 1
    rows = scored_in(tried)
    assert [row["id"] for row in rows] == ["", ""]
    assert tried["rows"][0] == real["rows"][0] | {"id": "", "text": tried["rows"][0]["text"]}
    assert rows[0]["probability"] == scored_in(real)[0]["probability"]


def test_studio_has_the_last_logged_cases_and_what_the_policy_made_of_them(
    client: TestClient, logs: Path
) -> None:
    rows = [RISKY, {**RISKY, "EXT_SOURCE_3": None}, {**RISKY, "AGE_YEARS": 20, "YEARS_EMPLOYED": 40}]
    alone = client.post("/predict", json=RISKY).json()
    batch = client.post("/predict/batch", json=rows).json()
    wait_for_lines(logs, batch["id"])
    wait_for_lines(logs, alone["id"])
    told = client.post("/page/studio", content="{}", headers=JSON).json()
    names = [*reversed([f"{batch['id']}/{i}" for i in range(3)]), alone["id"]]
    assert [case[0] for case in told["cases"][:4]] == names
    assert [case[1] for case in told["cases"][:3]] == batch["probabilities"][::-1]
    assert [case[2] for case in told["cases"][:4]] == [*batch["decisions"][::-1], "refuse"]
    assert [case[3] for case in told["cases"][:4]] == [True, True, False, False]  # a refusal of the score's
    assert told["limits"] == [LIMIT]
    assert told["least"] == 0.048  # below it the policy asks for no more inputs
    assert told["bands"] == ["accept", "refuse"]
    assert told["description"]["policy"] == CREDIT_BUNDLE.manifest["policy"]


def test_template_is_a_file_that_can_be_scored(client: TestClient) -> None:
    template = client.get("/page/template.csv")
    assert template.headers["Content-Type"].startswith("text/csv")
    answer = client.post("/page/many", content=template.content, headers=CSV).json()
    assert [row["decision"] for row in scored_in(answer)].count("accept") == 2
    assert [row["decision"] for row in scored_in(answer)].count("refuse") == 1


def test_bad_cells_are_named_by_line_and_column_and_the_other_rows_scored(client: TestClient) -> None:
    rows = [RISKY, {**RISKY, "AMT_CREDIT": "much"}, {**RISKY, "AGE_YEARS": 7}]
    answer = client.post("/page/many?first=1000", content=table_of(rows), headers=CSV).json()
    faults = [fault for row in refused_in(answer) for fault in row["faults"]]
    named = [(fault["line"], words_of(fault["label"]).strip()) for fault in faults]
    assert named == [(1001, "Amount of the credit"), (1002, "Age")]
    scored = scored_in(answer)
    assert [bool(row["probability"]) for row in scored] == [True, False, False]
    assert scored[1]["error"].startswith("AMT_CREDIT: expected a number between")


def test_a_flag_in_ones_and_twos_is_not_guessed(client: TestClient) -> None:
    rows = [{**RISKY, "FLAG_DOCUMENT_3": code} for code in (1, 2, None)]
    answer = client.post("/page/many", content=table_of(rows), headers=CSV).json()
    assert [bool(row["probability"]) for row in scored_in(answer)] == [False, False, True]
    for row in refused_in(answer):
        assert "of which either could be yes" in row["faults"][0]["detail"]


def test_a_piece_has_no_more_rows_than_a_batch(tmp_path: Path) -> None:
    with page_client(CREDIT, tmp_path, max_batch_rows=3) as client:
        for rows, problem in ((3, None), (4, "expected at most 3 rows, got more")):
            answer = client.post("/page/many", content=table_of([RISKY] * rows), headers=CSV).json()
            assert answer.get("problem") == problem
        assert decisions(client, "refuse") == 3
        assert 'data-most=\\"3\\"' in client.get("/").text


def test_refused_logins_count_as_answers_with_an_error(tmp_path: Path) -> None:
    with page_client(CREDIT, tmp_path, ui_auth=(("ann", "secret"),)) as client:
        assert client.get("/").status_code == 401
        assert re.search(
            r'hotrow_request_duration_seconds_count\{[^}]*code="401"[^}]*\} 1', client.get("/metrics").text
        )


@pytest.mark.parametrize("name", SCHEMA.names)
def test_hostile_cells_come_back_harmless(client: TestClient, name: str) -> None:
    rows = [{**RISKY, name: hostile} for hostile in (*HOSTILE, "+1+1", "-1+1", "@SUM(A1)", "\tx", "\r=1")]
    answer = client.post("/page/many", content=table_of(rows, note="=1+1"), headers=CSV).json()
    # A tab or line break around nothing else is no value: the cell is stripped before it is read.
    assert len(refused_in(answer)) == len(rows)
    for cells in csv.reader([row["text"] for row in answer["rows"]]):
        for cell in cells:
            assert not cell.startswith(("=", "+", "@", "\t", "\r")), cell
            assert not cell.startswith("-") or float(cell)
    assert "<script" not in json.dumps([row["faults"] for row in answer["rows"]])


@pytest.mark.parametrize(
    ("text", "french"),
    [
        ("AMT_CREDIT\r\n1\r\n", "nécessaires à chaque ligne\u00a0: AMT_INCOME_TOTAL, AGE_YEARS ; ajoutez"),
        ("a,b\r\n1,2\r\n", "dont aucune n'en est une"),
        (",".join(f"c{i}" for i in range(30)) + "\r\n1,2\r\n", " de plus"),
        ("AMT_CREDIT:AGE_YEARS\r\n1:2\r\n", "séparez-les"),
        ("1,2,3\r\n4,5,6\r\n", "attendu\u00a0: une première ligne avec les noms des colonnes"),
        ("", "reçu\u00a0: rien"),
        ("title\r\nAMT_CREDIT,AGE_YEARS\r\n1,2\r\n", "reçus en ligne 2"),
        ("AGE_YEARS,Age\r\n1,2\r\n", "attendu"),
        ("AMT_CREDIT;AGE_YEARS\r\n1,5;2.5\r\n", "un seul signe décimal"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_french_too(client: TestClient, text: str, french: str) -> None:
    told = client.post("/page/many", content=text.encode(), headers=CSV).json()
    assert told["problem"].startswith("expected ")
    assert french in told["french"]
    assert "{" not in told["french"]


def test_row_of_another_width_is_refused_in_both_languages(client: TestClient) -> None:
    content = table_of([RISKY]) + "1,2,3\r\n"
    (_, fault) = client.post("/page/many", content=content, headers=CSV).json()["rows"]
    (said,) = fault["faults"]
    assert f"expected {len(RISKY)} cells, got 3" in said["detail"]
    assert f"{len(RISKY)} cellules attendues, 3 reçues" in said["detail"]


def test_columns_are_checked_before_a_row_is_scored(client: TestClient) -> None:
    def problem(text: str) -> str:
        return str(client.post("/page/many", content=text.encode(), headers=CSV).json()["problem"])

    assert problem("AMT_CREDIT\r\n1\r\n").startswith("expected the columns AMT_INCOME_TOTAL, AGE_YEARS")
    assert "none of them is one" in problem("a,a\r\n1,2\r\n")
    assert "header" in problem("")
    assert "CSV" in problem('AMT_CREDIT\r\n"x"y\r\n')
    other = client.post("/page/many", content="é".encode() + b"\xe9\n", headers=CSV).json()["problem"]
    assert "got bytes of none of them from line 1" in other


def test_columns_of_other_names_are_asked_about_and_mean_what_was_said(client: TestClient) -> None:
    theirs = {"<i>Credit amount": "AMT_CREDIT", "age in years": "AGE_YEARS", "xyz": "AMT_INCOME_TOTAL"}
    content = table_of([RISKY], client="C-1")
    for name, feature in theirs.items():
        content = re.sub(rf"\b{feature}\b", name, content, count=1)

    def call(path: str, columns: Any) -> dict[str, Any]:
        said = {"columns": columns if isinstance(columns, str) else json.dumps(columns)}
        answer: dict[str, Any] = client.post(path, params=said, content=content, headers=CSV).json()
        return answer

    asked = call("/page/many/check", {})
    assert asked["problem"].startswith("expected the columns A")
    assert "<i>" not in asked["html"]
    lists = re.findall(r'data-column="([^"]*)">(.*?)</select>', asked["html"], re.DOTALL)
    assert [html.unescape(name) for name, _ in lists] == ["client", *sorted(theirs, key=content.index)]
    proposed = {html.unescape(n): re.findall(r'value="([^"]*)" selected', options) for n, options in lists}
    assert proposed["<i>Credit amount"] == ["AMT_CREDIT"]
    assert proposed["age in years"] == ["AGE_YEARS"]
    assert proposed["xyz"] == proposed["client"] == []
    checked = call("/page/many/check", theirs)
    assert checked["faults"] == []
    assert 'value="AMT_INCOME_TOTAL" selected' in checked["html"]  # what was said can be changed
    (row,) = scored_in(call("/page/many", theirs))
    assert float(row["probability"]) == client.post("/predict", json=RISKY).json()["probability"]
    assert row["age in years"] == str(RISKY["AGE_YEARS"])  # the file keeps its own names
    for wrong in ("{", "[]", {"xyz": 7}, {"nobody": "AMT_CREDIT"}, {"xyz": "nothing"}):
        assert "expected" in call("/page/many", wrong)["problem"]
    assert "one column for AMT_CREDIT" in call("/page/many", theirs | {"xyz": "AMT_CREDIT"})["problem"]


def test_file_that_was_scored_before_can_be_scored_again(client: TestClient) -> None:
    content = table_of([RISKY], decision="x", probability="1")
    answer = client.post("/page/many", content=content, headers=CSV).json()
    (row,) = scored_in(answer)
    assert (row["decision"], row["hotrow_decision"], row["hotrow_error"]) == ("x", "refuse", "")


def test_preview_of_a_line_without_end_is_as_wide_as_the_header(client: TestClient) -> None:
    """A piece of commas was some 200,000 cells of a table, which held all others for 0.2 s."""
    piece = "AMT_CREDIT,AMT_INCOME_TOTAL,AGE_YEARS\n" + "," * 20_000
    answer = client.post("/page/many/check", content=piece, headers={"Content-Type": "text/csv"}).json()
    assert "expected 3 cells, got 20001" in str(answer["faults"])
    assert answer["html"].count("<td") <= 4


def test_preview_marks_what_is_wrong_and_scores_nothing(client: TestClient) -> None:
    before = decisions(client, "refuse")
    content = table_of([RISKY, {**RISKY, "AGE_YEARS": 7}], client="<b>")
    answer = client.post("/page/many/check", content=content, headers=CSV).json()
    assert decisions(client, "refuse") == before
    assert f"{len(SCHEMA)} of {len(SCHEMA)} columns of the model found. Carried along: client." in words_of(
        answer["html"]
    )
    assert '<td class="bad">7 ' in answer["html"]
    assert "<b>" not in answer["html"]
    assert [fault["line"] for fault in answer["faults"]] == [3]


def test_operations_show_the_metrics_and_ask_for_nothing_else(client: TestClient) -> None:
    for _ in range(3):
        client.post("/predict", json=RISKY)
    said = words_of(look(client))
    for words in (
        "requests a second",
        "Scores and limits",
        "Drift, strongest first",
        "Worker 1",
        "Lines of the log lost: last 5 minutes 0, limit 0",
        "No line was lost",
        "credit@3, graph",
        f"{compared_rows(CREDIT)} rows compared with the trained model, 0 bits different",
    ):
        assert words in said


@pytest.fixture(params=["three", "wide"])
def other(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def test_any_bundle_has_every_tab(other: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(other)
    row = next(iter(bundle.golden_rows())).fields
    texts = texts_of(bundle.schema, row)
    with page_client(other, tmp_path / "logs") as client:
        shown = answer_in(decide(client, {"turn": 1, "texts": texts})["html"])
        assert shown["probability"] == client.post("/predict", json=row).json()["probability"]
        assert ask(client, "what-if", texts)["whole"]
        assert "the smallest single change" in ask(client, "flip", texts)["html"]
        reasons = ask(client, "reasons", texts)["html"]
        assert (
            "The principal reasons: " if shown["decision"] == "positive" else "What counted most"
        ) in reasons
        template = client.get("/page/template.csv").content
        assert refused_in(client.post("/page/many", content=template, headers=CSV).json()) == []
        assert "Workers" in look(client)


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [({"objective": "regression"}, "amount"), ({"objective": "multiclass", "num_class": 3}, "classes")],
)
def test_models_of_other_tasks_have_every_tab_too(
    parameters: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    bundle = lightgbm_bundle(tmp_path / kind, parameters, kind, 10)
    texts = texts_of(bundle.schema, next(iter(bundle.golden_rows())).fields)
    with page_client(bundle.directory, tmp_path / "logs") as client:
        assert "prediction" in answer_in(decide(client, {"turn": 1, "texts": texts})["html"])
        assert ask(client, "what-if", texts)["whole"]
        assert ask(client, "flip", texts)["html"] == ""
        reasons = words_of(ask(client, "reasons", texts)["html"])
        assert "Why this answer" in reasons
        assert "What counted most" in reasons
        assert ("Raw score of " in reasons) == (kind == "classes")
        template = client.get("/page/template.csv").content
        assert refused_in(client.post("/page/many", content=template, headers=CSV).json()) == []
        assert "Workers" in look(client)
