"""Outcomes that were told: a file as people and programs have it, or what was kept beside a log."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import orjson
import polars as pl

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.logs.files import log_files
from server.batch.formats import COMPRESSIONS, CSV, FileFormat, pieces
from server.batch.whole_file import CsvFile, read_csv_file
from server.errors import BatchRefused, FieldError, TableRefused
from server.model.bundle import Bundle
from server.outcomes.moments import EXPECTED, UnreadableMoment, read_moments
from server.outcomes.record import AT, KEYS, OUTCOME, WHOLE, key_column, known_name, read_record
from server.outcomes.store import outcome_files
from server.outcomes.values import Value, value_reader
from server.tables.cells import CellRules

_WANTED = f"KEY,{OUTCOME} or KEY,{OUTCOME},{AT}"
_BLANKS = b"\xef\xbb\xbf \t\r\n"
_KEPT_COLUMNS = {"ts": "TIMESTAMP", **dict.fromkeys(KEYS, "VARCHAR"), OUTCOME: "JSON", AT: "TIMESTAMP"}
_TIME = pl.Datetime("us")
_SCHEMA: dict[str, Any] = {"kind": pl.String, "key": pl.String, "value": pl.Float64, "came": _TIME}


@dataclass(frozen=True)
class Told:
    """Outcomes by keys of some `kinds` (`KEYS`, or of a file a field of the rows), from `where`.

    Of a file they are a `table` of kind, key, value and came; a value is 0 or 1, a number, or the place
    of a class, null while it is not known. Of what is kept beside a log they are `kept` files.
    """

    where: str
    kinds: tuple[str, ...]
    table: pl.DataFrame | None = None
    kept: tuple[Path, ...] = ()


def told_outcomes(file: Path | None, paths: Sequence[Path], bundle: Bundle) -> Told | None:
    """The outcomes of a file, without one those that are kept beside a log; None if there are none."""
    if file is not None:
        return read_outcomes(file, bundle)
    return kept_outcomes(log.parent for log in log_files(paths))


def folder_of(path: Path) -> Path:
    """The folder that outcomes of a log, a file or a folder of files, lie in."""
    return path if path.is_dir() else path.parent


def kept_outcomes(folders: Iterable[Path]) -> Told | None:
    """The outcomes that are kept in some folders; None if there are none."""
    kept = outcome_files(folders)
    kinds = kinds_in(kept)
    where = ", ".join(map(str, dict.fromkeys(one.parent for one in kept)))
    return Told(f"the outcomes in {where}", kinds, None, tuple(kept)) if kinds else None


def kinds_in(kept: Sequence[Path]) -> tuple[str, ...]:
    """By which keys the outcomes in some files are told."""
    if not kept:
        return ()
    connection = duckdb.connect()
    try:
        counts = ", ".join(f"count({kind})" for kind in KEYS)
        found = connection.execute(f"select {counts} from {kept_lines(kept)}").fetchone() or ()
    finally:
        connection.close()
    return tuple(kind for kind, count in zip(KEYS, found, strict=True) if count)


def kept_lines(files: Iterable[Path]) -> str:
    """The lines of kept files as DuckDB reads them."""
    names = ", ".join(literal(str(file)) for file in files)
    types = ", ".join(f"'{name}': '{kind}'" for name, kind in _KEPT_COLUMNS.items())
    return f"read_json([{names}], format='newline_delimited', columns={{{types}}}, ignore_errors=true)"


def read_outcomes(path: Path, bundle: Bundle) -> Told:
    """The outcomes of a file of CSV, NDJSON or JSON, compressed or not; raises `LogError`."""
    compression = path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""
    try:
        begin = b"".join(islice(pieces(path, compression), 1)).lstrip(_BLANKS)
        if begin.startswith((b"{", b"[")):
            return _of_objects(path, b"".join(pieces(path, compression)).lstrip(_BLANKS), bundle)
        file = read_csv_file(path, (OUTCOME, AT, *KEYS).__contains__, FileFormat(CSV, "", compression))
    except OSError as error:
        raise LogError(f"expected a readable file at {path}, got: {error.strerror or error}") from None
    except (BatchRefused, TableRefused) as error:
        raise LogError(f"{str(error).removesuffix('.')}: its columns are {_WANTED}") from None
    return _of_table(path, file, bundle)


def _of_table(path: Path, file: CsvFile, bundle: Bundle) -> Told:
    """Outcomes as CSV has them: a key, an outcome and perhaps its time in each record."""
    key, columns = _columns_of(path, file)
    keys = pl.col(columns[key]).str.strip_chars().str.replace(WHOLE, "$1").alias("key")
    moments = pl.lit(None, _TIME) if AT not in columns else _came(file.table[columns[AT]], path)
    words = file.table[columns[OUTCOME]].str.strip_chars()
    table = file.table.select(pl.lit(key).alias("kind"), keys)
    values = _values(path, words, table["key"], file.rules, bundle)
    table = table.with_columns(values.alias("value"), moments.alias("came"))
    return Told(str(path), (key,), table.filter(pl.col("key").is_not_null()))


def _columns_of(path: Path, file: CsvFile) -> tuple[str, Mapping[str, str]]:
    """Which key outcomes are told by, and the columns by the names that we know; raises `LogError`."""
    columns = {known_name(name): name for name in file.table.columns}
    key = key_column(list(columns)) if len(columns) == len(file.table.columns) else ""
    if not key:
        raise LogError(
            f"expected the columns {_WANTED} in {path}, KEY being {', '.join(KEYS)} "
            f"or a field of the model, got {','.join(file.table.columns)}"
        )
    if file.ragged:
        raise LogError(
            f"expected {len(columns)} cells in each record of {path}, got others in line {file.ragged[0]}"
        )
    return key, columns


def _values(path: Path, words: pl.Series, keys: pl.Series, rules: CellRules, bundle: Bundle) -> pl.Series:
    """The outcomes of a column as numbers; raises `LogError` for the first that is none or has no key."""
    read = value_reader(bundle, rules)
    known: dict[str, float | None] = {}
    refused: dict[str, ValueError] = {}
    for word in words.drop_nulls().unique().to_list():
        try:
            known[word] = number_of_value(read(word), bundle)
        except ValueError as error:
            refused[word] = error
    wrong = words.is_in(list(refused)) | (keys.is_null() & words.is_not_null())
    row = wrong.fill_null(value=False).arg_max() if wrong.any() else None
    if row is not None:
        word = words[row]
        raise LogError(
            f"expected a key and {refused.get(word) or value_words(bundle)} as its outcome in {path}, got "
            f"{word!r} in row {row + 1:,}: leave a row out, or its outcome empty, while it is not known"
        )
    return words.replace_strict(known, default=None, return_dtype=pl.Float64)


def value_words(bundle: Bundle) -> str:
    """What an outcome of a bundle is, in words."""
    return {"binary": "0 or 1 (or yes, no)", "multiclass": "a class of the model"}.get(
        bundle.task, "a number"
    )


def number_of_value(value: Value, bundle: Bundle) -> float | None:
    """What a value is in the table: of a class its place."""
    if isinstance(value, str):
        return float(bundle.classes.index(value))
    return None if value is None else float(value)


def _came(texts: pl.Series, path: Path) -> pl.Series:
    """The times of a column; raises `LogError` for the first that is none."""
    each = texts.drop_nulls().unique(maintain_order=True)
    try:
        moments = read_moments(each.to_list())
    except UnreadableMoment as error:
        raise _no_moment(error, each.to_list(), texts.to_list(), path) from None
    return texts.replace_strict(each, pl.Series(moments, dtype=_TIME), default=None)


def _no_moment(error: UnreadableMoment, told: Sequence[Any], texts: Sequence[Any], path: Path) -> LogError:
    text = told[error.row]
    row = texts.index(text) + 1
    if error.why:
        return LogError(
            f"expected times that can be read in one way as {AT} in {path}, got {text!r} in row {row:,}, of "
            f"which {error.why}"
        )
    return LogError(f"expected {EXPECTED} as {AT} in {path}, got {text!r} in row {row:,}")


def _of_objects(path: Path, text: bytes, bundle: Bundle) -> Told:
    """Outcomes as JSON has them: an array of objects, or one a line."""
    read = value_reader(bundle)
    try:
        found = orjson.loads(text) if text.startswith(b"[") else _lines(text, path)
    except orjson.JSONDecodeError as error:
        raise LogError(f"expected JSON in {path}, got: {error}") from None
    records = []
    for row, members in enumerate(found, 1):
        try:
            if not isinstance(members, dict):
                raise FieldError("", "expected an object")
            records.append(read_record(members, read))
        except FieldError as error:
            place = f"{error.pointer} of " if error.pointer else ""
            raise LogError(f"{error.detail}, in {place}row {row:,} of {path}") from None
    texts = [record.at for record in records]
    try:
        came: list[datetime | None] = read_moments(texts)
    except UnreadableMoment as error:
        raise _no_moment(error, texts, texts, path) from None
    rows = (
        (record.kind, record.key, number_of_value(record.value, bundle), at)
        for record, at in zip(records, came, strict=True)
    )
    table = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
    return Told(str(path), tuple(table["kind"].unique().sort()), table)


def _lines(text: bytes, path: Path) -> Any:
    try:
        return [orjson.loads(text)]  # one object, however it is laid out
    except orjson.JSONDecodeError:
        pass
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if line.strip():
                found.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise LogError(f"expected JSON in line {number:,} of {path}, got: {error}") from None
    return found
