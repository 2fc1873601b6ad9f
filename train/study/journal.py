"""The journal of a study: whole lines, one run at a time."""

import fcntl
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from train.errors import TrainingRefused


class Journal(BaseJournalBackend):
    """Optuna's journal in one file that belongs to this process until it ends.

    Lines are those of Optuna's own `JournalFileBackend`, which would let a second run
    end the first one's trials, and reads no file whose last line was cut off by a kill
    or a full disk: here such a line is dropped, and its trial is tried again. Raises
    `TrainingRefused` if another run has the file, or if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without a buffer: what could not be written must not come after the next entry.
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # open and locked until `close`
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lines = self._read()
        except BlockingIOError:
            self.close()
            raise TrainingRefused(
                f"expected to be the only run of this study, got another that keeps it in {path}: "
                "wait for its end, or name another folder with --runs"
            ) from None
        except OSError as error:
            self.close()
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Let another run have the file."""
        self._file.close()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The entries from a number on."""
        return map(json.loads, self._lines[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add entries, on the disk when this returns; a part of them is taken back if there is no room."""
        lines = [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
        size = self._file.seek(0, os.SEEK_END)
        rest = memoryview(b"".join(lines))
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(size)
            raise self._unwritable(error) from None
        self._lines += lines

    def _read(self) -> list[bytes]:
        """The lines up to the first that is no entry; what follows is cut off."""
        lines = list(itertools.takewhile(_is_entry, self._path.read_bytes().splitlines(keepends=True)))
        self._file.truncate(sum(map(len, lines)))
        return lines

    def _unwritable(self, error: OSError) -> TrainingRefused:
        return TrainingRefused(
            f"expected to keep the study in {self._path.parent}, got: {error.strerror}: make room, or name "
            "another folder with --runs; what was tried so far is kept"
        )


def _is_entry(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False
