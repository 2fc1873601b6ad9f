"""Whose rows are meant: those with a field of this hash, or those answered under these ids."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from monitoring.errors import LogError
from monitoring.logs.files import log_files, masks_of, open_lines
from server.log.masked import HASH, HASH_HEX_DIGITS, hashed, read_key
from server.model.logged_rows import is_batch
from server.model.row_names import count_of, rows_called, sought

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


#: Rows that belong together: `names` are those that somebody gave for them, `may_be_in` tells whether a
#: line, or what is left of one, may hold such a row, `rows` which rows of a line are theirs, ascending.
DataSubject: TypeAlias = "Hashed | ResponseIds | OfCaller | OfContext"


class Hashed:
    """The rows with a field whose hash is this; raises `LogError` if it is none."""

    names: frozenset[str] = frozenset()

    def __init__(self, digest: str) -> None:
        if not re.fullmatch(f"[0-9a-f]{{{HASH_HEX_DIGITS}}}", digest):
            raise LogError(
                f"expected a subject of {HASH_HEX_DIGITS} hexadecimal digits, as in the log, got {digest!r}: "
                "give --value and --key-file to have it computed"
            )
        self.digest = digest

    def may_be_in(self, text: bytes) -> bool:
        """Whether the hash stands there."""
        return self.digest.encode() in text

    def rows(self, record: dict[str, Any]) -> Sequence[int]:
        """The rows with such a field."""
        fields = record["input"]["rows"] if is_batch(record) else [record["input"]]
        return [i for i, row in enumerate(fields) if self.digest in row.values()]


class ResponseIds:
    """The rows that were answered under these ids: a response's own, a row's, a request's or a trace's."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.names = frozenset(ids)
        self._texts = [orjson.dumps(sought(name))[1:-1] for name in self.names]

    def may_be_in(self, text: bytes) -> bool:
        """Whether an id stands there."""
        return any(words in text for words in self._texts)

    def rows(self, record: dict[str, Any]) -> Sequence[int]:
        """All rows of a response or a request of such an id, or those rows that have one."""
        return rows_called(record, self.names)


class OfCaller:
    """The rows that were sent with a key, or by a client with a certificate, of this name."""

    names: frozenset[str] = frozenset()

    def __init__(self, name: str) -> None:
        self._name = name
        self._text = orjson.dumps(name)

    def may_be_in(self, text: bytes) -> bool:
        """Whether the name stands there."""
        return self._text in text

    def rows(self, record: dict[str, Any]) -> Sequence[int]:
        """All rows of such a caller's request."""
        return range(count_of(record)) if record.get("caller") == self._name else ()


class OfContext:
    """The rows with a field of this value, as it was sent or as the log hashes it under a key."""

    names: frozenset[str] = frozenset()

    def __init__(self, name: str, value: str, digest: str = "") -> None:
        self._name = name
        self._values = {value, digest}
        self._field = orjson.dumps(name) + b":"
        # A number may be written in many ways.
        words = [b""] if _NUMBER.fullmatch(value) else [orjson.dumps(value)[1:-1]]
        self._texts = [*words, *filter(None, [digest.encode()])]

    def may_be_in(self, text: bytes) -> bool:
        """Whether field and value stand there, or an escape, which may be part of them."""
        return rb"\u" in text or (self._field in text and any(words in text for words in self._texts))

    def rows(self, record: dict[str, Any]) -> Sequence[int]:
        """The rows with such a field."""
        fields = record["input"]["rows"] if is_batch(record) else [record["input"]]
        return [i for i, row in enumerate(fields) if _written(row.get(self._name)) in self._values]


def _written(value: Any) -> str | None:
    """A value as it is named to a command: 7 for 7.0, true and false; None of no value."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) or value is None else orjson.dumps(value).decode()


def of_context(text: str, key_file: Path | None, paths: Sequence[Path]) -> OfContext:
    """The rows whose field has this value, `FIELD=VALUE`; hashed under a key in a file where the log does so.

    Raises `LogError` if no line has the field.
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise LogError(f"expected --context FIELD=VALUE, got {text!r}")
    files = log_files(paths)
    if any(mask.get(name) == HASH for mask in masks_of(files).values()):
        if key_file is None:
            raise LogError(f"expected --key-file, as the log hashes {name}, got none")
        return OfContext(name, value, subject_of(text, key_file).digest)
    if not any(_holds(file, b'"%b":' % name.encode()) for file in files):
        raise LogError(
            f"expected a field that the log has, got {name}, which stands in no line, or in none any more: "
            "see whether it is spelled so, or all were erased"
        )
    return OfContext(name, value)


def subject_of(text: str, key_file: Path | None, paths: Sequence[Path] = ()) -> "Hashed":
    """The hash of `FIELD=VALUE` under the key in a file: of a number, `true` or `false`, or else of text.

    With `paths` the field must be one that these logs hash. Raises `LogError`, and
    `SettingsError` if the key is none.
    """
    name, equals, value = text.partition("=")
    if not equals or key_file is None:
        raise LogError(
            f"expected --value FIELD=VALUE and --key-file, got {'no key file' if equals else name!r}"
        )
    if paths:
        _check_hashed(name, log_files(paths))
    key = read_key(key_file, Path(os.devnull))
    assert key is not None
    number = {"true": "1", "false": "0"}.get(value, value)
    return Hashed(hashed(key, name, float(number) if _NUMBER.fullmatch(number) else value))


def _check_hashed(name: str, files: Sequence[Path]) -> None:
    """Refuse a field that no line can have the hash of: a misspelt name would find nobody."""
    rules = list(masks_of(files).values())
    masked = {field: rule for mask in rules for field, rule in mask.items()}
    if any(mask.get(name) == HASH for mask in rules):
        return
    if not rules and any(_holds(file, b'"%b":' % name.encode()) for file in files):
        return  # these lines lie without their journal
    is_hashed = ", ".join(sorted(field for field, rule in masked.items() if rule == HASH)) or "none"
    raise LogError(f"expected a field that the log hashes ({is_hashed}), got {name}")


def _holds(file: Path, words: bytes) -> bool:
    with open_lines(file) as lines:
        return any(words in line for line in lines)
