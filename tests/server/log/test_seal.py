"""What was changed in a sealed log is named, whatever it is, and what its server did is not."""

import gzip
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import orjson
import pytest

from monitoring.__main__ import main
from monitoring.errors import LogError
from monitoring.logs.erasure import erase
from monitoring.logs.seals import check_seals
from monitoring.logs.subject import ResponseIds
from server.log.file import LogFile
from server.log.journal import LogJournal
from server.log.rotation import RetentionPolicy, closed_files
from server.log.seal import Hashing, Unsealed

KEY = b"0123456789abcdef0123456789abcdef"
BOOT, LINES = "0123456789ab", 30
NAME = "predictions-1-0.jsonl"


@pytest.fixture(scope="module")
def sealed_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three closed files and an open one, as an observer leaves them when its server has stopped."""
    folder = tmp_path_factory.mktemp("sealed") / "logs"
    (folder.parent / "key").write_bytes(KEY)
    write_lines(folder / NAME, 1, LINES)
    return folder


def write_lines(path: Path, first: int, last: int) -> None:
    """What one process writes, and the observer seals."""
    boot = f"{BOOT[:-1]}{first % 10}"
    file, journal = LogFile(path, RetentionPolicy(file_bytes=700)), LogJournal(path, KEY)
    journal.began("opened", 1, {boot: "ab" * 32}, {})
    for number in range(1, last - first + 2):
        line = {"id": f"{boot}-{number}", "seq": number, "model": "m@1", "input": {"a": first + number}}
        file.append([orjson.dumps(line) + b"\n"])
    file.close()
    unsealed = Unsealed(path, journal.path)
    while (found := unsealed.step()) is not None or unsealed.is_at_work:
        if found is not None:
            journal.sealed(found)
    journal.closed([boot], last - first + 1, 0, Hashing(path).finish())


def verdict(folder: Path, *more: str) -> tuple[int, str]:
    with redirect_stdout(StringIO()) as out:
        code = main(["verify-log", str(folder), "--key-file", str(folder.parent / "key"), *more])
    return code, " ".join(out.getvalue().split())


def last_seal(folder: Path) -> str:
    return verdict(folder)[1].rsplit(" ", 1)[1]


def edited(file: Path, edit: Callable[[bytes], bytes]) -> None:
    file.chmod(0o600)
    file.write_bytes(edit(file.read_bytes()))


def swapped(content: bytes) -> bytes:
    first, second, *rest = content.splitlines(keepends=True)
    return b"".join([second, first, *rest])


def closed(folder: Path, at: int) -> Path:
    return closed_files(folder / NAME)[at]


def swap_files(folder: Path) -> None:
    a, b = closed(folder, 0), closed(folder, 1)
    first, second = a.read_bytes(), b.read_bytes()
    edited(a, lambda _: second)
    edited(b, lambda _: first)


def drop_record(folder: Path, at: int) -> None:
    def dropped(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        del lines[at]
        return b"".join(lines)

    edited(folder / "predictions-1-0.ledger", dropped)


def unsealed_records(content: bytes) -> bytes:
    records = [orjson.loads(line) for line in content.splitlines()]
    for record in records:
        record.pop("seal")
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


CHANGES: dict[str, Callable[[Path], None]] = {
    "a byte of a closed file": lambda f: edited(closed(f, 1), lambda c: c.replace(b'"a":', b'"b":', 1)),
    "a byte of the open file": lambda f: edited(f / NAME, lambda c: c.replace(b'"a":', b'"b":', 1)),
    "the order of two lines": lambda f: edited(closed(f, 0), swapped),
    "the order of two files": swap_files,
    "a file is gone": lambda f: closed(f, 1).unlink(),
    "the last closed file is gone": lambda f: closed(f, -1).unlink(),
    "the open file is gone": lambda f: (f / NAME).unlink(),
    "the tail of the open file": lambda f: edited(f / NAME, lambda c: c[: c.rstrip().rfind(b"\n") + 1]),
    "a byte of the journal": lambda f: edited(
        f / "predictions-1-0.ledger", lambda c: c.replace(b'"dropped":0', b'"dropped":9')
    ),
    "a record of the journal is gone": lambda f: drop_record(f, 1),
    "the first record of the journal is gone": lambda f: drop_record(f, 0),
    "the journal without seals": lambda f: edited(f / "predictions-1-0.ledger", unsealed_records),
    "the journal is gone": lambda f: (f / "predictions-1-0.ledger").unlink(),
}


def test_log_as_its_server_left_it_is_as_it_was_sealed(sealed_log: Path, tmp_path: Path) -> None:
    code, text = verdict(sealed_log)
    assert (code, "Nothing that was sealed has been changed." in text, "Not sealed" in text) == (
        0,
        True,
        False,
    )
    assert verdict(sealed_log, "--anchor", last_seal(sealed_log))[0] == 0
    again = tmp_path / "logs"
    shutil.copytree(sealed_log.parent, tmp_path, dirs_exist_ok=True)
    before = last_seal(again)
    write_lines(again / NAME, 32, 45)  # the next process closes the file that was open
    assert verdict(again, "--anchor", before)[0] == 0
    LogJournal(again / NAME, KEY).removed([closed(again, 0)])
    closed(again, 0).unlink()
    assert verdict(again)[0] == 0
    for file in closed_files(again / NAME)[:2]:
        with gzip.open(f"{file}.gz", "wb") as packed:
            packed.write(file.read_bytes())
        file.unlink()
    assert verdict(again)[0] == 0


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_is_told(sealed_log: Path, tmp_path: Path, change: str) -> None:
    shutil.copytree(sealed_log.parent, tmp_path, dirs_exist_ok=True)
    CHANGES[change](tmp_path / "logs")
    code, text = verdict(tmp_path / "logs")
    assert (code, "Changed:" in text) == (3, True), text


def test_end_of_the_journal_is_told_by_a_seal_kept_elsewhere(sealed_log: Path, tmp_path: Path) -> None:
    shutil.copytree(sealed_log.parent, tmp_path, dirs_exist_ok=True)
    head = last_seal(sealed_log)
    drop_record(tmp_path / "logs", -1)
    assert verdict(tmp_path / "logs")[0] == 4
    assert verdict(tmp_path / "logs", "--anchor", head)[0] == 3
    (tmp_path / "key").write_bytes(KEY[::-1])
    assert verdict(tmp_path / "logs")[0] == 3


def test_erasure_seals_what_it_left_and_needs_the_key(sealed_log: Path, tmp_path: Path) -> None:
    shutil.copytree(sealed_log.parent, tmp_path, dirs_exist_ok=True)
    logs = tmp_path / "logs"
    whose = ResponseIds([f"{BOOT[:-1]}1-3", f"{BOOT[:-1]}1-{LINES}"])
    with pytest.raises(LogError, match="--key-file"):
        erase([logs], whose)
    assert erase([logs], whose, KEY).lines == 2
    assert verdict(logs)[0] == 0
    edited(logs / NAME, lambda content: content + content.splitlines(keepends=True)[0])
    assert check_seals([logs / NAME], KEY).open_ended == [NAME]
