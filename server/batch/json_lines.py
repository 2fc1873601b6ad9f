"""A block of JSON Lines: each line decoded as `/predict` decodes its body, and kept as it is."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from server.errors import BadValue, BatchRefused, Problem, listed
from server.model.decoder import row_decoder
from server.model.schema import Matrix, Schema
from server.tables.columns import FeatureNames

#: Whether a text is an object, without building it.
_object = msgspec.json.Decoder(msgspec.defstruct("AnyObject", [], gc=False))
#: What a decoder of objects says of other texts.
_NO_OBJECT = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NO_FEATURE = "expected members of the model, got an object without any"
_ROWS = "write an object a row, in lines or in one array (pandas: orient='records')"


class LinesTable(NamedTuple):
    """The objects of a block: their texts and lines, float64 [n, F], which are bad, and why."""

    texts: list[bytes]
    lines: list[int]
    rows: Matrix
    bad: npt.NDArray[np.bool_]
    details: list[BadValue]


class LinesReader:
    """Reads blocks of lines for one model; for any thread."""

    def __init__(self, schema: Schema, added: Collection[str], *, allow_missing: bool) -> None:
        self._schema, self._added, self._allow_missing = schema, frozenset(added), allow_missing
        self._decode = row_decoder(schema, others=True)
        self._members = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._known = frozenset(schema.names)
        self._names = FeatureNames(schema)
        self._missing = np.full(len(schema), np.nan).tobytes()

    def read(self, content: bytes, first: int) -> LinesTable:
        """The objects of a block whose first line is `first`; blank lines are none.

        Raises `BatchRefused` at a member that is a feature's but for its writing, or an added one's.
        """
        texts, lines, rows = [], [], []
        details: list[BadValue] = []
        seen: set[frozenset[str]] = set()
        for line, text in enumerate(content.split(b"\n"), start=first):
            text = text.strip()
            if not text:
                continue
            texts.append(text)
            lines.append(line)
            try:
                rows.append(self._row(text, line, seen))
            except Problem as refusal:
                rows.append(self._missing)
                details += _details(len(texts) - 1, refusal)
        matrix = np.frombuffer(b"".join(rows)).reshape(-1, len(self._schema))
        bad = np.zeros(len(texts), dtype=np.bool_)
        bad[[value.row for value in details]] = True
        return LinesTable(texts, lines, matrix, bad, details)

    def _row(self, text: bytes, line: int, seen: set[frozenset[str]]) -> bytes:
        try:
            row = self._decode(text)
        except Problem as refusal:
            raise self._another_document(text) or refusal from None
        names = frozenset(self._members.decode(text))
        if names not in seen:  # most rows have the members of another one
            self._check(names, line)
            seen.add(names)
        if not self._allow_missing and names.isdisjoint(self._known):
            raise self._another_document(text) or Problem(_NO_FEATURE)
        return row

    def _another_document(self, text: bytes) -> Problem | None:
        """What to say of an object that is no row, but holds a table: its fields would mislead."""
        try:
            members = self._members.decode(text)
        except _NO_OBJECT:
            return None
        nested = [name for name, value in members.items() if bytes(value)[:1] in (b"{", b"[")]
        known = self._known.intersection(members)
        if not nested or not known.issubset(nested):
            return None
        return Problem(f"expected a row, got an object with tables or lists in {listed(nested)}: {_ROWS}")

    def _check(self, names: frozenset[str], line: int) -> None:
        clash = names & self._added
        if clash:
            raise BatchRefused(
                f"expected no member {min(clash)} in line {line}, which is added: say another --prefix"
            )
        for name in names - self._known:
            feature = self._names(name)
            if feature is not None and feature not in names:
                raise BatchRefused(f"expected the member {feature} in line {line}, got {name}: rename it")


def _details(row: int, refusal: Problem) -> list[BadValue]:
    named = [BadValue(row, error.pointer.removeprefix("/"), error.detail) for error in refusal.errors]
    return named or [BadValue(row, "", refusal.detail)]


def extended(text: bytes, more: bytes, bad: bool) -> bytes:
    """A line's object with more members; what is no object, as a `bad` line may be, stands under `line`."""
    if bad and not _is_object(text):
        return b'{"line":%b,%b\n' % (orjson.dumps(text.decode("utf-8", "replace")), more[1:])
    members = text[:-1].rstrip()
    return b"%b%b%b\n" % (members, b"" if members == b"{" else b",", more[1:])


def _is_object(text: bytes) -> bool:
    try:
        _object.decode(text)
    except _NO_OBJECT:
        return False
    return True


def members_table(
    texts: Sequence[bytes], lines: Sequence[int], kinds: Mapping[str, str], header: Sequence[str]
) -> pl.DataFrame:
    """Objects as columns: numbers of features as numbers, all else as the text it is written as."""
    columns: dict[str, list[Any]] = {name: [] for name in header}
    for text, line in zip(texts, lines, strict=True):
        fields = _fields(text)
        unknown = next((name for name in fields if name not in columns), None)
        if unknown is not None:
            raise BatchRefused(
                f"expected the members of the first rows in every row, got {unknown!r} too in line {line}: "
                "name an output that ends in .jsonl, where rows may differ"
            )
        for name, values in columns.items():
            values.append(_cell(fields.get(name), kinds.get(name, "category")))
    types = {name: pl.String if kinds.get(name, "category") == "category" else pl.Float64 for name in header}
    return pl.DataFrame(columns, schema=types)


def _fields(text: bytes) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except _NO_OBJECT:
        return {}


def _cell(raw: msgspec.Raw | None, kind: str) -> Any:
    """The value of a member: the digits of a number that is no feature's stay as they are."""
    if raw is None or (text := bytes(raw)) == b"null":
        return None
    if kind == "category":
        return msgspec.json.decode(text) if text.startswith(b'"') else text.decode()
    value = msgspec.json.decode(text)
    return float(value) if type(value) in (int, float, bool) else None
