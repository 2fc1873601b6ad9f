"""What people decided after the model: one line each, beside the prediction log."""

import fcntl
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import orjson

from server.durable import append_whole, sync_directory
from server.model.row_names import sought

#: Not that of the log's own lines: a reader of predictions passes these files over.
SUFFIX = ".reviews.ndjson"


class Reviews:
    """Appends to one file and reads it; whoever writes holds it for that moment.

    A review is `{"ts", "of", "by_model", "decision", "reason", "note", "user"}`: `of` is the id of the
    response that was looked at, `decision` what the person decided, that of the model or another.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self.path = folder / f"{server}{SUFFIX}"

    def add(self, review: dict[str, Any]) -> None:
        """Write one, on the disk when this returns; raises `OSError`."""
        is_new = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            append_whole(descriptor, orjson.dumps(review, option=orjson.OPT_APPEND_NEWLINE))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_directory(self.path.parent)

    def all(self) -> list[dict[str, Any]]:
        """Every review, the oldest first; half a line that a crash left is passed over."""
        return read_reviews(self.path)

    def of(self, ids: Collection[str]) -> list[dict[str, Any]]:
        """Those of some responses."""
        return [review for review in self.all() if review.get("of") in ids]


def read_reviews(path: Path) -> list[dict[str, Any]]:
    """The reviews in a file, none if there is none."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [review for line in lines if (review := _review(line)) is not None]


def _review(line: bytes) -> dict[str, Any] | None:
    try:
        review = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return review if isinstance(review, dict) and "of" in review else None


def _of(line: bytes) -> set[str]:
    name = str((_review(line) or {}).get("of", ""))
    return {name, sought(name)} - {""}


def erase_reviews(folder: Path, ids: Collection[str]) -> int:
    """Take the reviews of some responses, or rows of them, out of a folder's files; how many."""
    gone = 0
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with open(path, "rb+") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            lines = file.read().splitlines(keepends=True)
            kept = [line for line in lines if _of(line).isdisjoint(ids)]
            if len(kept) < len(lines):
                gone += len(lines) - len(kept)
                file.seek(0)
                file.write(b"".join(kept))
                file.truncate()
                os.fsync(file.fileno())
    return gone
