"""The journal of a log on a disk that is full for a while."""

import resource
from pathlib import Path

import pytest

from server.log.journal import LogJournal
from server.log.seal import records


@pytest.mark.parametrize("key", [None, b"k" * 32])
@pytest.mark.parametrize("room", [0, 1, 30])
def test_record_that_does_not_fit_leaves_no_part_of_one(tmp_path: Path, key: bytes | None, room: int) -> None:
    """Behind a part of a record the next one would be on its line, and so be lost too."""
    journal = LogJournal(tmp_path / "a.jsonl", key)
    journal.closed(["1"], 1, 0)
    whole, before = journal.path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + room, before[1]))
    try:
        journal.closed(["2"], 1, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert journal.path.read_bytes() == whole
    journal.closed(["3"], 1, 0)
    assert [record["boots"] for record in records(journal.path.read_bytes())] == [["1"], ["3"]]
