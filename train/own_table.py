"""A table of one's own -> rows to learn from: which column is what, by its values over the whole file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from export.errors import ExportRefused
from export.evaluation.target import two_values
from export.reading.describe import apply_schema
from export.reading.observe import Data, infer, read_data
from export.reading.table import DataTable, read_table
from server.errors import listed
from server.model.schema import Feature, Schema
from server.model.wrong_value import MISSING
from server.tables.cells import number
from train.errors import DataError
from train.tables.rows import Group, Inputs, Rows

#: More words than this are names or free text to a model of trees.
MAX_CATEGORIES = 100
#: A column most of whose values are numbers is one of numbers, and the others are mistakes.
_NUMBERS_SHARE = 0.5
#: Numbers are grouped by their quartiles.
_QUARTILES = (0.0, 0.25, 0.5, 0.75)
#: A date as programs and people write it, with a time or without: 2026-11-26, 26.11.2026, 11/26/26.
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}(?!\d)|\d{1,2}([./])\d{1,2}\1(\d{4}|\d{2})(?!\d)")


@dataclass(frozen=True)
class Asked:
    """What is asked of a table: columns by their names, `positive` a value of the target.

    `document` is the description whose features are in `schema`.
    """

    path: Path
    target: str
    positive: str | None = None
    key: str | None = None
    drop: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    schema: Path | None = None
    decisions: tuple[str, ...] = ("negative", "positive")
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnTable:
    """The rows of a file, its digest, the value whose probability is learned, and what was left out."""

    rows: Rows
    sha256: str
    positive: str
    notes: tuple[str, ...]


def load_table(asked: Asked) -> OwnTable:
    """Rows, features and target of a file.

    Raises `DataError` or `ExportRefused` in one sentence for a table that cannot be
    learned from as it is; nothing is guessed of a target of two words that mean
    nothing to us, of dates, and of columns that look like names.
    """
    table = _without_blank_rows(read_table(asked.path, lambda _: True))
    for name in (asked.target, asked.key, *asked.drop, *asked.groups):
        _check_column(name, table)
    _check_key(asked, table)
    target, positive, left_out = two_values(table.columns[asked.target], asked.path, asked.positive)
    kept = replace(table, columns=table.columns.filter(pl.Series(~np.isnan(target))))
    features, dropped = _features(asked, kept)
    data = read_data(features, replace(kept, columns=kept.columns.select([f.name for f in features])))
    features = infer(features, data, takes_missing=True)
    if asked.schema:
        features = apply_schema(features, asked.schema)
    schema = Schema(features)
    if faults := data.faults(schema):
        raise DataError(
            f"{faults[0]}, in {asked.path}" + (f", and {len(faults) - 1} more" * (len(faults) > 1))
        )
    _check_monotone(schema)
    matrix = data.matrix
    inputs = Inputs(
        schema,
        monotone={f.name: 1 if f.monotone == "up" else -1 for f in schema.features if f.monotone},
        missing={f.name: f.missing for f in schema.features if f.missing},
        unordered=tuple(feature.name for feature in schema.features if feature.kind == "category"),
        groups=tuple(_group(name, features, data) for name in asked.groups),
    )
    labels = target[~np.isnan(target)]
    rows = Rows(matrix, labels, np.ones(len(labels), dtype=np.bool_), inputs)
    notes = [*table.notes, *([f"{left_out:,} rows without {asked.target} left out"] if left_out else [])]
    notes += [f"column {name} left out: {why}" for name, why in dropped.items()]
    return OwnTable(rows, sha256(asked.path.read_bytes()).hexdigest(), positive, tuple(notes))


def _without_blank_rows(table: DataTable) -> DataTable:
    present = table.columns.filter(~pl.all_horizontal(pl.all().is_null()))
    if present.is_empty():
        raise DataError(f"expected rows in {table.path}, got none")
    return replace(table, columns=present)


def _check_column(name: str | None, table: DataTable) -> None:
    columns = table.columns.columns
    if name is not None and name not in columns:
        folded = {column.casefold(): column for column in columns}
        near = get_close_matches(name.casefold(), folded, 1, 0.5)
        what = f"the nearest is {folded[near[0]]!r}" if near else f"it has {listed(columns)}"
        raise DataError(f"expected a column {name} in {table.path}, got none: {what}")


def _check_key(asked: Asked, table: DataTable) -> None:
    if asked.key is None:
        return
    key = table.columns[asked.key]
    if len(repeated := key.filter(key.is_duplicated())):
        raise DataError(
            f"expected every {asked.key} once in {asked.path}, got {repeated[0]} "
            f"{(key == repeated[0]).sum()} times: rows of one {asked.key} on both sides of a split would "
            "flatter the model; keep one of each, or leave --id out if they are independent"
        )


def _features(asked: Asked, table: DataTable) -> tuple[list[Feature], dict[str, str]]:
    """A feature for each column that is learned from, and why others are not."""
    features, dropped = [], {}
    for column in table.columns.get_columns():
        if column.name in (asked.target, asked.key, *asked.drop):
            continue
        if not column.name:
            dropped["without a name"] = _why_without_a_name(column, asked)
            continue
        if column.drop_nulls().n_unique() < 2:
            dropped[column.name] = "it has one value" if column.drop_nulls().n_unique() else "it is empty"
            continue
        features.append(_feature(asked, column, table))
    if not features:
        raise DataError(f"expected a column to learn from in {asked.path}, got none beside {asked.target}")
    if asked.schema:
        features = apply_schema(features, asked.schema)
    return features, dropped


def _feature(asked: Asked, column: pl.Series, table: DataTable) -> Feature:
    if column.dtype.is_temporal() or column.dtype.is_nested() or column.dtype == pl.Binary:
        raise _no_words(asked, column, str(column.dtype))
    feature = Feature(column.name)
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return feature
    words = column.cast(pl.String).str.strip_chars()
    present = words.filter(~words.is_in(list(MISSING)).fill_null(True))
    if _share_of_numbers(present, table) > _NUMBERS_SHARE:
        return feature
    different = sorted(present.unique().to_list())
    if all(map(_DATE.match, different)):
        raise _no_words(asked, column, f"dates ({different[0]!r})")
    if len(different) > MAX_CATEGORIES:
        raise DataError(
            f"expected at most {MAX_CATEGORIES} different words in the column {column.name} of {asked.path}, "
            f"got {len(different):,} ({', '.join(map(repr, different[:3]))}…): join rare ones, or leave it "
            f"out with --drop {column.name}"
        )
    return replace(feature, kind="category", categories=tuple(different))


def _why_without_a_name(column: pl.Series, asked: Asked) -> str:
    """Why it is left out; raises `DataError` if it is no index of rows, of different whole numbers."""
    values = column.drop_nulls().cast(pl.String)
    if not len(values):
        return "it is empty"
    if not (values.is_unique().all() and values.str.contains(r"^\d+$").all()):
        raise DataError(
            f"expected a name for each column of {asked.path}, got a column without one that holds "
            f"{values[0]!r}: name it in the file's header"
        )
    return "it holds the numbers of the rows, as pandas writes them"


def _no_words(asked: Asked, column: pl.Series, got: str) -> DataError:
    return DataError(
        f"expected numbers or words in the column {column.name} of {asked.path}, got {got}: "
        f"make numbers of it (years since, months between), or leave it out with --drop {column.name}"
    )


def _share_of_numbers(words: pl.Series, table: DataTable) -> float:
    truth = words.str.to_lowercase().is_in(["true", "false"])
    numbers = {word: not isinstance(number(word, table.rules), str) for word in words.unique().to_list()}
    are_numbers = words.replace_strict(numbers, default=False, return_dtype=pl.Boolean) | truth
    return int(are_numbers.sum()) / max(1, len(words))


def _check_monotone(schema: Schema) -> None:
    """Raise `DataError` for a category that the answer is to follow: it has no order for the trees."""
    for feature in schema.features:
        if feature.monotone and feature.kind == "category":
            raise DataError(
                f"expected monotone of numbers, got {feature.name}, a category: leave monotone out, or make "
                "numbers of it"
            )
        if feature.missing and not feature.monotone:
            raise DataError(
                f"expected monotone of a feature whose missing values give the {feature.missing} output, got "
                f"none of {feature.name}: say which way the output follows it, or leave missing out"
            )


def _group(name: str, features: Sequence[Feature], data: Data) -> Group:
    index = next((i for i, feature in enumerate(features) if feature.name == name), None)
    if index is None:
        raise ExportRefused(f"expected --groups to name columns that are learned from, got {name}")
    feature, values = features[index], data.columns[index].values
    if feature.kind == "category" or set(np.unique(values[~np.isnan(values)]).tolist()) <= {0.0, 1.0}:
        return Group(name, feature.name)
    bands = np.unique(np.round(np.nanquantile(values, _QUARTILES), 6))
    return Group(name, feature.name, tuple(bands.tolist()))
