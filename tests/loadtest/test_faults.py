"""The faults that fit into the suite, injected a few times each; `make faults` injects all of them."""

import re
from pathlib import Path

import orjson
import pytest

from loadtest.faults import report
from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.plan import PLAN
from loadtest.faults.scene import FaultSkipped, Scene
from loadtest.harness.reference_rows import ReferenceRow, reference_rows
from loadtest.harness.request_records import WRONG, RequestRecords, reconcile
from loadtest.harness.subject import LoadTestError
from server.model.bundle import Bundle
from tests.support.bundles import CREDIT

pytestmark = pytest.mark.whole

#: Those whose facts no other test holds; `make faults` injects all of them, at full length.
SHORT = ("F10", "F28", "F29", "F31")


@pytest.fixture(scope="module")
def rows() -> list[ReferenceRow]:
    return reference_rows([Bundle.load(CREDIT)], 500)


@pytest.mark.parametrize("key", SHORT)
def test_fault_reaches_what_it_must(key: str, rows: list[ReferenceRow], tmp_path: Path) -> None:
    """All but what hangs on the machine's speed."""
    (fault,) = (fault for fault in PLAN if fault.key == key)
    outcome = FaultOutcome()
    try:
        fault.run(Scene(Bundle.load(CREDIT), rows, tmp_path, short=True), outcome)
    except FaultSkipped as reason:
        pytest.skip(str(reason))
    assert outcome.checks
    assert outcome.broken_untimed == []


def test_every_fault_is_in_the_document() -> None:
    document = Path("docs/reliability.md").read_text()
    for fault in PLAN:
        assert re.search(rf"^\| {fault.key} \|", document, re.MULTILINE), fault.key


def test_parts_of_a_fault_are_chosen_by_words_of_their_names(
    rows: list[ReferenceRow], tmp_path: Path
) -> None:
    parts = {"1 worker, both": 1, "2 workers, both": 2, "2 workers, the observer": 3}
    chosen = [Scene(Bundle.load(CREDIT), rows, tmp_path, only=only).chosen(parts) for only in ("", "both")]
    assert [list(each.values()) for each in chosen] == [[1, 2, 3], [1, 2]]
    with pytest.raises(LoadTestError, match="expected --only to be part of one of: 1 worker, both; 2 work"):
        Scene(Bundle.load(CREDIT), rows, tmp_path, only="three").chosen(parts)


def answer(row: ReferenceRow, number: int, **changes: object) -> bytes:
    (model,) = row.scores
    return orjson.dumps(
        {"id": f"instance-{number}", "model": model, "probability": row.scores[model]} | changes
    )


def test_request_records_tell_right_answers_from_wrong_shed_and_failed_ones(rows: list[ReferenceRow]) -> None:
    records = RequestRecords(rows)
    records.take(0, 200, answer(rows[0], 1), 0.0)
    records.take(1, 200, answer(rows[0], 2, probability=rows[0].scores["credit@3"] + 1e-16), 0.0)
    records.take(2, 200, answer(rows[2], 3, model="other@1"), 0.0)
    records.take(0, 200, answer(rows[0], 1), 0.0)  # an id that was given before
    records.take(3, 200, b"not JSON", 0.0)
    records.take(4, 503, b"", 0.0)
    records.take(5, 500, b"", 0.0)
    assert (records.ok, records.shed) == (1, 1)
    assert records.failed == {WRONG: 4, "status 500": 1}


def test_reconciliation_finds_lost_double_wrong_and_half_lines(
    rows: list[ReferenceRow], tmp_path: Path
) -> None:
    records = RequestRecords(rows)
    for number in range(6):
        records.take(number, 200, answer(rows[number], number), 0.0)

    def line(number: int, **changes: object) -> bytes:
        document = orjson.loads(answer(rows[number], number)) | {"input": rows[number].fields} | changes
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)

    lines = [line(0), line(1), line(1), line(2, input=rows[3].fields), line(3, probability=0.5), line(9)]
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines) + line(4)[:-9])
    found = reconcile(records, tmp_path)
    assert sorted(found.lost) == ["instance-4", "instance-5"]
    assert found.duplicates == ["instance-1"]
    assert sorted(found.wrong) == ["instance-2", "instance-3"]
    assert (found.unreadable, found.others) == (1, 1)


def test_results_keep_the_last_run_of_each_fault(tmp_path: Path) -> None:
    file = tmp_path / "faults.md"
    good, bad = FaultOutcome(sent=3, ok=3), FaultOutcome(sent=3, ok=2)
    good.expect("0 lost", True, 0)
    bad.expect_at_most("memory", 60.0, 50.0, "MB")
    stops = report.Result(bad, "stops", 1.0, "a machine")
    assert stops.state == "failed"
    report.write({"F2": report.text_of("F2", stops)}, file)
    faults = report.read(file)
    junk = report.Result(good, "junk", 1.0, "a machine", short=True)
    disk = report.Result(FaultOutcome(), "disk", 1.0, "a machine", skipped="no strace")
    faults |= {key: report.text_of(key, result) for key, result in (("F10", junk), ("F9", disk))}
    report.write(faults, file)
    assert list(report.read(file)) == ["F2", "F9", "F10"]
    page = file.read_text()
    assert "- memory at most 50 MB: 60 MB, **not reached**" in page
    assert "passed (short)" in page
    assert "no strace" in page
    again = report.Result(bad, "stops", 1.0, "another machine")
    report.write(report.read(file) | {"F2": report.text_of("F2", again)}, file)
    assert file.read_text() == page.replace("a machine", "another machine", 1)


def test_committed_page_of_faults_is_read_and_written_alike(tmp_path: Path) -> None:
    committed = Path("docs/generated/faults.md")
    report.write(report.read(committed), tmp_path / "faults.md")
    assert (tmp_path / "faults.md").read_bytes() == committed.read_bytes()
