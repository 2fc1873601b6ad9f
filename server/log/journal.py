"""What a log can be checked against: the instances that wrote to it, and how many lines each left."""

import fcntl
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from server.durable import append_whole
from server.log.seal import DIGEST, SEAL, SIZE, Hashing, last_seal, sealed

logger = logging.getLogger(__name__)

JOURNAL_SUFFIX = ".ledger"


class LogJournal:
    """Appends records beside one log: `opened`, `admitted`, `closed`, `sealed`, `removed` and `erased`.

    A number is missing from a log only if a line is: `seq` has no gaps. But the
    last lines of a killed process leave none, nor does an instance that lost them all;
    that an instance was opened and not closed, or closed after more lines than there
    are, shows it. A journal that cannot be written stops nothing. With a `key` each record
    is sealed (`server/log/seal.py`).
    """

    def __init__(self, log: Path, key: bytes | None = None) -> None:
        self._key = key
        self.path = log.with_name(log.stem + JOURNAL_SUFFIX)

    def began(self, event: str, pid: int, instances: Mapping[str, str], masked: Mapping[str, str]) -> None:
        """These instances, the prefixes of the ids to come, of a process write to the log from now on.

        They are `opened` with it, or `admitted` where a reload brought their models. Each stands for
        the digest of its model, every file of it. `masked` says how the fields that lines do not show
        are hidden.
        """
        # `boots` is what instances were once called.
        record = {"event": event, "boots": list(instances), "digests": instances, "pid": pid}
        self._append(record | {"masked": masked})

    def closed(self, instances: Sequence[str], lines: int, dropped: int, file: Hashing | None = None) -> None:
        """They wrote this many lines, and dropped so many that they should have written; into `file`."""
        record = {"event": "closed", "boots": instances, "lines": lines, "dropped": dropped}
        self._append(record | _digest(file))

    def sealed(self, file: Hashing) -> None:
        """This file is closed, and will not change any more."""
        self._append({"event": "sealed"} | _digest(file))

    def removed(self, files: Sequence[Path]) -> None:
        """These closed files were old, or too many, and are deleted now."""
        self._append({"event": "removed", "files": [file.name for file in files]})

    def erased(
        self, file: Path, gone: Sequence[tuple[str, int]], rows: int, left: tuple[int, str] | None = None
    ) -> None:
        """Lines of a subject, by instance and number, and rows of other lines, are taken out of a file.

        `left` are the size and the SHA-256 of what is left, for a journal with seals.

        Raises `OSError`: what the journal does not tell would look like a loss.
        """
        numbers: dict[str, list[int]] = {}
        for instance, number in gone:
            numbers.setdefault(instance, []).append(number)
        record = {"event": "erased", "file": file.name, "numbers": numbers, "rows": rows}
        self._write(record | (dict(zip((SIZE, DIGEST), left, strict=True)) if left else {}))

    def _append(self, record: dict[str, Any]) -> None:
        try:
            self._write(record)
        except OSError as error:
            logger.error("The journal %s cannot be written: %s", self.path, error.strerror)

    def _write(self, record: dict[str, Any]) -> None:
        record = {"ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **record}
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if self._key is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # an erasure writes behind the same last seal
                record = record | {SEAL: sealed(self._key, last_seal(self.path.read_bytes()), record)}
            append_whole(descriptor, orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _digest(file: Hashing | None) -> dict[str, Any]:
    return {"file": file.path.name, SIZE: file.size, DIGEST: file.digest} if file else {}
