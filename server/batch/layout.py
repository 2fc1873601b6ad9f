"""How a file of rows is laid out: its kind, its columns, and what they are taken for."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from server.batch.formats import CSV, EXCEL, LINES, TEXTS, FileFormat, TextFile, pieces
from server.batch.tables import table_schema
from server.errors import BatchRefused, TableRefused, listed
from server.model.bundle import Bundle
from server.model.json_text import object_or_empty
from server.model.reference import read_reference
from server.tables.columns import FeatureNames, output_columns, prefix_for, refuse_absent
from server.tables.csv_dialect import SAMPLE_BYTES, Dialect, Head, Options, read_head
from server.tables.encodings import UTF8, encoding_of
from server.tables.unique_names import unique_names

#: Objects of a JSON Lines file by which the columns of a table are known.
_FIRST_LINES = 1000


class Reading(NamedTuple):
    """What the user said about a file; `renames` are pairs of a name of the file and a feature.

    At most so many `reasons` are given of a row, none if 0.
    """

    options: Options = Options()
    renames: tuple[tuple[str, str], ...] = ()
    allow_missing: bool = False
    prefix: str | None = None
    reasons: int = 0


class FileLayout(NamedTuple):
    """What a process must know to read any part of a file.

    `names` are the columns as the file has them (of JSON Lines the members of its first
    objects), `positions` pairs of a feature and the position of its column. Of a text, `begin`
    is where its first record begins, in bytes of its UTF-8 form, on line `first_line`. `prefix`
    stands before the names of added columns; `notes` say how the file is read.
    """

    kind: str
    names: tuple[str, ...]
    positions: tuple[tuple[str, int], ...]
    dialect: Dialect = Dialect()
    encoding: str = UTF8
    begin: int = 0
    first_line: int = 1
    prefix: str = ""
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names, each once."""
        return unique_names(self.names)


def layout_of(path: Path, format_: FileFormat, bundle: Bundle, reading: Reading, where: str) -> FileLayout:
    """The layout of a file; raises `BatchRefused` if its columns are not those of the model."""
    if format_.kind != CSV:
        _refuse_unread(reading.options, format_.kind, where)
    try:
        if format_.kind == LINES:
            return _lines_layout(path, format_, bundle, reading, where)
        return _table_layout(path, format_, bundle, reading, where)
    except TableRefused as error:
        raise BatchRefused(f"{error}{error.option}") from None


def _refuse_unread(options: Options, kind: str, where: str) -> None:
    """What is said of a CSV file's cells, of a file whose values have types: nothing would read it."""
    said = {
        "--separator": options.separator,
        "--decimal": options.decimal,
        "--missing": options.missing,
        "--quotes": "none" if not options.quotes else options.escaped or None,
        "--encoding": options.encoding if kind != LINES else None,
        "--columns": options.columns or None if kind != LINES else None,
    }
    unread = [option for option, value in said.items() if value is not None]
    if unread:
        raise BatchRefused(
            f"expected {listed(unread)} for a CSV file, got {where}, whose values have types: leave it out, "
            f"write what is missing as null, or write the file as CSV"
        )


def _table_layout(
    path: Path, format_: FileFormat, bundle: Bundle, reading: Reading, where: str
) -> FileLayout:
    if format_.kind == EXCEL:
        where = f"the first sheet of {where}"
    names_of = FeatureNames(bundle.schema, dict(reading.renames))
    head, encoding = Head(Dialect(), (), 0, 1), UTF8
    if format_.kind == CSV:
        encoding = reading.options.encoding or encoding_of(pieces(path, format_.compression), where)
        head = _csv_head(path, format_, encoding, names_of, reading.options, where)
    names = head.names or tuple(table_schema(path, format_.kind))
    columns = names_of.match(names, where)
    gaps = bundle.schema.names if reading.allow_missing else _gaps(bundle)
    refuse_absent(columns, names, bundle.schema, gaps, where)
    added = output_columns(bundle, reading.reasons)
    prefix = prefix_for(added, names, reading.prefix)
    notes = [*([f"read as {encoding}"] if encoding != UTF8 else []), *head.dialect.notes]
    notes += _renamed_notes([pair for pair in columns.renamed if pair not in reading.renames])
    notes += [f"no column for {listed(columns.absent)}: missing in every row"] if columns.absent else []
    notes += [f"answers in {', '.join(prefix + name for name in added)}"] if prefix else []
    return FileLayout(
        kind=format_.kind,
        names=names,
        positions=tuple(columns.positions.items()),
        dialect=head.dialect,
        encoding=encoding,
        begin=head.begin,
        first_line=head.first_line,
        prefix=prefix,
        notes=tuple(notes),
    )


def _renamed_notes(renamed: Sequence[tuple[str, str]]) -> list[str]:
    """Which columns were taken for features by their labels or in spite of their case: the first of them."""
    notes = [f"{theirs!r} taken for {ours}" for theirs, ours in renamed[:3]]
    return [*notes, f"{len(renamed) - 3} more so"] if len(renamed) > 3 else notes


def _csv_head(
    path: Path, format_: FileFormat, encoding: str, names_of: FeatureNames, options: Options, where: str
) -> Head:
    with TextFile(path, format_.compression, encoding, escaped=options.escaped) as file:
        beginning = b""
        while len(beginning) < SAMPLE_BYTES and (piece := file.read(SAMPLE_BYTES)):
            beginning += piece
    if format_.separator and not options.separator:
        options = replace(options, separator=format_.separator)
    return read_head(beginning, lambda name: names_of(name) is not None, options, where)


def _gaps(bundle: Bundle) -> Collection[str]:
    """The features that were missing now and then in training, as far as the bundle tells."""
    reference = read_reference(bundle)
    if reference is None:
        return ()
    return [name for name, values in reference.features.items() if values.missing_rate > 0]


def _lines_layout(
    path: Path, format_: FileFormat, bundle: Bundle, reading: Reading, where: str
) -> FileLayout:
    encoding = reading.options.encoding or encoding_of(pieces(path, format_.compression), where)
    if reading.renames or reading.options.columns:
        raise BatchRefused(
            f"expected --columns for a table, got it for {where}: rename the members themselves"
        )
    names = first_members(path, format_, encoding)
    added = output_columns(bundle, reading.reasons)
    prefix = prefix_for(added, names, reading.prefix)
    notes = [*([f"read as {encoding}"] if encoding != UTF8 else [])]
    notes += [f"answers in {', '.join(prefix + name for name in added)}"] if prefix else []
    positions = tuple((name, i) for i, name in enumerate(names) if name in bundle.schema.names)
    return FileLayout(LINES, names, positions, Dialect(), encoding, 0, 1, prefix, tuple(notes))


def first_members(path: Path, format_: FileFormat, encoding: str = UTF8) -> tuple[str, ...]:
    """The names of the members of a JSON Lines file's first objects, in the order they come."""
    names: dict[str, None] = {}
    with TextFile(path, format_.compression, encoding) as file:
        beginning = file.read(SAMPLE_BYTES * 4).removeprefix(b"\xef\xbb\xbf")
    for text in beginning.split(b"\n")[:_FIRST_LINES]:
        names |= dict.fromkeys(object_or_empty(text))
    return tuple(names)


def check_writable(path: Path, kind: str, target: str) -> None:
    """Refuse columns that the format asked for cannot hold; raises `BatchRefused`."""
    if kind in TEXTS:
        return
    unwritable = [name for name, dtype in table_schema(path, kind).items() if not _fits(dtype, target)]
    if unwritable:
        raise BatchRefused(
            f"expected columns that a {target} file can hold, got {listed(unwritable)}: "
            "write to .parquet, or leave them out"
        )


def _fits(dtype: Any, target: str) -> bool:
    if target in (CSV, EXCEL):
        return not (dtype.is_nested() or dtype in (pl.Binary, pl.Object) or dtype == pl.Duration)
    if target != LINES:
        return True
    inner = [field.dtype for field in dtype.fields] if dtype == pl.Struct else []
    inner += [dtype.inner] if dtype in (pl.List, pl.Array) else []
    return dtype not in (pl.Binary, pl.Object) and all(_fits(one, target) for one in inner)
