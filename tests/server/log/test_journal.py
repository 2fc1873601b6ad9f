"""What is written beside a log, on a disk that is full for a while."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.log.journal import LogJournal
from server.log.reviews import Reviews
from server.log.seal import records


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file gets larger than that, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("key", [None, b"k" * 32])
@pytest.mark.parametrize("room", [0, 1, 30])
def test_record_that_does_not_fit_leaves_no_part_of_one(tmp_path: Path, key: bytes | None, room: int) -> None:
    """Behind a part of a record the next one would be on its line, and so be lost too."""
    journal = LogJournal(tmp_path / "a.jsonl", key)
    journal.closed(["1"], 1, 0)
    whole = journal.path.read_bytes()
    with full_after(len(whole) + room):
        journal.closed(["2"], 1, 0)
    assert journal.path.read_bytes() == whole
    journal.closed(["3"], 1, 0)
    assert [record["boots"] for record in records(journal.path.read_bytes())] == [["1"], ["3"]]


@pytest.mark.parametrize("room", [0, 1, 30])
def test_review_that_does_not_fit_takes_the_next_one_not_with_it(tmp_path: Path, room: int) -> None:
    reviews = Reviews(tmp_path, "page")
    reviews.add({"of": "a-1", "note": "x" * 40})
    with full_after(reviews.path.stat().st_size + room), pytest.raises(OSError, match=r"large|space"):
        reviews.add({"of": "a-2", "note": "x" * 40})
    reviews.add({"of": "a-3"})
    assert [review["of"] for review in reviews.all()] == ["a-1", "a-3"]
