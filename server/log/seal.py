"""Seals over a log: what was written cannot be changed unnoticed by who has no key.

Each record of the journal is sealed together with the seal before it, and tells the
SHA-256 of a file once it is closed. The key is HOTROW_LOG_KEY_FILE's, outside of the folder.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from server.log.rotation import closed_files
from server.model.json_text import object_or_empty

SEAL, DIGEST, SIZE = "seal", "sha256", "bytes"
#: A file is hashed in pieces, so that lines need not wait for it.
PIECE_BYTES = 2**22
_PURPOSE = b"hotrow journal"


def sealed(key: bytes, before: str, record: Mapping[str, Any]) -> str:
    """The seal of a record behind the seal `before` (empty of the first): HMAC-SHA-256, hexadecimal."""
    import hmac  # half a megabyte that an observer without a key does without

    own = hmac.digest(key, _PURPOSE, "sha256")  # values are hashed with the key itself
    content = {name: value for name, value in record.items() if name != SEAL}
    return hmac.digest(own, before.encode() + orjson.dumps(content), "sha256").hex()


def records(journal: bytes) -> Iterator[dict[str, Any]]:
    """The records of a journal; what a crash left of one is passed over."""
    return filter(None, map(object_or_empty, journal.splitlines()))


def last_seal(journal: bytes) -> str:
    """The seal of the last record, empty if there is none; from the end, as each record asks for it."""
    newest_first = map(object_or_empty, reversed(journal.splitlines()))
    return next((str(record[SEAL]) for record in newest_first if SEAL in record), "")


class Hashing:
    """The SHA-256 of a growing part of one file, taken in pieces."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin(0)

    def _begin(self, inode: int) -> None:
        import hashlib  # as above

        self.size, self._inode = 0, inode
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """That of the first `size` bytes."""
        return self._hash.hexdigest()

    def step(self) -> bool:
        """Take one more piece; whether there was one. Raises `OSError`."""
        with open(self.path, "rb") as file:
            if (inode := os.fstat(file.fileno()).st_ino) != self._inode:
                self._begin(inode)  # the first piece, or an erasure put another file there
            file.seek(self.size)
            piece = file.read(PIECE_BYTES)
        self._hash.update(piece)
        self.size += len(piece)
        return bool(piece)

    def finish(self) -> "Hashing":
        """Take all that is there; raises `OSError`."""
        while self.step():
            pass
        return self


class Unsealed:
    """The closed files of one log whose digest its journal does not tell yet, hashed piece by piece."""

    def __init__(self, path: Path, journal: Path) -> None:
        self._path = path
        told = records(journal.read_bytes()) if journal.is_file() else ()
        self._done = {str(one["file"]) for one in told if DIGEST in one and "file" in one}
        self._current: Hashing | None = None

    def step(self) -> Hashing | None:
        """Take one more piece; a file that came to its end by it. Raises `OSError`."""
        if self._current is None:
            waiting = (file for file in closed_files(self._path) if file.name not in self._done)
            if (file := next(waiting, None)) is None:
                return None
            self._current = Hashing(file)
        if self._current.step():
            return None
        found, self._current = self._current, None
        self._done.add(found.path.name)
        return found

    @property
    def is_at_work(self) -> bool:
        """Whether a file is hashed in part."""
        return self._current is not None
