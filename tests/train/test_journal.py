"""The journal of a study: what other runs, kills and full disks leave of it."""

import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from train.errors import TrainingRefused
from train.study.journal import Journal

ENTRIES = [{"op_code": 0, "study_name": "x"}, {"op_code": 4, "params": [1, 2]}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "study.log"
    with closing(Journal(path)) as journal:
        journal.append_logs(ENTRIES)
    return path


def entries(path: Path) -> list[object]:
    with closing(Journal(path)) as journal:
        return list(journal.read_logs(0))


def test_entries_are_read_again_from_any_number_on(path: Path) -> None:
    with closing(Journal(path)) as journal:
        assert list(journal.read_logs(1)) == ENTRIES[1:]
        journal.append_logs([{"op_code": 5}])
        assert list(journal.read_logs(2)) == [{"op_code": 5}]
    assert entries(path) == [*ENTRIES, {"op_code": 5}]


def test_a_second_run_of_the_same_study_is_refused_and_the_first_goes_on(path: Path) -> None:
    with closing(Journal(path)) as first:
        with pytest.raises(TrainingRefused, match=r"the only run of this study.* with --runs"):
            Journal(path)
        first.append_logs(ENTRIES)
    assert entries(path) == ENTRIES * 2


@pytest.mark.parametrize(
    "rest",
    [b'{"op_code":9', b'{"op_code":9}', b'{"op_code":9{"op_code":5}\n{"op_code":6}\n', b"7\n", b"\0" * 99],
)
def test_what_a_kill_or_a_full_disk_left_half_written_is_dropped(path: Path, rest: bytes) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + rest)
    assert entries(path) == ENTRIES
    assert path.read_bytes() == whole


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What a full disk does to a write, without a disk to fill."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_sentence_and_loses_no_entry(path: Path) -> None:
    with closing(Journal(path)) as journal:
        with (
            files_of_at_most(path.stat().st_size + 10),
            pytest.raises(TrainingRefused, match=r"the study in .*runs, got: File too large: make"),
        ):
            journal.append_logs(ENTRIES)
        assert list(journal.read_logs(0)) == ENTRIES
        journal.append_logs(ENTRIES)  # there is room again
    assert entries(path) == ENTRIES * 2
