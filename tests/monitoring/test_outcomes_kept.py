"""Outcomes kept beside the log: added from files, corrected by later ones, erased with their subject."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest

from monitoring.__main__ import main
from monitoring.errors import LogError
from monitoring.logs.erasure import erase
from monitoring.logs.subject import ResponseIds
from server.model.bundle import Bundle
from server.outcomes.store import add_lines, outcome_files, outcome_path
from tests.monitoring.test_outcomes import scores, write_log
from tests.support.monitored import monitored_bundle

ROWS = 60


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("kept") / "three")


@pytest.fixture
def log(bundle: Bundle, tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    write_log(folder / "predictions-1-0.jsonl", bundle, scores(ROWS))
    return folder


def run(bundle: Bundle, *words: str | Path) -> Any:
    with redirect_stdout(StringIO()) as out:
        main([*map(str, words), "--model", str(bundle.directory), "--json"])
    return json.loads(out.getvalue())


def add(bundle: Bundle, log: Path, name: str, content: str | bytes) -> Any:
    file = log.parent / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return run(bundle, "outcomes", "add", log, file)


def rate(bundle: Bundle, log: Path) -> tuple[int, int, float]:
    """Decisions with an outcome, keys with several, and the rate of ones."""
    found = run(bundle, "performance", log)
    return found["whole"]["n"], found["corrected"], found["whole"]["rate"]["value"]


def test_later_outcomes_correct_earlier_ones_and_conflicts_are_counted(bundle: Bundle, log: Path) -> None:
    one = add(
        bundle, log, "a.csv", "row_id,outcome,at\n1,1,2026-05-01\n2,0,2026-05-01\n3,,\n2,0,2026-05-01\n"
    )
    assert (one["written"], one["corrected"], one["unchanged"], one["unknown"]) == (2, 0, 0, 1)
    assert rate(bundle, log) == (2, 0, 0.5)
    again = add(bundle, log, "a.csv", "row_id,outcome,at\n1,1,2026-05-01\n2,0,2026-05-01\n3,,\n")
    assert (again["written"], again["unchanged"]) == (0, 2)
    # Without a time of its own a correction is as old as its telling.
    two = add(bundle, log, "b.ndjson", '{"row_id": 1, "outcome": 0}\n{"row_id": 4, "outcome": true}\n')
    assert (two["written"], two["corrected"]) == (2, 1)
    assert rate(bundle, log) == (3, 1, 1 / 3)
    taken_back = add(bundle, log, "c.json", '[{"row_id": "2", "outcome": null}]')
    assert (taken_back["written"], taken_back["corrected"]) == (1, 1)
    assert rate(bundle, log) == (2, 1, 0.5)


def test_keys_of_several_kinds_are_of_one_decision(bundle: Bundle, log: Path) -> None:
    """A decision has one outcome, the latest; what nobody decided, or says nothing, counts for none."""
    lines = [
        {"ts": "2026-05-01T00:00:00Z", "id": "boot-2", "outcome": 1},
        {"ts": "2026-05-02T00:00:00Z", "request_id": "r1", "outcome": 0},
        {"ts": "2026-05-02T00:00:00Z", "id": "boot-1/0", "outcome": 1},
        {"ts": "2026-05-02T00:00:00Z", "row_id": "7", "outcome": "severe"},
        {"ts": "2026-05-02T00:00:00Z", "row_id": "nobody", "outcome": 1},
        {"ts": "2025-01-01T00:00:00Z", "request_id": "r9", "outcome": 1},
    ]
    content = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    outcome_path(log, "api-1").write_bytes(content + b'{"ts":"2026-05-0')
    add_lines(
        outcome_path(log, "api-1"),
        orjson.dumps({"ts": "2026-05-03T00:00:00Z", "id": "boot-3", "outcome": 1}) + b"\n",
    )
    found = run(bundle, "performance", log)
    assert (found["outcomes"], found["strangers"], found["dated_before_the_decision"]) == (7, 1, 1)
    assert (found["unusable"], found["told_by_another_key"]) == (1, 1)
    assert (found["whole"]["n"], found["whole"]["rate"]["value"]) == (3, 2 / 3)
    # A file that somebody names goes instead of them.
    (log.parent / "a.csv").write_text("row_id,outcome\n1,1\n")
    assert run(bundle, "performance", log, "--outcomes", log.parent / "a.csv")["whole"]["n"] == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "row_id;outcome;at\n1;1;01.03.2199\n", "in the future"),
        ("a.csv", "income,outcome\n1,1\n", "those by a field are for"),
        ("a.csv", "row_id,outcome\n1,maybe\n", "'maybe' in row 1"),
        ("a.csv", "row_id,outcome,at\n1,1,2026-02-30\n", "'2026-02-30' in row 1"),
        ("a.ndjson", '{"row_id": 1, "outcome": 1}\n{"row_id": 2, "outcome": 2}\n', "/outcome of row 2"),
        ("a.ndjson", '{"row_id": 1, "outcome": 1}\n{"row_id"\n', "JSON in line 2"),
        (
            "a.json",
            '[{"row_id": 1, "id": "a", "outcome": 1}]',
            "expected one of id, .*got 2.*row 1",
        ),
        ("a.json", '[{"row_id": 1}]', "member outcome"),
        ("a.json", '[{"row_id": 1, "outcome": 1, "at": 17}]', "/at of row 1"),
        ("a.json", '[{"row_id": {}, "outcome": 1}]', "/row_id of row 1"),
        ("a.json", "[1]", "expected an object, in row 1"),
    ],
)
def test_what_is_no_outcome_is_refused_whole(
    bundle: Bundle, log: Path, name: str, content: str, words: str
) -> None:
    with pytest.raises(LogError, match=words):
        add(bundle, log, name, content)
    assert outcome_files([log]) == []


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", "row_id;outcome;at;betrag\r\n1;1;30.03.2026;1.234,5\r\n2;0;31.03.2026;2,0\r\n"),
        ("utf-16", "row_id\toutcome\tat\r\n1\twahr\t30.03.26 14:05\r\n2\tfalsch\t\r\n"),
        ("cp1252", 'ROW_ID,Outcome,note\r\n"1",Yes,Müller\r\n"2",no,\r\n'),
    ],
)
def test_exports_of_spreadsheets_are_taken(bundle: Bundle, log: Path, encoding: str, text: str) -> None:
    assert add(bundle, log, "export.csv", text.encode(encoding))["written"] == 2
    assert rate(bundle, log) == (2, 0, 0.5)


def test_ids_keep_their_leading_zeros(bundle: Bundle, log: Path) -> None:
    add(bundle, log, "a.csv", "request_id,outcome\n00123,1\n")
    (file,) = outcome_files([log])
    assert orjson.loads(file.read_bytes())["request_id"] == "00123"


def test_outcomes_are_erased_with_their_subject(bundle: Bundle, log: Path) -> None:
    """By whatever key they came, those of others in its batch stay, and so do those told of it again."""
    add(
        bundle,
        log,
        "a.ndjson",
        "".join(
            f'{{"{kind}": "{key}", "outcome": 1}}\n'
            for kind, key in (
                ("id", "boot-2"),
                ("request_id", "r1"),
                ("row_id", "1"),
                ("id", "boot-11/0"),
                ("id", "boot-11/1"),
                ("request_id", "r10"),
                ("row_id", "other-10"),
            )
        ),
    )
    assert erase([log], ResponseIds(["boot-2"])).outcomes == 3
    assert erase([log], ResponseIds(["boot-11/0"])).outcomes == 1
    (file,) = outcome_files([log])
    kept = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert [line.get("id") or line.get("request_id") or line["row_id"] for line in kept] == [
        "boot-11/1",
        "r10",
        "other-10",
    ]
    assert file.stat().st_mode & 0o777 == 0o600
    # It is of no decision any more, and goes where it is named again.
    add_lines(file, b'{"ts":"2026-05-01T00:00:00Z","id":"boot-2","outcome":1}\n')
    assert run(bundle, "performance", log)["strangers"] == 1
    assert erase([log], ResponseIds(["boot-2"])).outcomes == 1
