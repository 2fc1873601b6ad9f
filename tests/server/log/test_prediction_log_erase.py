"""One subject is taken out of a log, and the log still proves that no other line is missing."""

import os
import signal
import stat
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from monitoring.logs.erasure import erase
from monitoring.logs.files import log_files
from monitoring.logs.seals import check_seals
from monitoring.logs.subject import Hashed, ResponseIds, subject_of
from monitoring.logs.verification import verify
from monitoring.logs.verification_text import print_verification
from server.log.journal import LogJournal
from server.log.reviews import Reviews
from server.model.bundle import Bundle
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.commands import run_inside
from tests.support.monitored import logged, monitored_bundle, send_all
from tests.support.servers import exchange, post, run, serving

pytestmark = pytest.mark.whole

KEY = b"0123456789abcdef0123456789abcdef"
SUBJECT = {"income": 4242.5, "contract": "none"}
OTHERS = sample_rows(THREE_FEATURES, 40, seed=3)
INSTANCE = "0123456789ab"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("erase") / "three")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_bytes(KEY)
    return file


def test_a_subject_is_erased_from_closed_files_and_from_the_open_one_once_its_server_stopped(
    bundle: Bundle, key: Path, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    settings = {"log_mask": "income=hash", "log_key_file": str(key), "log_file_bytes": "3000"}
    batch = orjson.dumps({"rows": [OTHERS[0], SUBJECT, OTHERS[1]]})
    subject_ = subject_of("income=4242.5", key)
    hash_ = subject_.digest
    value = ("--value", "income=4242.5", "--key-file", str(key))
    with serving(bundle.directory, tmp_path, log_mode="strict", **settings) as subject:
        send_all(subject.url, [SUBJECT, *OTHERS[:20], SUBJECT, *OTHERS[20:]])
        assert exchange(subject.url, post("/predict/batch", batch))[0].status == 200
        send_all(subject.url, [SUBJECT])
        before = {line["id"]: line for line in logged(logs)}
        closed = {file: file.stat() for file in log_files([logs]) if file.stat().st_mode & 0o777 == 0o400}
        assert len(closed) > 2
        erased = erase([logs], subject_, KEY)
        assert (erased.lines, len(erased.in_use)) == (2, 1)
        os.kill(subject.pid, signal.SIGTERM)
        subject.process.wait(timeout=60)
    done = run("-m", "monitoring", "erase", str(logs), *value)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [file for file in logs.iterdir() if hash_.encode() in file.read_bytes()]
    after = {line["id"]: line for line in logged(logs)}
    gone = [before[id_] for id_ in before.keys() - after.keys()]
    assert [line["input"]["income"] for line in gone] == [hash_] * 3
    (shorter,) = [line for id_, line in after.items() if line != before[id_]]
    assert len(shorter["input"]["rows"]) == len(shorter["probabilities"]) == len(shorter["decisions"]) == 2
    for file, was in closed.items():
        assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_mtime_ns) == (0o400, was.st_mtime_ns)
    checked = verify([logs])
    assert (checked.whole, checked.instances[0].erased) == (True, 3)
    seals = check_seals(checked.files, KEY)
    assert (seals.faults, seals.open_ended) == ([], [])
    console = Console(file=StringIO(), width=200)
    print_verification(checked, console)
    assert "3 erased for a subject" in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


def _log(folder: Path, subjects: dict[int, str], lines: int = 9) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "predictions-1-0.jsonl"
    records = [
        {"id": f"{INSTANCE}-{i}", "seq": i, "input": {"a": subjects.get(i, "other")}}
        for i in range(1, lines + 1)
    ]
    file.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    journal = LogJournal(file)
    journal.began("opened", 1, {INSTANCE: "ab" * 32}, {"a": "hash"})
    journal.closed([INSTANCE], lines, 0)
    return file


def test_rows_are_erased_by_the_ids_that_people_know(tmp_path: Path) -> None:
    """An answer's own, of one line or several; a client's of a row, alone or in a batch, and of a request."""
    file = _log(tmp_path, {}, lines=4)
    rows = {
        "probabilities": [0.1, 0.2, 0.3],
        "decisions": ["grant"] * 3,
        "input": {"rows": [{"a": 1}, {"a": 2}, {"a": 3}]},
    }
    members: list[dict[str, Any]] = [
        {"row_id": "cli-1", "input": {"a": "13"}},
        {"row_ids": ["cli-1", 3, "x"], **rows},
        {"row_id": 13, "input": {"a": "3"}},
        {"request_id": "r\u00e9q", **rows},
    ]
    records = [{"id": f"{INSTANCE}-{i}", "seq": i, **more} for i, more in enumerate(members, start=5)]
    records += [
        {"id": f"{INSTANCE}-8.{part}", "seq": 8 + part, "first_row": 3 * part, **rows} for part in (1, 2)
    ]
    with open(file, "ab") as log:
        log.write(b"".join(orjson.dumps(record) + b"\n" for record in records))
    LogJournal(file).closed([INSTANCE], 10, 0)
    for ids, lines, fewer in (
        (["3"], 0, 1),
        (["cli-1", "r\u00e9q"], 2, 1),
        ([f"{INSTANCE}-8"], 2, 0),
        ([f"{INSTANCE}-2", "nobody"], 1, 0),
        (["3"], 0, 0),
    ):
        erased = erase([file], ResponseIds(ids))
        assert (erased.lines, erased.rows, len(erased.files)) == (lines, fewer, bool(lines or fewer)), ids
        assert verify([file]).whole
    left = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert [line["seq"] for line in left] == [1, 3, 4, 6, 7]
    assert (left[3]["row_ids"], left[3]["probabilities"], left[4]["row_id"]) == (["x"], [0.3], 13)
    done = run("-m", "monitoring", "erase", str(file), "--id", "13", "--id", "x")
    assert (done.returncode, done.stdout.split(" erased")[0]) == (0, "2 lines, and 0 rows of batches,")


def test_reviews_go_with_their_rows_also_where_a_feature_is_called_rows(tmp_path: Path) -> None:
    file = _log(tmp_path, {}, lines=4)
    records: list[dict[str, Any]] = [
        {"probability": 0.2, "decision": "grant", "input": {"rows": 3}},
        {
            "probabilities": [0.1, 0.2],
            "decisions": ["grant", "grant"],
            "row_ids": ["p", "q"],
            "input": {"rows": [{"rows": 1}, {"rows": 2}]},
        },
    ]
    with open(file, "ab") as log:
        for i, record in enumerate(records, start=5):
            log.write(orjson.dumps({"id": f"{INSTANCE}-{i}", "seq": i, **record}) + b"\n")
    reviews = Reviews(tmp_path, "page-7860")
    for name in ("1", "5", "6/0", "6/1"):
        reviews.add({"of": f"{INSTANCE}-{name}"})
    assert erase([file], ResponseIds([f"{INSTANCE}-5", "q"])).reviews == 2
    assert [review["of"] for review in reviews.all()] == [f"{INSTANCE}-1", f"{INSTANCE}-6/0"]


def test_a_loss_is_found_beside_what_was_erased(tmp_path: Path) -> None:
    file = _log(tmp_path, {1: "a" * 32, 4: "a" * 32, 9: "a" * 32})
    assert erase([file], Hashed("a" * 32)).lines == 3
    assert verify([file]).whole
    kept = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(kept[:2] + kept[3:]))
    checked = verify([file])
    assert (checked.lost, checked.instances[0].gaps) == (1, [(5, 5)])
    file.write_bytes(b"".join(kept[:-1]))
    assert verify([file]).lost == 1


def test_a_boot_of_which_all_is_erased_lost_nothing(tmp_path: Path) -> None:
    file = _log(tmp_path, dict.fromkeys(range(1, 10), "a" * 32))
    assert erase([file], Hashed("a" * 32)).lines == 9
    assert file.read_bytes() == b""
    assert verify([file]).whole


def test_an_erasure_that_a_crash_cut_short_is_no_loss_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _log(tmp_path, {3: "a" * 32})
    before = file.read_bytes()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", crash)  # the journal has told, the file is not yet in its place
        with pytest.raises(KeyboardInterrupt):
            erase([file], Hashed("a" * 32))
    assert file.read_bytes() == before
    assert verify([file]).whole
    assert erase([file], Hashed("a" * 32)).lines == 1
    assert verify([file]).whole
    assert [path.name for path in tmp_path.iterdir() if "rewritten" in path.name] == []


def test_subject_is_found_in_the_folders_of_replicas_too(tmp_path: Path) -> None:
    """As Ray's replicas write them: HOTROW_LOG_DIR/REPLICA-GENERATION."""
    file = _log(tmp_path / "0a1b-1", {2: "a" * 32})
    assert erase([tmp_path], Hashed("a" * 32)).files == [file]
    checked = verify([tmp_path])
    assert (checked.whole, checked.lines) == (True, 8)


def test_half_lines_of_a_subject_go_too(tmp_path: Path) -> None:
    file = _log(tmp_path, {})
    torn = tmp_path / "predictions-1-0.jsonl.torn"
    torn.write_bytes(b'{"id":"x","input":{"a":"' + b"a" * 32)
    erase([file], Hashed("a" * 32))
    assert not torn.exists()


def test_half_a_line_at_the_end_of_a_log_goes_with_its_subject(tmp_path: Path) -> None:
    """A log whose server crashed, and has not been started since."""
    file = _log(tmp_path, {2: "a" * 32})
    with open(file, "ab") as log:
        log.write(b'{"id":"0123456789ab-10","seq":10,"input":{"a":"' + b"a" * 32)
    assert erase([file], Hashed("a" * 32)).lines == 1
    assert (file.read_bytes().count(b"\n"), b"a" * 32 in file.read_bytes()) == (8, False)
    assert verify([file]).whole


@pytest.mark.parametrize("line", [b'{"id":"%s', b'["%s"]', b'{"a":"%s"}'])
def test_line_that_is_none_of_a_log_is_named_and_nothing_is_changed(tmp_path: Path, line: bytes) -> None:
    file = _log(tmp_path, {2: "a" * 32})
    before = line % (b"a" * 32) + b"\n" + file.read_bytes()
    file.write_bytes(before)
    done = run("-m", "monitoring", "erase", str(file), "--subject", "a" * 32)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert str(file) in done.stderr
    assert file.read_bytes() == before
    assert not list(tmp_path.glob("*.rewritten"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--subject", "Smith"), "expected a subject of 32 hexadecimal digits"),
        (("--value", "income=1"), "expected --value FIELD=VALUE and --key-file"),
        (("--value", "income", "--key-file", "README.md"), "expected --value FIELD=VALUE and --key-file"),
    ],
)
def test_a_subject_that_is_none_is_refused_in_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    file = _log(tmp_path, {})
    done = run_inside("-m", "monitoring", "erase", str(file), *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
