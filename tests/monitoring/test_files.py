"""Logs and tables as people have them: compressed, moved, masked, with a wrong clock, of another project."""

import gzip
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from monitoring.__main__ import main
from monitoring.drift.comparison import ColumnDrift, drift_of_files
from monitoring.errors import LogError
from monitoring.logs.erasure import erase
from monitoring.logs.files import journals_of, open_lines
from monitoring.logs.replay import replay
from monitoring.logs.subject import ResponseIds, subject_of
from monitoring.logs.table import open_log
from monitoring.logs.verification import verify
from monitoring.outcomes.performance import outcome_report
from monitoring.report.figures import figures
from monitoring.report.report import make_report
from server.log.journal import LogJournal
from server.log.mask import Masking
from server.log.masked import hashed
from server.log.reviews import reviews_in
from server.model.bundle import Bundle
from server.zstandard import zstd
from tests.support.bundles import CREDIT, THREE_FEATURES, sample_rows
from tests.support.commands import run_inside as run
from tests.support.monitored import log_of, monitored_bundle

ROWS = sample_rows(THREE_FEATURES, 400, seed=3)
KEY = b"0123456789abcdef0123456789abcdef"
INSTANCE, NEXT = "0123456789ab", "ba9876543210"
CLOSED = "predictions-1-0.{:06d}.20260301T080000Z.jsonl"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("files") / "three")


def columns(paths: list[Path], bundle: Bundle) -> dict[str, ColumnDrift]:
    return {column.name: column for column in drift_of_files(paths, bundle).columns}


def counts(paths: list[Path], bundle: Bundle) -> dict[str, list[int]]:
    return {name: column.counts.tolist() for name, column in columns(paths, bundle).items()}


def mask(log: Path, bundle: Bundle, rules: dict[str, str], journal: bool) -> Path:
    """The log as a server with these rules would have written it."""
    masking = Masking(rules, KEY)
    fields = masking.mask(bundle)
    assert fields is not None
    records = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    for record in records:
        record["input"] = orjson.loads(fields.apply(orjson.dumps(record["input"])))
    log.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    if journal:
        instances = sorted({record["id"].split("-")[0] for record in records})
        LogJournal(log).began("opened", 1, dict.fromkeys(instances, ""), masking.masked(bundle))
    return log


@pytest.mark.parametrize("journal", [True, False])
def test_masked_fields_are_masked_and_not_missing_with_their_journal_or_without(
    bundle: Bundle, tmp_path: Path, journal: bool
) -> None:
    rules = {"income": "bucket", "contract": "hash", "owner": "drop"}
    log = mask(log_of(bundle, ROWS, tmp_path / "a.jsonl"), bundle, rules, journal)
    found = drift_of_files([log], bundle)
    assert found.drifted == []
    assert found.hidden == ["contract", "owner"]
    there = {column.name: column for column in found.columns}
    assert "owner" not in there
    assert there["income"].values.n == 400
    assert 0.05 < there["contract"].missing_rate < 0.15  # a hash says that there was a value


def test_a_hashed_field_that_goes_missing_is_drift(bundle: Bundle, tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "contract" or i % 2} for i, row in enumerate(ROWS)]
    log = mask(log_of(bundle, rows, tmp_path / "a.jsonl"), bundle, {"contract": "hash"}, True)
    assert "contract" in [column.name for column in drift_of_files([log], bundle).drifted]


def test_lines_of_different_masks_are_read_each_by_its_own(bundle: Bundle, tmp_path: Path) -> None:
    log_of(bundle, ROWS[:200], tmp_path / "a.jsonl")
    LogJournal(tmp_path / "a.jsonl").began("opened", 1, {INSTANCE: ""}, {})
    mask(
        log_of(bundle, ROWS[200:], tmp_path / "b.jsonl", instance=NEXT),
        bundle,
        {"income": "bucket", "owner": "drop"},
        True,
    )
    found = drift_of_files([tmp_path], bundle)
    assert (found.drifted, found.hidden) == ([], [])
    there = {column.name: column for column in found.columns}
    assert there["income"].values.n == 400
    assert there["owner"].values.n < 200
    again = replay([tmp_path], bundle)
    assert (again.rows, again.skipped, again.disagreeing) == (200, 200, 0)


def test_a_field_that_no_line_has_and_no_mask_hides_is_drift(bundle: Bundle, tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "contract"} for row in ROWS]
    log = log_of(bundle, rows, tmp_path / "a.jsonl")
    assert "contract" in [column.name for column in drift_of_files([log], bundle).drifted]


def gz(file: Path) -> Path:
    packed = file.with_name(file.name + ".gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    return packed


def zst(file: Path) -> Path:
    packed = file.with_name(file.name + ".zst")
    content = file.read_bytes()
    # Two frames, as appending to a compressed file makes them.
    packed.write_bytes(zstd.compress(content[:999]) + zstd.compress(content[999:]))
    file.unlink()
    return packed


@pytest.mark.parametrize("pack", [gz, zst])
def test_compressed_and_moved_files_are_read_as_they_are(
    bundle: Bundle, tmp_path: Path, pack: Callable[[Path], Path]
) -> None:
    logs, archive = tmp_path / "logs", tmp_path / "archive"
    logs.mkdir()
    archive.mkdir()
    for number in (1, 2, 3):
        part = ROWS[100 * (number - 1) : 100 * number]
        log_of(bundle, part, logs / CLOSED.format(number), first=100 * number - 99)
    log_of(bundle, ROWS[300:], logs / "predictions-1-0.jsonl", first=301)
    LogJournal(logs / "predictions-1-0.jsonl").began("opened", 1, {INSTANCE: ""}, {})
    LogJournal(logs / "predictions-1-0.jsonl").closed([INSTANCE], 400, 0)
    plain = drift_of_files([logs], bundle).to_dict()
    pack(logs / CLOSED.format(1))
    assert verify([logs]).whole
    shutil.move(pack(logs / CLOSED.format(2)), archive)
    both = [logs, archive]
    assert drift_of_files(both, bundle).to_dict() == plain
    assert make_report(both, bundle).figures.requests == replay(both, bundle).equal == 400
    assert verify(both).whole
    without = verify([logs])
    assert (without.lost, without.absent) == (100, ["predictions-1-0.000002"])
    done = run("-m", "monitoring", "verify-log", str(logs))
    assert done.returncode == 3
    assert "Not here: predictions-1-0.000002" in done.stdout


@pytest.mark.parametrize("pack", [gz, zst])
def test_compressed_file_that_is_cut_short_is_no_shorter_one(
    bundle: Bundle, tmp_path: Path, pack: Callable[[Path], Path]
) -> None:
    """Read as if it were whole, what is missing would be erased, or never judged."""
    packed = pack(log_of(bundle, ROWS[:300], tmp_path / CLOSED.format(1)))
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-20])
    with pytest.raises(LogError, match=r"^expected"):
        make_report([tmp_path], bundle)
    done = run("-m", "monitoring", "erase", str(tmp_path), "--subject", "0" * 32)
    assert (done.returncode, packed.name in done.stdout) == (3, True), done.stdout
    assert packed.read_bytes() == whole[:-20]


@pytest.mark.parametrize("pack", [gz, zst])
def test_a_subject_is_erased_from_compressed_files_too(
    bundle: Bundle, tmp_path: Path, pack: Callable[[Path], Path]
) -> None:
    rows = [{**row, "income": 4242.5} if i % 50 == 7 else row for i, row in enumerate(ROWS)]
    log = mask(log_of(bundle, rows, tmp_path / CLOSED.format(1)), bundle, {"income": "hash"}, False)
    LogJournal(tmp_path / "predictions-1-0.jsonl").began("opened", 1, {INSTANCE: ""}, {"income": "hash"})
    key = tmp_path.parent / f"{tmp_path.name}-key"
    key.write_bytes(KEY)
    packed = pack(log)
    value = ("--value", "income=4242.5", "--key-file", str(key))
    done = run("-m", "monitoring", "erase", str(tmp_path), *value)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 lines, and 0 rows" in done.stdout
    with open_lines(packed) as lines:
        kept = lines.read()
    assert len(kept.splitlines()) == 392
    assert hashed(KEY, "income", 4242.5).encode() not in kept
    assert verify([tmp_path]).whole
    assert erase([tmp_path], subject_of("income=4242.5", key), KEY).lines == 0


def test_what_an_erasure_did_not_search_is_named(bundle: Bundle, tmp_path: Path) -> None:
    log_of(bundle, ROWS[:5], tmp_path / CLOSED.format(3))
    (tmp_path / "old.jsonl.bz2").write_bytes(b"BZh")
    (tmp_path / "broken.jsonl.gz").write_bytes(b"no gzip at all")
    done = run("-m", "monitoring", "erase", str(tmp_path), "--subject", "0" * 32)
    assert done.returncode == 3
    said = " ".join(done.stdout.split())
    for words in ("old.jsonl.bz2", "broken.jsonl.gz", "predictions-1-0.000001", "predictions-1-0.000002"):
        assert words in said
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["incme", "contract", "owner"])
def test_a_field_that_is_not_hashed_is_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    log = log_of(bundle, ROWS[:5], tmp_path / "a.jsonl")
    mask(log, bundle, {"income": "hash", "owner": "drop"}, True)
    key = tmp_path.parent / f"{tmp_path.name}-key"
    key.write_bytes(KEY)
    done = run("-m", "monitoring", "erase", str(log), "--value", f"{name}=1", "--key-file", str(key))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"(income), got {name}" in done.stderr


def test_a_wrong_clock_stretches_no_plot_and_a_mark_loses_no_line(bundle: Bundle, tmp_path: Path) -> None:
    log = log_of(bundle, ROWS, tmp_path / "a.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    for position, year in ((50, b"2036"), (200, b"1970"), (399, b"2009")):
        lines[position] = lines[position].replace(b"2026-03-01", year + b"-03-01")
    lines[300] = lines[300].replace(b"2026-03-01", b"2026-03-02")  # a day ahead, and back again
    log.write_bytes(b"\xef\xbb\xbf" + b"".join(lines))
    with open_log([log]) as table:
        found = figures(table)
    assert (found.requests, found.unreadable, found.astray) == (400, 0, 4)
    assert found.seconds == pytest.approx(39.8)
    assert found.periods.requests.sum() == 396
    assert drift_of_files([log], bundle).n == 400


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("message", lambda line: {"host": "h", "message": line, "timestamp": "2026-03-01T08:00:01Z"}),
        (
            "message",
            lambda line: {"@timestamp": "2026-03-01T08:00:01Z", "log": {"offset": 1}, "message": line},
        ),
        ("json", lambda line: {"@timestamp": "2026-03-01T08:00:01Z", "json": orjson.loads(line)}),
        ("log", lambda line: {"date": 1772352001.2, "log": line + "\n", "stream": "stdout"}),
    ],
)
def test_lines_within_a_shippers_are_refused_and_how_to_take_them_out_is_said(
    bundle: Bundle, tmp_path: Path, name: str, wrap: Callable[[str], dict[str, Any]]
) -> None:
    """Vector's looked like the original project's, and who was to be erased was found in none."""
    log = log_of(bundle, ROWS[:3], tmp_path / "a.jsonl")
    lines = log.read_text().splitlines()
    log.write_bytes(b"".join(orjson.dumps(wrap(line)) + b"\n" for line in lines))
    for command in ("report", "drift", "performance", "replay", "verify-log", "find", "erase"):
        told = ["--id", f"{INSTANCE}-1"] if command in ("find", "erase") else []
        with pytest.raises(LogError, match=rf"with `jq -rc \.{name} "):
            main([command, str(tmp_path), *told])


def test_scripts_are_told_of_a_replay_a_check_and_an_erasure(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_of(bundle, ROWS[:30], tmp_path / "a.jsonl")

    def told(command: str, *more: str) -> tuple[int, dict[str, Any]]:
        code = main([command, str(tmp_path), "--json", *more])
        return code, orjson.loads(capsys.readouterr().out)

    code, found = told("replay", "--model", str(bundle.directory))
    assert (code, found["rows"], found["equal"], found["disagreeing"]) == (0, 30, 30, 0)
    code, found = told("verify-log")
    assert (code, found["verdict"], found["lines"], found["seals"]) == (4, "not provable", 30, None)
    code, found = told("erase", "--id", f"{INSTANCE}-7")
    assert (code, found["complete"], found["lines"]) == (0, True, 1)
    assert found["files"] == [str(tmp_path / "a.jsonl")]


def test_rows_are_found_and_erased_by_a_field(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = log_of(bundle, ROWS[:30], tmp_path / "a.jsonl")
    lines = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    for i, line in enumerate(lines):
        line["input"]["client"] = f"C-{i % 10}"
    log.write_bytes(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
    of = [str(tmp_path), "--context"]
    assert main(["find", *of, "client=C-3"]) == 0
    found = [orjson.loads(line)["input"]["client"] for line in capsys.readouterr().out.splitlines()]
    assert found == ["C-3"] * 3
    assert main(["erase", *of, "client=C-3", "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["lines"] == 3
    assert main(["find", *of, "client=C-3"]) == 3
    for words in ("klient=C-3", "client", "=C-3"):
        with pytest.raises(LogError, match="expected"):
            main(["erase", *of, words])


def test_mark_before_the_first_line_hides_no_decision(bundle: Bundle, tmp_path: Path) -> None:
    log = log_of(bundle, ROWS[:30], tmp_path / "a.jsonl")
    log.write_bytes(b"\xef\xbb\xbf" + log.read_bytes())
    assert outcome_report([log], bundle).decisions == replay([log], bundle).rows == 30
    assert erase([log], ResponseIds([f"{INSTANCE}-1"])).lines == 1


def test_a_pause_of_days_is_no_wrong_clock(bundle: Bundle, tmp_path: Path) -> None:
    log = log_of(bundle, ROWS[:3], tmp_path / "a.jsonl", seconds=86_400)
    log_of(bundle, ROWS[3:50], log, first=4, start=datetime(2026, 5, 1, tzinfo=UTC))
    with open_log([log]) as table:
        assert table.astray == 0


def test_lines_that_are_there_twice_count_once_and_are_said(bundle: Bundle, tmp_path: Path) -> None:
    log = log_of(bundle, ROWS, tmp_path / "a.jsonl")
    shutil.copy(log, tmp_path / "copy.jsonl")
    report = make_report([tmp_path], bundle)
    assert (report.figures.requests, report.figures.doubled) == (400, 400)
    assert report.drift is not None
    assert report.drift.to_dict() | {"doubled": 0} == drift_of_files([log], bundle).to_dict()
    assert report.verification is not None
    assert report.verification.duplicates == 400


def test_the_original_projects_risks_are_counted(tmp_path: Path) -> None:
    """Its sentences, its one-hot features: none of ours is missing for that it has others."""
    records = [
        {
            "timestamp": f"2025-10-01T09:{i:02d}:00.000000+00:00",
            "input": {"EXT_SOURCE_2": 0.3, "CODE_GENDER_F": 1},
            "prediction": f"Score : {i / 60:.4f} → {'❌ Risque élevé' if i >= 45 else '✅ Faible risque'}",
            "duration": 0.04,
            "cpu_percent": 2.0,
            "memory_usage_MB": 260.0,
        }
        for i in range(60)
    ]
    log = tmp_path / "calls.jsonl"
    log.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    done = run("-m", "monitoring", "report", str(log), "--html", str(tmp_path / "r.html"))
    assert done.returncode == 0, done.stderr
    assert "high risk, “refuse”" in done.stdout
    figures = make_report([log], None).figures
    assert (figures.refusal_rate, figures.doubled) == (0.25, 0)
    log.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records[:45]))
    assert make_report([log], None).figures.refusal_rate == 0.0


def test_report_tells_scripts_what_it_found(bundle: Bundle, tmp_path: Path) -> None:
    """Drift, or a lost line; without --check a report is a report."""
    clean = log_of(bundle, ROWS, tmp_path / "clean.jsonl")
    drifted = log_of(bundle, [{**row, "income": 5.0} for row in ROWS], tmp_path / "drifted.jsonl")
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(b"".join(clean.read_bytes().splitlines(keepends=True)[:250:2]))
    for log, code in ((clean, 0), (drifted, 3), (torn, 3)):
        command = ["report", str(log), "--model", str(bundle.directory), "--html", str(tmp_path / "r.html")]
        assert (main(command), main([*command, "--check"])) == (0, code), log


def csv(path: Path, rows: list[dict[str, Any]], names: tuple[str, ...], separator: str = ",") -> Path:
    cells = [[str(row.get(name, "")) for name in names] for row in rows]
    path.write_text("\n".join(separator.join(line) for line in [list(names), *cells]) + "\n")
    return path


def test_a_vanished_or_renamed_column_is_drift_and_named(bundle: Bundle, tmp_path: Path) -> None:
    renamed = [{"revenue" if k == "income" else k: v for k, v in row.items()} for row in ROWS]
    file = csv(tmp_path / "a.csv", renamed, ("revenue", "contract", "owner"))
    done = run("-m", "monitoring", "drift", str(file), "--model", str(bundle.directory))
    assert done.returncode == 3
    said = " ".join(done.stdout.split())
    assert "In no row: income." in said
    assert "under other names: revenue" in said


def test_tables_are_read_as_people_have_them(bundle: Bundle, tmp_path: Path) -> None:
    names = THREE_FEATURES.names
    plain = counts([csv(tmp_path / "a.csv", ROWS, names)], bundle)
    french = [{k: str(v).replace(".", ",") if k == "income" else v for k, v in row.items()} for row in ROWS]
    file = csv(tmp_path / "b.csv", [{n: row.get(n, "NA") for n in names} for row in french], names, ";")
    file.write_bytes(file.read_text().encode("utf-16"))
    assert counts([file], bundle) == plain
    packed = gz(csv(tmp_path / "c.csv", ROWS, names))
    assert counts([packed], bundle) == plain


def test_a_text_that_is_no_number_is_a_value_never_seen_not_a_gap(bundle: Bundle, tmp_path: Path) -> None:
    rows = [row | ({"income": "unknown"} if i % 4 == 0 else {}) for i, row in enumerate(ROWS)]
    income = columns([csv(tmp_path / "a.csv", rows, THREE_FEATURES.names)], bundle)["income"]
    assert (income.unseen_rate, income.missing_rate) == (0.25, 0.0)


@pytest.mark.parametrize("content", ["", "income,contract,owner\n", "a,b\n1,2\n", "\x00\x01\x02"])
def test_a_table_without_rows_is_one_sentence(bundle: Bundle, tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(content)
    done = run("-m", "monitoring", "drift", str(file), "--model", str(bundle.directory))
    assert done.returncode == 1
    assert done.stderr.startswith("expected")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"[1, 2", b'{"ts":1}\n', b"\x1f\x8b"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_file_that_is_no_log_is_one_sentence(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    credit = Bundle.load(CREDIT)
    for read in (make_report, replay):
        with pytest.raises(LogError, match=r"^expected"):
            read([tmp_path], credit)


@pytest.mark.parametrize(
    "record",
    [
        {"event": "opened"},
        {"event": "opened", "ts": "2026-11-28T00:00:00Z", "boots": 7},
        {"event": "closed", "boots": [], "lines": 1, "dropped": 0},
        {"event": "closed", "boots": [INSTANCE], "lines": "1", "dropped": None},
        {"event": "removed", "files": [5]},
        {"event": "erased", "numbers": {INSTANCE: [None, 1e99]}},
        {"event": "admitted", "boots": None},
        {"event": "opened", "ts": "", "boots": [INSTANCE], "masked": 7},
    ],
)
def test_journal_that_no_server_wrote_is_refused_in_a_sentence(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    (tmp_path / "log.jsonl").write_bytes(b'{"id":"0123456789ab-1","seq":1,"input":{}}\n')
    (tmp_path / "log.ledger").write_bytes(
        orjson.dumps({"event": "of tomorrow"}) + b"\n" + orjson.dumps(record)
    )
    with pytest.raises(LogError, match=r"^expected record 2 of .*log\.ledger as the server wrote it"):
        verify([tmp_path])


def test_pipes_beside_a_log_are_passed_over(tmp_path: Path) -> None:
    """Whoever opens one waits until somebody writes into it."""
    (tmp_path / "log.jsonl").write_bytes(b'{"id":"0123456789ab-1","seq":1,"input":{}}\n')
    for name in ("log.ledger", "log.reviews.ndjson"):
        os.mkfifo(tmp_path / name)
    assert not journals_of([tmp_path / "log.jsonl"])
    assert not reviews_in(tmp_path)
