"""Files that are read again when they change, also where that is not possible at once."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from server.access import watched
from server.access.watched import WatchedFiles
from server.errors import SettingsError

FAILURES = [SettingsError("no descriptor"), OSError("no descriptor"), MemoryError()]


class Failing:
    """Reads a file, but not at first."""

    def __init__(self, path: Path, failures: list[Exception], done: Callable[[], None]) -> None:
        self.path, self.failures, self.done = path, failures, done
        self.reads: list[str] = []

    def __call__(self) -> None:
        if self.failures:
            raise self.failures.pop()
        self.reads.append(self.path.read_text())
        self.done()


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_file_that_could_not_be_read_is_tried_again_and_told_once(
    tmp_path: Path, failure: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For want of descriptors a key that is withdrawn would stay valid until the file changes again."""
    monkeypatch.setattr(watched, "LOOK_SECONDS", 0.0)
    caplog.set_level(logging.ERROR)
    path = tmp_path / "keys"
    path.write_text("first")

    async def changed() -> Failing:
        read = asyncio.Event()
        reading = Failing(path, [failure] * 5, read.set)
        files = WatchedFiles([path], reading)
        path.write_text("changed")
        files.start()
        await asyncio.wait_for(read.wait(), 60)
        files.look()  # as it was read
        return reading

    reading = asyncio.run(changed())
    assert reading.reads == ["changed"]
    assert not reading.failures
    assert len(caplog.records) == 1
