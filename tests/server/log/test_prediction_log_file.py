"""The file under the log: whole lines, whatever happens to the disk or the process."""

import errno
import os
import random
import resource
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from server.errors import SettingsError
from server.log.file import LogFile
from server.log.rotation import RetentionPolicy, closed_files, closed_path, expired, number_of

LINES = [b'{"seq":%d,"input":"%s"}\n' % (i, b"x" * (i * 7 % 90)) for i in range(1, 121)]


def _write(path: Path, lines: list[bytes], retention: RetentionPolicy | None = None) -> None:
    file = LogFile(path, retention)
    for line in lines:
        file.append([line])
    file.close()


def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.jsonl"
    _write(path, LINES[:1])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_writers_of_one_file_are_refused(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "a.jsonl")
    with pytest.raises(SettingsError, match="to be free"):
        LogFile(tmp_path / "a.jsonl")
    file.close()


def test_after_a_thousand_random_cuts_every_whole_line_is_there_once_and_the_start_succeeds(
    tmp_path: Path,
) -> None:
    whole = b"".join(LINES)
    path = tmp_path / "a.jsonl"
    choose = random.Random(3)
    for _ in range(1000):
        cut = choose.randint(0, len(whole))
        path.unlink(missing_ok=True)
        path.write_bytes(whole[:cut])
        _write(path, [b'{"seq":"after"}\n'])
        kept = whole[: whole.rfind(b"\n", 0, cut) + 1]
        assert path.read_bytes() == kept + b'{"seq":"after"}\n'


def test_the_half_line_of_a_crash_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES[0] + LINES[1][:9])
    _write(path, [])
    assert (tmp_path / "a.jsonl.torn").read_bytes() == LINES[1][:9] + b"\n"
    assert path.read_bytes() == LINES[0]


def test_a_half_line_longer_than_a_block_is_cut_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES[0] + b"y" * 200_000)
    _write(path, [])
    assert path.read_bytes() == LINES[0]


def test_a_deleted_folder_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.jsonl"
    file = LogFile(path)
    file.append(LINES[:1])
    path.unlink()
    path.parent.rmdir()
    file.append(LINES[1:2])
    file.close()
    assert path.read_bytes() == LINES[1]


def test_a_file_that_is_moved_is_followed_by_one_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    file = LogFile(path, RetentionPolicy(file_bytes=1000))
    for line in LINES[:4]:
        file.append([line])
    path.rename(tmp_path / "moved.jsonl")
    for line in LINES[4:]:
        file.append([line])
    file.close()
    assert (tmp_path / "moved.jsonl").read_bytes() == b"".join(LINES[:4])
    assert b"".join(f.read_bytes() for f in [*closed_files(path), path]) == b"".join(LINES[4:])


def test_lines_are_split_over_files_by_size_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    _write(path, LINES, RetentionPolicy(file_bytes=1000))
    closed = closed_files(path)
    assert len(closed) > 4
    assert all(file.stat().st_size <= 1000 for file in [*closed, path])
    assert b"".join(file.read_bytes() for file in [*closed, path]) == b"".join(LINES)
    assert {stat.S_IMODE(file.stat().st_mode) for file in closed} == {0o400}


def test_closing_a_file_takes_no_look_at_all_that_were_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of thousands of closed files each would cost the next one: 23 ms behind 3,000."""
    path, looks, glob = tmp_path / "a.jsonl", list[object](), Path.glob

    def counted(folder: Path, pattern: str) -> Any:
        looks.append(folder)
        return glob(folder, pattern)

    monkeypatch.setattr(Path, "glob", counted)
    file = LogFile(path, RetentionPolicy(file_bytes=1))
    for line in LINES[:20]:
        file.append([line])
    assert len(looks) == 1
    monkeypatch.undo()
    monkeypatch.setattr(time, "strftime", lambda *_: "20261126T120000Z")
    assert list(map(number_of, closed_files(path))) == list(range(1, 20))
    (tmp_path / closed_path(path, 20).name).write_bytes(LINES[20])  # somebody's
    file.append([LINES[21]])
    assert sorted(map(number_of, closed_files(path)))[-2:] == [20, 21]
    assert b"".join(f.read_bytes() for f in closed_files(path)[:-2]) == b"".join(LINES[:19])


def test_a_file_is_closed_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    file = LogFile(path, RetentionPolicy(file_seconds=3600.0))
    file.append(LINES[:1])
    later = time.monotonic() + 3601
    monkeypatch.setattr(time, "monotonic", lambda: later)
    file.append(LINES[1:2])
    file.close()
    assert [f.read_bytes() for f in closed_files(path)] == [LINES[0]]
    assert path.read_bytes() == LINES[1]


def test_a_clock_that_is_set_back_overwrites_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    for year in (2030, 1999, 2030, 1970):
        monkeypatch.setattr(time, "gmtime", lambda y=year: time.struct_time((y, 1, 1, 0, 0, 0, 0, 1, 0)))
        _write(path, LINES[:40], RetentionPolicy(file_bytes=1000))
    everything = b"".join(file.read_bytes() for file in [*closed_files(path), path])
    assert everything == b"".join(LINES[:40]) * 4


def test_only_closed_files_beyond_age_or_size_are_expired(tmp_path: Path) -> None:
    path = tmp_path / "predictions-8000-0.jsonl"
    _write(path, LINES, RetentionPolicy(file_bytes=1000))
    closed = closed_files(path)
    os.utime(closed[0], (1.0, 1.0))
    assert expired(tmp_path, "predictions-8000-", RetentionPolicy(days=30)) == closed[:1]
    assert expired(tmp_path, "predictions-9000-", RetentionPolicy(days=30)) == []
    total = sum(file.stat().st_size for file in [*closed, path])
    left = total - sum(file.stat().st_size for file in closed[:3])
    assert expired(tmp_path, "predictions-8000-", RetentionPolicy(total_bytes=left)) == closed[:3]
    assert path not in expired(tmp_path, "predictions-8000-", RetentionPolicy(days=1, total_bytes=1))


def test_what_a_crash_an_erasure_or_a_worker_that_is_no_more_left_is_expired_too(tmp_path: Path) -> None:
    names = (
        "predictions-8000-0.jsonl.torn",
        "predictions-8000-0.000001.20200101T000000Z.jsonl",
        "predictions-8000-0.000001.20200101T000000Z.jsonl.rewritten",
        "predictions-8000-5.jsonl",
    )
    for name in names:
        (tmp_path / name).write_bytes(LINES[0])
        os.utime(tmp_path / name, (1.0, 1.0))
    (tmp_path / "predictions-8000-0.ledger").write_bytes(b"{}\n")
    open_one = LogFile(tmp_path / "predictions-8000-0.jsonl")
    os.utime(open_one.path, (1.0, 1.0))
    gone = expired(tmp_path, "predictions-8000-", RetentionPolicy(days=1))
    open_one.close()
    assert sorted(path.name for path in gone) == sorted(names)


def test_a_line_that_does_not_fit_leaves_no_half_line() -> None:
    # EFBIG: the limit is for a whole process, so it gets one of its own.
    command = "from tests.server.log.test_prediction_log_file import fill_to_the_limit; fill_to_the_limit()"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def fill_to_the_limit() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        file = LogFile(path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        written = 0
        refused = 0
        for line in LINES:
            try:
                file.append([line])
            except OSError:
                refused += 1
            else:
                written += len(line)
        assert refused
        assert path.read_bytes().endswith(b"\n")
        assert path.stat().st_size == written <= 1000
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        file.append(LINES[-1:])
        file.close()
        assert path.read_bytes().count(b"\n") == len(LINES) - refused + 1


@pytest.mark.parametrize("call", ["rename", "open", "fchmod", "fsync"])
def test_a_failure_amid_closing_a_file_loses_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.jsonl"
    file = LogFile(path, RetentionPolicy(file_bytes=1000))
    with monkeypatch.context() as broken:
        broken.setattr(os, call, _no_space)
        for line in LINES[:60]:
            file.append([line])
    for line in LINES[60:]:
        file.append([line])
    file.close()
    assert b"".join(f.read_bytes() for f in [*closed_files(path), path]) == b"".join(LINES)


def _no_space(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
