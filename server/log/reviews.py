"""What people decided after the model: one line each, beside the prediction log."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from server.durable import append_synced, drop_lines
from server.errors import FieldError, UnacceptableRow, listed
from server.log.rotation import rewritten
from server.model.json_text import object_or_empty
from server.model.row_names import sought

#: Not that of the log's own lines: a reader of predictions passes these files over.
SUFFIX = ".reviews.ndjson"
#: What people write, in characters.
MOST_CHARACTERS = {"reason": 500, "note": 2000, "user": 200}


def printable(given: Any) -> str:
    """What can be shown and logged of a text from the network, no blanks around it; "" of what is none."""
    return "".join(filter(str.isprintable, given.strip())).strip() if isinstance(given, str) else ""


def check_decision(told: str, choices: Sequence[str]) -> None:
    """Raise `UnacceptableRow` for a decision that the model could not have come to."""
    if told not in choices:
        error = FieldError("/decision", f"expected a decision of {listed(choices)}, got another")
        raise UnacceptableRow(error.detail, errors=[error])


def review_of(of: str, by_model: str, decision: str, **said: str) -> dict[str, Any]:
    """What is written of a decision now: the `reason`, the `note`, the `user`, and what else is known."""
    when = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"ts": when, "of": of, "by_model": by_model, "decision": decision, **said}


class Reviews:
    """Appends to the file of one server, which holds it for that moment, and reads all of a folder.

    A review is `{"ts", "of", "by_model", "decision", "reason", "note", "user"}`: `of` is the id of the
    response that was looked at, `decision` what the person decided, that of the model or another.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self._folder = folder
        self.path = folder / f"{server}{SUFFIX}"

    def add(self, review: dict[str, Any]) -> None:
        """Write one, on the disk when this returns; raises `OSError`."""
        append_synced(self.path, orjson.dumps(review, option=orjson.OPT_APPEND_NEWLINE))

    def all(self) -> list[dict[str, Any]]:
        """Every review of every server, the oldest first; half a line that a crash left is passed over."""
        return reviews_in(self._folder)


def reviews_in(folder: Path) -> list[dict[str, Any]]:
    """The reviews in a folder's files, the oldest first."""
    found = [review for path in _files(folder) for review in _read(path)]
    return sorted(found, key=lambda review: str(review.get("ts", "")))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())  # of a pipe there is no end


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [review for line in lines if "of" in (review := object_or_empty(line))]


def _of(line: bytes) -> set[str]:
    name = str(object_or_empty(line).get("of", ""))
    return {name, sought(name)} - {""}


def erase_reviews(folder: Path, ids: Collection[str]) -> int:
    """Take the reviews of some responses, or rows of them, out of a folder's files; how many."""
    return sum(
        drop_lines(path, rewritten(path), lambda line: not _of(line).isdisjoint(ids))
        for path in _files(folder)
    )
